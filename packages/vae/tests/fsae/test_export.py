"""The exportable subset: encoder and decoder with symbolic sizes, and as one compiled graph."""

from collections.abc import Callable

import pytest
import torch
from fastvid_vae import FSAE
from fastvid_vae.layers.noise import Noise
from fastvid_vae.layers.stream import Stream
from torch import Tensor, nn
from torch.export import Dim

SHALLOW = {"encoder_depths": (1, 0, 0, 1), "decoder_depths": (1, 0, 0, 1)}  # one block of either kind


class Encode(nn.Module):
    """frames -> raw latents, first chunk."""

    def __init__(self, model: FSAE) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, frames: Tensor) -> Tensor:
        latents: Tensor = self.encoder(frames, Stream())[0]
        return latents


class Decode(nn.Module):
    """latents and the first frame's features -> frames, first chunk."""

    def __init__(self, model: FSAE) -> None:
        super().__init__()
        self.decoder = model.decoder

    def forward(self, latents: Tensor, third: Tensor, fourth: Tensor) -> Tensor:
        frames: Tensor = self.decoder(latents, [third, third, third, fourth], Stream(), Noise("off", 0.0, None))
        return frames


def features(model: FSAE, reference: Tensor) -> list[Tensor]:
    return list(model.first_frame_features(reference))[2:]


@pytest.mark.slow
@torch.no_grad()
def test_the_encoder_exports_with_any_size(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    encode = Encode(build(**SHALLOW))
    t, h, w = Dim("t", min=1, max=64), Dim("h", min=2, max=64), Dim("w", min=2, max=64)
    exported = torch.export.export(
        encode, (video(1, 3, 9, 24, 32),), dynamic_shapes={"frames": {2: 4 * t + 1, 3: 8 * h, 4: 8 * w}}
    ).module()
    for shape in ((5, 16, 24), (13, 40, 16), (9, 24, 32)):
        frames = video(1, 3, *shape)
        assert torch.allclose(exported(frames), encode(frames), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["causal", "standard", "lite"])
@torch.no_grad()
def test_the_decoder_exports_with_any_size(mode: str, build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    model = build(decoder_mode=mode, **SHALLOW)
    decode = Decode(model)
    least = (
        3 if mode == "lite" else 2
    )  # the groups after frame 0 are a batch, and the exporter takes one for a constant
    t, h, w = Dim("t", min=least, max=64), Dim("h", min=2, max=64), Dim("w", min=2, max=64)
    example = (video(1, 4, 4, 3, 4), *features(model, video(1, 3, 24, 32)))
    exported = torch.export.export(
        decode,
        example,
        dynamic_shapes={"latents": {2: t, 3: h, 4: w}, "third": {3: 2 * h, 4: 2 * w}, "fourth": {3: h, 4: w}},
    ).module()
    for frames, height, width in ((least, 2, 3), (5, 4, 2), (3, 3, 4)):
        inputs = (video(1, 4, frames, height, width), *features(model, video(1, 3, 8 * height, 8 * width)))
        assert torch.allclose(exported(*inputs), decode(*inputs), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_smallest_decoder_exports(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    """One stage of either kind, group-causal, time doubled once: what the slow tests do at every depth and mode."""
    pair = (8, 8)
    model = build(
        decoder_mode="lite",
        stage_kinds=("conv", "attention"),
        encoder_widths=pair,
        decoder_widths=pair,
        encoder_depths=(1, 1),
        decoder_depths=(1, 1),
        temporal_stages=(0,),
        injection=(None, None),
    )

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = model.decoder

        def forward(self, latents: Tensor) -> Tensor:
            frames: Tensor = self.decoder(latents, None, Stream(), Noise("off", 0.0, None))
            return frames

    t, h, w = Dim("t", min=3, max=64), Dim("h", min=2, max=64), Dim("w", min=2, max=64)
    shapes = {"latents": {2: t, 3: h, 4: w}}
    exported = torch.export.export(Bare(), (video(1, 4, 4, 3, 5),), dynamic_shapes=shapes).module()
    for shape in ((3, 2, 3), (6, 4, 2)):
        latents = video(1, 4, *shape)
        assert torch.allclose(exported(latents), Bare()(latents), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["causal", "standard", "lite"])
def test_a_training_step_compiles_as_one_graph(
    mode: str, build: Callable[..., FSAE], video: Callable[..., Tensor]
) -> None:
    model, frames = build(decoder_mode=mode, **SHALLOW).requires_grad_(True), video(1, 3, 5, 16, 16)

    def step(frames: Tensor) -> Tensor:
        latents, features = model.encoder(frames, Stream())
        first = [feature[:, :, :1] for feature in features]
        decoded = model.decoder(latents, first, Stream(), Noise("spatial", 0.0, None))
        return (decoded - frames).abs().mean()

    step(frames).backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    torch.compile(step, fullgraph=True, backend="aot_eager")(frames).backward()
    for name, parameter in model.named_parameters():
        assert expected[name] is not None
        assert torch.allclose(parameter.grad, expected[name], atol=1e-4, rtol=1e-3), name


@pytest.mark.slow
@torch.no_grad()
def test_encode_and_decode_compile_as_one_graph(build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    model, frames = build(**SHALLOW), video(1, 3, 5, 16, 16)

    def round_trip(frames: Tensor) -> Tensor:
        return model.decode(model.encode(frames), reference=frames[:, :, 0])

    compiled = torch.compile(round_trip, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(frames), round_trip(frames), atol=1e-4)
