import itertools
from typing import Any

import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    FirstBlockCacheConfig,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from fastvid_accel import VGDFR, AsymRnR, AsymRnRConfig, VGDFRConfig
from fastvid_accel.integrations.diffusers import VGDFRPipeline, accelerate
from fastvid_accel.integrations.diffusers.codecs import DiffusersCodec, codec_of
from fastvid_accel.integrations.diffusers.samplers import sampler_of
from fastvid_accel.integrations.diffusers.truncation import stages_less
from fastvid_accel.integrations.diffusers.vgdfr_loop import _halfway
from fastvid_accel.vgdfr import accelerator
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from .tiny_pipelines import PIPELINES, build

STRIDES = {"ltx": 8, "mochi": 6}
MERGE_ALL = VGDFRConfig(threshold=-1.0, start_step=2)
MERGE_NONE = VGDFRConfig(threshold=1.0, start_step=2)


@pytest.fixture(scope="module", params=PIPELINES)
def stock(request: pytest.FixtureRequest) -> tuple[str, Any, dict[str, Any]]:
    pipe, call = build(request.param)
    frames = 8 * STRIDES.get(request.param, 4) + 1
    side = 32 if request.param == "ltx" else 16
    small = {"num_frames": frames, "height": side, "width": side, "num_inference_steps": 3, "output_type": "pt"}
    return request.param, pipe, call | small


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_where_nothing_merges_the_video_is_the_same_to_the_bit(stock: tuple[str, Any, dict[str, Any]]) -> None:
    _, pipe, call = stock
    before = pipe(**call, generator=seeded()).frames
    ours = VGDFRPipeline(pipe, VGDFR(MERGE_NONE))(**call, generator=seeded())
    assert torch.equal(ours.frames, before)
    assert ours.record is not None
    assert ours.record.rate.merges == ()


def test_merged_latents_pass_the_stock_model_and_every_frame_comes_back(stock: tuple[str, Any, dict[str, Any]]) -> None:
    _, pipe, call = stock
    sizes: list[int] = []
    hook = pipe.transformer.register_forward_hook(lambda module, args, output: sizes.append(output[0][0].numel()))
    try:
        ours = VGDFRPipeline(pipe, VGDFR(MERGE_ALL))(**call, generator=seeded())
    finally:
        hook.remove()
    assert ours.frames.shape == (1, call["num_frames"], 3, call["height"], call["width"])
    assert ours.record is not None
    assert ours.record.rate.kept_latents == (0, 1, 5, 7, 8)
    assert 5 * sizes[0] == 9 * sizes[-1]


def test_afterwards_the_pipeline_is_as_it_was(stock: tuple[str, Any, dict[str, Any]]) -> None:
    _, pipe, call = stock
    before = pipe(**call, generator=seeded()).frames
    VGDFRPipeline(pipe, VGDFR(MERGE_ALL))(**call, generator=seeded())
    assert torch.equal(pipe(**call, generator=seeded()).frames, before)
    assert "step" not in vars(pipe.scheduler)
    assert "_unpack_latents" not in vars(pipe)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in pipe.transformer.modules())


def test_a_call_that_fails_leaves_no_patch(stock: tuple[str, Any, dict[str, Any]]) -> None:
    _, pipe, call = stock

    def interrupt(*_: object) -> dict[str, Tensor]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        VGDFRPipeline(pipe, VGDFR(MERGE_ALL))(**call, callback_on_step_end=interrupt)
    assert "step" not in vars(pipe.scheduler)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in pipe.transformer.modules())


def test_a_second_video_equals_the_first(stock: tuple[str, Any, dict[str, Any]]) -> None:
    _, pipe, call = stock
    ours = VGDFRPipeline(pipe, VGDFR(MERGE_ALL))
    assert torch.equal(ours(**call, generator=seeded()).frames, ours(**call, generator=seeded()).frames)


