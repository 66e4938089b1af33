"""What a user of `encode` and `decode` relies on: sizes in and out, clips, statistics, refusals by name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fastvid_vae import REDUCIO_FT4, CheckpointError, ReducioConfig, ReducioVAE
from fastvid_vae.reducio import fusion
from torch import Tensor

Video = Callable[..., Tensor]


@pytest.mark.parametrize(("frames", "dtype"), [(17, torch.bfloat16), (31, torch.float32), (100, torch.float32)])
def test_any_number_of_frames_and_size_comes_back(frames: int, dtype: torch.dtype) -> None:
    """At full width, on the meta device: shapes and data types without the arithmetic."""
    with torch.device("meta"):
        model = ReducioVAE(replace(REDUCIO_FT4, num_blocks=1)).to(dtype)
    clip, num_clips = torch.empty(1, 3, frames, 200, 360, device="meta", dtype=dtype), -(-frames // 16)
    with model.tiled(spatial=None):
        latents = model.encode(clip)
        decoded = model.decode(latents, reference=model.content_frames(clip), num_frames=frames, size=(200, 360))
    assert latents.shape == (1, 16, 4 * num_clips, 7, 12)
    assert latents.shape[2] == model.num_latent_frames(frames)
    assert (decoded.shape, decoded.dtype, latents.dtype) == (clip.shape, dtype, dtype)


@pytest.mark.parametrize(("frames", "height", "width"), [(17, 20, 36), (31, 9, 7), (1, 1, 1)])
@torch.no_grad()
def test_and_with_the_arithmetic(
    frames: int, height: int, width: int, build: Callable[..., ReducioVAE], video: Video
) -> None:
    model, clip = build(), video(1, 3, frames, height, width)
    latents = model.encode(clip)
    decoded = model.decode(latents, reference=model.content_frames(clip), num_frames=frames, size=(height, width))
    assert decoded.shape == clip.shape
    assert bool(decoded.isfinite().all())


@torch.no_grad()
def test_padding_repeats_the_last_frame_and_the_border(
    build: Callable[..., ReducioVAE], video: Video, caplog: pytest.LogCaptureFixture
) -> None:
    model, frames = build(), video(1, 3, 6, 13, 17)
    padded = torch.cat([frames, frames[:, :, -1:].expand(-1, -1, 2, -1, -1)], dim=2)
    padded = torch.cat([padded, padded[..., -1:, :].expand(-1, -1, -1, 3, -1)], dim=3)
    padded = torch.cat([padded, padded[..., -1:].expand(-1, -1, -1, -1, 7)], dim=4)
    with caplog.at_level("INFO"):
        latents = model.encode(frames)
    assert "padding (6, 13, 17) by (2, 3, 7)" in caplog.text
    assert torch.equal(latents, model.encode(padded, pad=False))
    cropped = model.decode(latents, reference=frames[:, :, 3], num_frames=6, size=(13, 17))
    full = model.decode(latents, reference=padded[:, :, 3])
    assert torch.equal(cropped, full[:, :, :6, :13, :17])


@torch.no_grad()
def test_content_frames_are_the_middle_ones(build: Callable[..., ReducioVAE], video: Video) -> None:
    model, frames = build(), video(1, 3, 17, 8, 8)
    picked = model.content_frames(frames)  # clips of 8 frames: 0..7, 8..15, and 16 alone, repeated
    assert torch.equal(picked, frames[:, :, [3, 11, 16]])
    assert torch.equal(model.content_frames(frames[:, :, :2]), frames[:, :, 1:2])
    with model.tiled(spatial=None, temporal=None):
        assert torch.equal(model.content_frames(frames), frames[:, :, [9]])  # of 20 frames
    with model.tiled(spatial=None, temporal=12):
        assert torch.equal(model.content_frames(frames), frames[:, :, [5, 16]])


@torch.no_grad()
def test_clips_know_nothing_of_one_another(build: Callable[..., ReducioVAE], video: Video) -> None:
    model, frames = build(), video(1, 3, 24, 16, 16)
    latents, reference = model.encode(frames), model.content_frames(frames)
    decoded = model.decode(latents, reference=reference)
    for i in range(3):
        clip, cells = frames[:, :, 8 * i : 8 * i + 8], latents[:, :, 2 * i : 2 * i + 2]
        assert torch.allclose(model.encode(clip), cells, atol=1e-5)
        alone = model.decode(cells, reference=reference[:, :, i])
        assert torch.allclose(alone, decoded[:, :, 8 * i : 8 * i + 8], atol=1e-5)


@torch.no_grad()
def test_latents_of_every_clip_are_normalised_as_one(build: Callable[..., ReducioVAE], video: Video) -> None:
    latents = build(scale=0.5).encode(video(2, 3, 16, 32, 32))
    for clip in latents.split(2, dim=2):
        assert torch.allclose(clip.mean(dim=(1, 2, 3, 4)), torch.zeros(2), atol=1e-5)
        assert torch.allclose(clip.var(dim=(1, 2, 3, 4), correction=0), torch.ones(2), atol=1e-2)
    assert not torch.allclose(latents.mean(dim=(2, 3, 4)), torch.zeros(2, 4), atol=1e-2)  # not each channel


@torch.no_grad()
def test_sampling(build: Callable[..., ReducioVAE], video: Video) -> None:
    model, frames = build(), video(1, 3, 8, 16, 16)
    first, again, other = (model.encode(frames, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.1)
    posterior = model.posterior(frames)
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(0))
    raw = posterior.mean + posterior.logvar.mul(0.5).exp() * noise
    assert torch.allclose(first, torch.nn.functional.layer_norm(raw, raw.shape[1:]), atol=1e-5)
    with pytest.raises(ValueError, match=r"`generator` is 3; expected a torch\.Generator"):
        model.encode(frames, generator=3)  # type: ignore[arg-type]


def test_divergence_of_the_posterior(build: Callable[..., ReducioVAE], video: Video) -> None:
    posterior = build().posterior(video(2, 3, 8, 16, 16))
    ours = torch.distributions.Normal(posterior.mean, posterior.logvar.mul(0.5).exp())
    expected = torch.distributions.kl_divergence(ours, torch.distributions.Normal(0.0, 1.0)).sum(dim=(1, 2, 3, 4))
    assert torch.allclose(posterior.kl(), expected, rtol=1e-4)


@torch.no_grad()
def test_clips_of_another_length_rebuild_the_tables(build: Callable[..., ReducioVAE], video: Video) -> None:
    model, frames = build(), video(1, 3, 12, 16, 16)
    with model.tiled(spatial=None, temporal=12):
        latents = model.encode(frames, pad=False)
        decoded = model.decode(latents, reference=frames[:, :, 5])
    assert decoded.shape == frames.shape
    with model.tiled(spatial=None, temporal=None):
        assert torch.equal(model.encode(frames), latents)
        assert torch.equal(model.decode(latents, reference=frames[:, :, 5]), decoded)
    for fuse in (module for module in model.modules() if isinstance(module, fusion.AttentionFusion)):
        shorter = fuse._rebuilt(torch.zeros(1, fuse.pos_embed.shape[3], 2, 1, 1))
        assert torch.allclose(shorter, fuse.pos_embed[:, :2], atol=1e-6)
    for kind in ("linear", "add"):
        other = build(fusion=kind)
        for temporal in (12, None):
            with pytest.raises(ValueError, match=f"`temporal` is {temporal}; with `fusion` '{kind}'"):
                other.tiled(temporal=temporal).__enter__()


@pytest.mark.parametrize("kind", ["linear", "add"])
def test_a_new_fusion_adds_nothing_and_can_learn(kind: str, build: Callable[..., ReducioVAE], video: Video) -> None:
    build_fusion = fusion.AddFusion if kind == "add" else fusion.LinearFusion
    torch.manual_seed(0)
    x, context = video(1, 8, 4, 4, 4), video(1, 4, 4, 4)
    for dead in (False, True):
        module = build_fusion(8, 4, frames=4, groups=2)
        assert torch.equal(module(x, context, trained_length=True), x)
        if dead:  # the mutant: zero convolutions as well, as in the released code
            for conv in (module.conv, module.conv_context):
                torch.nn.init.zeros_(conv.weight)
                torch.nn.init.zeros_(conv.bias)
        for _ in range(2):
            module.zero_grad()
            module(x, context, trained_length=True).square().sum().backward()
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.sub_(0.1 * parameter.grad)
        assert bool(module.conv_context.weight.grad.any()) is not dead


@torch.no_grad()
def test_folders(tmp_path: Path, build: Callable[..., ReducioVAE], video: Video) -> None:
    model, frames = build(), video(1, 3, 8, 16, 16)
    model.save_pretrained(tmp_path / "vae")
    loaded = ReducioVAE.from_pretrained(tmp_path / "vae")
    assert loaded.config == model.config
    assert torch.equal(loaded.encode(frames), model.encode(frames))
    assert not any(table.requires_grad for name, table in loaded.named_parameters() if name.endswith("pos_embed"))
    half = ReducioVAE.from_pretrained(tmp_path / "vae", dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in half.state_dict().values()} == {torch.bfloat16}
    text = (tmp_path / "vae/config.json").read_text(encoding="utf-8")
    (tmp_path / "vae/config.json").write_text(text.replace('"add', '"attend').replace('"attention"', '"mix"'))
    with pytest.raises(CheckpointError, match="`fusion`"):
        ReducioVAE.from_pretrained(tmp_path / "vae")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "mix"}, "`fusion` is 'mix'; expected 'none', 'linear', 'add', 'attention'"),
        ({"num_frames": 6}, "`num_frames` is 6; expected a multiple of 4"),
        ({"temporal_levels": 4}, "`temporal_levels` is 4; expected 0 to 3"),
        ({"widths": (3, 4, 8, 8)}, "`widths` holds 3; `norm_groups`, 2, must divide it"),
        ({"widths": ()}, "`widths` is 0 levels"),
        ({"num_heads": 3}, "`widths` ends with 8; `num_heads`, 3, must divide it"),
        ({"fused_levels": (2, 1)}, r"`fused_levels` is \(2, 1\); expected rising levels"),
        ({"fused_levels": (3,)}, "`fused_levels` is 3; expected 0 to 2"),
        ({"fusion_head_width": 3}, "`fusion_head_width` is 3; it must divide 4"),
        ({"latent_channels": 0}, "`latent_channels` is 0; expected 1 to 4096"),
        ({"num_blocks": 0}, "`num_blocks` is 0; expected 1 to 64"),
        ({"num_blocks": 1.0}, "`num_blocks` is 1.0; expected a whole number"),
    ],
)
def test_configurations_that_cannot_be(
    changes: dict[str, object], message: str, tiny_config: Callable[..., ReducioConfig]
) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 9, 16, 16), r"`frames` holds 9 frames; without padding .* multiple of 8 .*values: 8 and 16"),
        ((1, 3, 3, 16, 16), r"`frames` holds 3 frames; .*values: 8 and 16"),
        ((1, 3, 8, 20, 16), r"`frames` holds 20 rows; .* multiple of 8 .*values: 16 and 24"),
        ((1, 3, 8, 16, 4), r"`frames` holds 4 columns; .*values: 8 and 16"),
    ],
)
def test_frames_that_need_padding_where_none_is_allowed(
    shape: tuple[int, ...], message: str, build: Callable[..., ReducioVAE]
) -> None:
    model = build()
    with pytest.raises(ValueError, match=message):
        model.encode(torch.zeros(shape), pad=False)


PICTURE = torch.zeros(1, 3, 16, 16)


@pytest.mark.parametrize(
    ("latents", "settings", "message"),
    [
        ((1, 4, 2, 2, 2), {}, "`reference` is None; this model decodes with content frames"),
        ((1, 4, 2, 2, 2), {"reference": PICTURE[0]}, r"`reference` has shape \(3, 16, 16\)"),
        ((1, 4, 2, 2, 2), {"reference": PICTURE[:, :1]}, r"`reference` has shape \(1, 1, 1, 16, 16\)"),
        ((1, 4, 2, 2, 2), {"reference": PICTURE.byte()}, r"`reference` is torch.uint8; expected floating point"),
        ((1, 4, 2, 2, 2), {"reference": PICTURE + 255}, r"`reference` holds values up to 255 .* pixels in \[-1, 1\]"),
        ((2, 4, 2, 2, 2), {"reference": PICTURE}, "`reference` is of 1 videos; `latents` of 2"),
        ((1, 4, 2, 3, 2), {"reference": PICTURE}, "`reference` is 16 x 16 pixels; these latents hold 24 x 16"),
        ((1, 4, 2, 2, 2), {"reference": PICTURE, "size": (16, 15)}, "`reference` is 16 x 16 .* `size` is 16 x 15"),
        ((1, 4, 4, 2, 2), {"reference": PICTURE}, "holds 1 content frames; `latents` 2 clips.*`content_frames`"),
        ((1, 4, 3, 2, 2), {"reference": PICTURE}, "`latents` holds 3 latent frames; clips have 2.*values: 2 and 4"),
        ((1, 4, 2, 2, 2), {"reference": PICTURE, "num_frames": 9}, "`num_frames` is 9; .*hold 1 to 8"),
        ((1, 3, 2, 2, 2), {"reference": PICTURE}, r"`latents` has shape \(1, 3, 2, 2, 2\)"),
    ],
)
def test_what_decode_refuses(
    latents: tuple[int, ...], settings: dict[str, object], message: str, build: Callable[..., ReducioVAE]
) -> None:
    model = build()
    with pytest.raises(ValueError, match=message):
        model.decode(torch.zeros(latents), **settings)  # type: ignore[arg-type]


def test_a_content_frame_without_effect_is_refused(build: Callable[..., ReducioVAE]) -> None:
    model = build(fusion="none")
    with pytest.raises(ValueError, match="`reference` has no effect"):
        model.decode(torch.zeros(1, 4, 2, 2, 2), reference=PICTURE)
    assert model.decode(torch.zeros(1, 4, 2, 2, 2)).shape == (1, 3, 8, 16, 16)
    with pytest.raises(ValueError, match="`num_frames` is 0; expected at least 1"):
        model.num_latent_frames(0)