def test_the_noise_is_the_pipelines_own(
    stock: tuple[str, Any, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, pipe, call = stock
    told: list[Tensor] = []
    own = accelerator.initial_noise

    def telling(*args: Any) -> Tensor:
        told.append(own(*args))
        return told[-1]

    monkeypatch.setattr(accelerator, "initial_noise", telling)
    seen: list[Tensor] = []
    hook = pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["hidden_states"]), with_kwargs=True
    )
    try:
        VGDFRPipeline(pipe, VGDFR(MERGE_ALL))(**call, generator=seeded())
    finally:
        hook.remove()
    given = seen[0][:1]
    if name.startswith("cogvideox"):
        given = given.transpose(1, 2)
    if name == "ltx":
        given = given.unflatten(1, (9, 4, 4)).permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(told[0], given.float(), atol=2e-4, rtol=1e-3)


SCHEDULERS = [
    FlowMatchEulerDiscreteScheduler(shift=7.0),
    FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
    UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    *(
        CogVideoXDDIMScheduler(prediction_type=kind, snr_shift_scale=scale)
        for kind, scale in itertools.product(("v_prediction", "epsilon", "sample"), (1.0, 3.0))
    ),
]


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda value: type(value).__name__)
def test_levels_and_estimates_are_those_of_the_scheduler(scheduler: Any) -> None:
    """A first step is a straight line from where it is towards the estimate, in fastvid's coordinates."""
    scheduler.set_timesteps(5)
    sampler = sampler_of(scheduler)
    sample, output = torch.randn(2, 1, 4, 3, 2, 2, generator=seeded())
    first, last = sampler.levels(0)
    estimate = sampler.denoised(output, sample, 0)
    stepped = scheduler.step(output, scheduler.timesteps[0], sample, return_dict=False)[0]
    line = estimate + (last.sigma / first.sigma) * (sample / first.scale - estimate)
    torch.testing.assert_close(stepped / last.scale, line, atol=1e-4, rtol=1e-3)
    assert sampler.levels(4)[1].sigma == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("name", ["hunyuan", "wan-euler"])
def test_positions_stay_where_they_were_if_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, call = build(name)
    call |= {"num_frames": 33, "num_inference_steps": 3, "output_type": "latent"}
    frames = {
        positions: VGDFRPipeline(pipe, VGDFR(VGDFRConfig(threshold=-1.0, start_step=1, positions=positions)))(
            **call, generator=seeded()
        ).frames
        for positions in ("local", "global", "centre", (0,), (0, 1), None)
    }
    assert torch.equal(frames[0, 1], frames["global"])
    assert torch.equal(frames[None], frames["local"])
    for one, other in itertools.combinations(("local", "global", "centre", (0,)), 2):
        assert (frames[one] - frames[other]).abs().max() > 1e-5


def test_rotary_tables_halfway_are_those_of_the_mean_positions() -> None:
    """Means alone, as a mutant would have it, would shorten queries and keys."""
    angles = torch.tensor([0.0, 0.4, 2.0])[:, None] + torch.arange(6)[:, None, None] * torch.tensor([1.0, 0.1])
    table = angles.flatten(0, 1).cos(), angles.flatten(0, 1).sin()  # six frames of three tokens, two frequencies
    mean = (angles[[0, 1, 4]] + angles[[0, 2, 5]]).flatten(0, 1) / 2
    cosines, sines = _halfway(table, 6, [(0, 0), (1, 2), (4, 5)])
    torch.testing.assert_close(cosines, mean.cos())
    torch.testing.assert_close(sines, mean.sin())


def test_with_fewer_tokens_inside_attention_as_well() -> None:
    pipe, call = build("wan-euler")
    call |= {"num_frames": 33, "num_inference_steps": 6, "output_type": "latent"}
    merging = VGDFRPipeline(pipe, VGDFR(MERGE_ALL))
    alone = merging(**call, generator=seeded()).frames
    with accelerate(pipe, AsymRnR(AsymRnRConfig(min_gain=0.0))) as reducing:
        both = merging(**call, generator=seeded()).frames
        assert reducing.report()["is_on"]
    assert both.shape == alone.shape
    assert not torch.equal(both, alone)
    assert torch.equal(merging(**call, generator=seeded()).frames, alone)


def test_a_cache_of_residuals_forgets_the_old_length() -> None:
    pipe, call = build("wan-euler")
    call |= {"num_frames": 33, "num_inference_steps": 6, "output_type": "latent"}
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.5))
    config = VGDFRConfig(threshold=-1.0, start_step=3)
    assert VGDFRPipeline(pipe, VGDFR(config))(**call, generator=seeded()).frames.shape[2] == 5


@pytest.mark.parametrize("name", PIPELINES)
def test_codecs_are_their_own_inverse_as_far_as_the_model_is(name: str) -> None:
    pipe, _ = build(name)
    codec = codec_of(pipe.vae, STRIDES.get(name, 4))
    frames = torch.rand(1, 3, STRIDES.get(name, 4) * 2 + 1, 32, 32, generator=seeded()) * 2 - 1
    latents = codec.encode(frames)
    raw = pipe.vae.encode(frames).latent_dist.mode()
    torch.testing.assert_close(latents * codec.std + codec.mean, raw, atol=1e-5, rtol=1e-4)
    assert codec.decode(latents).shape == frames.shape


@pytest.mark.parametrize("name", ["cogvideox-rope", "hunyuan", "wan-euler"])
@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("tiled", [False, True])
def test_stages_less_halve_the_frames_and_keep_the_grid_of_latents(name: str, stages: int, tiled: bool) -> None:
    pipe, _ = build(name)
    frames = torch.rand(1, 3, 9, 64, 96, generator=seeded()) * 2 - 1
    before = pipe.vae.encode(frames).latent_dist.mode()
    if tiled:
        pipe.vae.enable_tiling(tile_sample_min_height=32, tile_sample_min_width=32)
        pipe.vae.tile_sample_stride_height = pipe.vae.tile_sample_stride_width = 24
        if name.startswith("cogvideox"):  # a quarter of a tile's latents, so that it is one
            pipe.vae.tile_overlap_factor_height = pipe.vae.tile_overlap_factor_width = 0.25
    codec = codec_of(pipe.vae, 4).truncated(stages)
    small = codec.decode(before)
    assert small.shape == (1, 3, 9, 64 >> stages, 96 >> stages)
    assert codec.encode(small).shape == before.shape
    pipe.vae.disable_tiling()
    assert torch.equal(pipe.vae.encode(frames).latent_dist.mode(), before)  # nothing is left behind


@pytest.mark.parametrize("num_frames", [1, 5, 9])
def test_cogvideox_less_a_stage_does_in_time_what_it_did(num_frames: int) -> None:
    """Pictures of one colour have no space to look at, but at their borders."""
    pipe, _ = build("cogvideox-rope")
    up = pipe.vae.decoder.up_blocks[0].upsamplers[0]
    down = pipe.vae.encoder.down_blocks[-2].downsamplers[0]
    assert up.compress_time
    one = torch.randn(1, 8, num_frames, 1, 1, generator=seeded()).expand(-1, -1, -1, 8, 8)
    noise = torch.randn(1, 8, num_frames, 8, 8, generator=seeded())
    full, half = up(one), down(noise)
    with stages_less(pipe.vae, 1):
        less, same = up(one), down(noise)
    torch.testing.assert_close(less[..., 4, 4], full[..., 8, 8])
    assert same.shape == noise.shape
    # A stride of 2 sees rows 0 to 2 first, as the middle of row 1 does.
    torch.testing.assert_close(same[..., 1::2, 1::2][..., :3, :3], half[..., :3, :3])
    assert torch.equal(up(one), full)
    assert "forward" not in vars(up)


@pytest.mark.parametrize("name", ["cogvideox-rope", "hunyuan", "wan-euler"])
def test_a_stage_less_costs_a_third(name: str) -> None:
    pipe, _ = build(name)
    codec = codec_of(pipe.vae, 4)
    latents = torch.randn(1, 4, 3, 8, 8, generator=seeded())

    def operations(codec: DiffusersCodec) -> int:
        with FlopCounterMode(display=False) as counter:
            codec.encode(codec.decode(latents))
        return counter.get_total_flops()

    assert 3 < operations(codec) / operations(codec.truncated(1)) < 4


def test_a_truncated_preview_makes_a_video() -> None:
    pipe, call = build("hunyuan")
    call |= {"num_frames": 17, "height": 96, "width": 96, "num_inference_steps": 2, "output_type": "pt"}
    config = VGDFRConfig(threshold=-1.0, skipped_stages=1)
    ours = VGDFRPipeline(pipe, VGDFR(config))(**call, generator=seeded())
    assert ours.frames.shape == (1, 17, 3, 96, 96)
    assert ours.record is not None
    assert ours.record.rate.kept_latents == (0, 1, 3, 4)


def test_wan_is_normalised_by_channel() -> None:
    pipe, _ = build("wan-euler")
    codec = codec_of(pipe.vae, 4)
    assert codec.mean.flatten().tolist() == pytest.approx([0.1, -0.2, 0.3, 0.0])
    assert codec.std.flatten().tolist() == pytest.approx([1.5, 0.5, 2.0, 1.0])


def test_what_cannot_work_is_refused_by_name() -> None:
    pipe, call = build("wan-euler")
    with pytest.raises(ValueError, match=r"`pipe` is a dict; expected one of CogVideoXPipeline"):
        VGDFRPipeline({})
    with pytest.raises(ValueError, match=r"`output_type` is 'gif'"):
        VGDFRPipeline(pipe)(**call, output_type="gif")
    with pytest.raises(ValueError, match=r"`start_step` is 10 of 4 steps"):
        VGDFRPipeline(pipe, VGDFR(VGDFRConfig(start_step=10)))(**call, num_inference_steps=4)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    with pytest.raises(ValueError, match=r"FlowMatchEulerDiscreteScheduler.*not stochastic"):
        VGDFRPipeline(pipe)
    with pytest.raises(ValueError, match=r"`skipped_stages` is 4; AutoencoderKLWan has 3"):
        VGDFRPipeline(build("wan-euler")[0], VGDFR(VGDFRConfig(skipped_stages=4)))
    with pytest.raises(ValueError, match=r"`skipped_stages` is 1 and the autoencoder is AutoencoderKLLTXVideo"):
        VGDFRPipeline(build("ltx")[0], VGDFR(VGDFRConfig(skipped_stages=1)))
    with pytest.raises(ValueError, match=r"`refining_steps` is 2; the pipeline's own loop"):
        VGDFRPipeline(build("wan-euler")[0], VGDFR(VGDFRConfig(refining_steps=2)))
    cog, call = build("cogvideox-rope")
    with pytest.raises(ValueError, match=r"`positions` is 'global'; transformers of CogVideoXPipeline"):
        VGDFRPipeline(cog, VGDFR(VGDFRConfig(positions="global")))
    with pytest.raises(ValueError, match=r"`eta` is 0.5"):
        VGDFRPipeline(cog)(**call, eta=0.5)
    cog.scheduler = CogVideoXDPMScheduler()
    with pytest.raises(ValueError, match=r"CogVideoXDPMScheduler.*keeps earlier latents"):
        VGDFRPipeline(cog)


@pytest.mark.parametrize("output_type", ["np", "pil", "latent"])
def test_other_kinds_of_output(output_type: str) -> None:
    pipe, call = build("wan-euler")
    call |= {"num_frames": 33, "num_inference_steps": 3, "generator": seeded()}
    frames = VGDFRPipeline(pipe, VGDFR(VGDFRConfig(threshold=-1.0)))(**call, output_type=output_type).frames
    assert (frames.shape[2] == 5) if output_type == "latent" else (len(frames[0]) == 33)
