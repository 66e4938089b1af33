"""AsymRnR in the models of diffusers, at tiny size with random weights."""

import contextlib
import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

pytest.importorskip("diffusers", reason="an extra")

from diffusers.hooks import apply_group_offloading
from fastvid_accel import AsymRnR, AsymRnRConfig, Calibrator
from fastvid_accel.asymrnr.released import released
from fastvid_accel.integrations.diffusers import accelerate, model_name
from fastvid_accel.integrations.diffusers.current import Current
from peft import LoraConfig

from .tiny_diffusers import GRID, HEAD_WIDTH, HEADS, KINDS, TEXT, Pipe, build, drawn

NAMES = list(KINDS)
pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")  # Mochi asks for float32 by name


def asymrnr(**settings: Any) -> AsymRnR:
    return AsymRnR(AsymRnRConfig(**({"min_gain": 0.0, "window": 2, "q": ((0.0, 0.5),)} | settings)))


OFF = asymrnr(q=((0.0, 0.0),), kv=((0.0, 0.0),))


@pytest.mark.parametrize("name", NAMES)
def test_rate_zero_is_the_model_to_the_bit_and_undoing_leaves_it_so(name: str) -> None:
    model = build(name)
    pipe = Pipe(name, model)
    expected, state = pipe(), set(model.state_dict())
    processors = dict(model.attn_processors) if hasattr(model, "attn_processors") else {}
    with accelerate(pipe, OFF) as acceleration:
        assert acceleration.num_layers == KINDS[name].layers
        assert torch.equal(pipe(), expected)
        assert acceleration.report()["attention_calls"] == 2 * 4
        assert set(model.state_dict()) == state
    assert torch.equal(pipe(), expected)
    if processors:
        assert all(model.attn_processors[key] is value for key, value in processors.items())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("branches", ["joint", "separate", "unnamed"])
def test_on_off_and_on_again_and_a_second_video_equals_the_first(name: str, branches: str) -> None:
    pipe = Pipe(name, build(name), branches=branches)
    exact = pipe()
    acceleration = accelerate(pipe, asymrnr())
    first = pipe()
    assert not torch.equal(first, exact)
    assert torch.equal(pipe(), first)
    with contextlib.suppress(KeyboardInterrupt):
        pipe(seed=1, stop_after=3)  # ends in an error: nothing is reset
    assert torch.equal(pipe(), first)
    report = acceleration.report()
    assert report["tokens"]["query_share"] == 0.5
    assert report["heat_map"]["kv"] == ["3333", "3333"]
    acceleration.disable()
    assert torch.equal(pipe(), exact)
    acceleration.enable()
    assert torch.equal(pipe(), first)
    acceleration.disable()
    acceleration.disable()
    assert torch.equal(pipe(), exact)


@pytest.mark.parametrize("name", NAMES)
def test_guidance_in_one_batch_is_guidance_in_two_calls(name: str) -> None:
    model = build(name)
    together, apart = Pipe(name, model), Pipe(name, model, branches="separate")
    with accelerate(together, asymrnr()):
        joint = together()
    with accelerate(apart, asymrnr()):
        torch.testing.assert_close(apart(), joint, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["HunyuanVideo", "Mochi"])
def test_padding_of_the_text_is_attended_to_by_no_one(name: str) -> None:
    pipe = Pipe(name, build(name))
    latents, text = drawn(1, 4, GRID[0], 2 * GRID[1], 2 * GRID[2]), drawn(1, TEXT, 16, seed=8)
    padded = text.clone()
    padded[:, -2:] += 3  # what the masks of these calls leave out
    with accelerate(pipe, asymrnr()), torch.no_grad():
        found = []
        for each in (text, padded):
            found.append(pipe._run("cond", latents, pipe.scheduler.timesteps[0], each))
            pipe.transformer._reset_stateful_cache()
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-5)


def test_text_before_the_video_is_as_text_behind_it() -> None:
    n = GRID[0] * GRID[1] * GRID[2]
    video, text = (drawn(3, 1, HEADS, count, HEAD_WIDTH, seed=count) for count in (n, TEXT))
    outs = []
    for text_first in (False, True):
        current = Current(1)
        current.grid, current.reducer = GRID, asymrnr().reducer(num_steps=1)
        q, k, v = torch.cat((text, video) if text_first else (video, text), dim=3)
        attend = F.scaled_dot_product_attention
        out = current.attend(q, k, v, block=0, attend=attend, num_text=TEXT, text_first=text_first)
        outs.append(out.roll(-TEXT, dims=2) if text_first else out)
    torch.testing.assert_close(outs[1], outs[0], rtol=0, atol=1e-6)


def test_two_pipelines_do_not_share_state() -> None:
    one, other = Pipe("Wan", build("Wan")), Pipe("LTX-Video", build("LTX-Video"))
    with accelerate(one, asymrnr()):
        alone = one()
    with accelerate(one, asymrnr()), accelerate(other, asymrnr()) as second:
        other(seed=3)
        assert torch.equal(one(), alone)
        assert second.report()["attention_calls"] == 8


def add_lora(model: Any) -> None:
    """Of peft, on all projections of self-attention, with random factors on both sides."""
    torch.manual_seed(1)
    layers = ["to_q", "to_k", "to_v", "to_out.0"]
    model.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=layers, init_lora_weights=False))


@pytest.mark.parametrize("name", NAMES)
def test_adapters_of_peft_are_called(name: str) -> None:
    model = build(name)
    pipe = Pipe(name, model, num_steps=2)
    plain = pipe()
    add_lora(model)
    expected = pipe()
    assert not torch.equal(expected, plain)
    with accelerate(pipe, OFF):
        assert torch.equal(pipe(), expected)
    with accelerate(pipe, asymrnr()):
        reduced = pipe()
        assert not torch.equal(reduced, expected)
    assert torch.equal(pipe(), expected)
    model.fuse_lora()  # into the weights: the same by hand
    with accelerate(pipe, asymrnr()):
        torch.testing.assert_close(pipe(), reduced, rtol=0, atol=1e-4)


def test_an_adapter_that_comes_later_is_called_too() -> None:
    model = build("Wan")
    pipe = Pipe("Wan", model)
    with accelerate(pipe, OFF):
        add_lora(model)
        accelerated = pipe()
    assert torch.equal(pipe(), accelerated)


@pytest.mark.parametrize("name", ["CogVideoX-2B", "CogVideoX-5B", "Wan"])
def test_fused_projections(name: str) -> None:
    model = build(name)
    pipe = Pipe(name, model)
    with accelerate(pipe, asymrnr()):
        apart = pipe()
    model.fuse_qkv_projections()
    expected = pipe()
    with accelerate(pipe, OFF):
        assert torch.equal(pipe(), expected)
    with accelerate(pipe, asymrnr()):
        torch.testing.assert_close(pipe(), apart, rtol=0, atol=1e-4)
    assert torch.equal(pipe(), expected)


def test_projections_that_are_fused_afterwards_are_noticed() -> None:
    model = build("CogVideoX-5B")
    pipe = Pipe("CogVideoX-5B", model)
    with accelerate(pipe, asymrnr()):
        model.fuse_qkv_projections()
        with pytest.raises(ValueError, match="2 attention layers whose processor was replaced after `accelerate`"):
            pipe()


@pytest.mark.parametrize("name", ["CogVideoX-5B", "HunyuanVideo", "Wan"])
def test_group_offloading(name: str) -> None:
    model = build(name)
    pipe = Pipe(name, model)
    with accelerate(pipe, asymrnr()):
        expected = pipe()
    apply_group_offloading(model, torch.device("cpu"), offload_type="leaf_level")
    with accelerate(pipe, asymrnr()):
        torch.testing.assert_close(pipe(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["CogVideoX-5B", "Wan"])
@pytest.mark.parametrize("first", ["compile", "accelerate"])
def test_compiled_models(name: str, first: str) -> None:
    model = build(name)
    pipe = Pipe(name, model, num_steps=3)
    with accelerate(pipe, asymrnr()):
        expected = pipe()
    torch.compiler.reset()
    if first == "compile":
        pipe.transformer = torch.compile(model, backend="eager")
    with accelerate(pipe, asymrnr()) as acceleration:
        pipe.transformer = torch.compile(model, backend="eager")
        torch.testing.assert_close(pipe(), expected, rtol=0, atol=1e-5)
        assert acceleration.report()["attention_calls"] == 6
        assert acceleration.report()["tokens"]["query_share"] == 0.5


def test_a_calibrator_measures_and_what_it_measured_fits_this_model_only() -> None:
    pipe = Pipe("Wan", build("Wan"), branches="separate")
    calibrator = Calibrator(window=2)
    with accelerate(pipe, calibrator) as measuring:
        pipe()
        report = measuring.report()
    name = model_name(pipe.transformer)
    assert name == "WanTransformer3DModel-2x2x16"
    accelerator = calibrator.accelerator(report, model=name, saving=0.05)
    with accelerate(pipe, accelerator) as acceleration:
        pipe()
        assert acceleration.report()["flops"]["removed_share"] >= 0.05
    assert accelerator.table is not None
    assert accelerator.table.grid == GRID
    another = dataclasses.replace(accelerator, table=dataclasses.replace(accelerator.table, model="another"))
    with pytest.raises(ValueError, match="has a table of 'another', the transformer is 'WanTransformer3DModel-2x2x16'"):
        accelerate(pipe, another)
    with pytest.raises(ValueError, match="table of 'CogVideoXTransformer3DModel-30x30x64'"):
        accelerate(pipe, released("cogvideox-2b"))


class TwoTransformers:
    """As Wan 2.2: another transformer for the first steps than for the last ones."""

    def __init__(self) -> None:
        self.transformer, self.transformer_2 = build("Wan"), build("Wan")
        self.scheduler = SimpleNamespace(timesteps=torch.linspace(900, 100, 6))

    @torch.no_grad()
    def __call__(self) -> Tensor:
        latents, text = drawn(1, 4, GRID[0], 2 * GRID[1], 2 * GRID[2]), drawn(1, 5, 16, seed=8)
        for index, timestep in enumerate(self.scheduler.timesteps):
            model = self.transformer if index < 3 else self.transformer_2
            with model.cache_context("cond"):
                latents = latents - 0.1 * KINDS["Wan"].call(model, latents, timestep.expand(1), text)
        for model in (self.transformer, self.transformer_2):
            model._reset_stateful_cache()
        return latents


def test_two_transformers_that_share_the_steps_are_measured_and_accelerated_as_one() -> None:
    pipe = TwoTransformers()
    exact = pipe()
    calibrator = Calibrator(window=2)
    with accelerate(pipe, calibrator) as measuring:
        assert torch.equal(pipe(), exact)
        report = measuring.report()
    accelerator = calibrator.accelerator(report, model=model_name(pipe.transformer), saving=0.02)
    assert accelerator.table is not None
    assert (accelerator.table.num_steps, accelerator.table.num_blocks) == (6, 2)
    with accelerate(pipe, accelerator) as acceleration:
        first = pipe()
        assert not torch.equal(first, exact)
        assert torch.equal(pipe(), first)
        maps = [part["heat_map"]["q"] for part in acceleration.report()["transformers"]]
        assert all(row.endswith("   ") for row in maps[0])
        assert all(row.startswith("   ") for row in maps[1])
    assert torch.equal(pipe(), exact)
    with pytest.raises(ValueError, match="lacks some of 6 steps"):
        calibrator.table({"transformers": report["transformers"][:1]}, model="half")
    with pytest.raises(ValueError, match="did not run"):
        calibrator.table({"transformers": [{}, {}]}, model="none")


def test_unknown_models_parallel_ones_and_a_second_time_are_refused() -> None:
    pipe = Pipe("Wan", build("Wan"))
    unknown = Pipe("Wan", nn.Linear(1, 1))
    with pytest.raises(ValueError, match="class Linear; AsymRnR knows CogVideoXTransformer3DModel, Hunyuan"):
        accelerate(unknown, asymrnr())
    with pytest.raises(ValueError, match="has no `transformer`"):
        accelerate(object(), asymrnr())
    pipe.transformer._parallel_config = object()
    with pytest.raises(ValueError, match="split over devices"):
        accelerate(pipe, asymrnr())
    pipe.transformer._parallel_config = None
    with accelerate(pipe, asymrnr()), pytest.raises(ValueError, match="accelerated already"):
        accelerate(pipe, asymrnr())
    expected = pipe()
    assert torch.equal(pipe(), expected)


def test_a_scheduler_without_timesteps_is_refused() -> None:
    pipe = Pipe("Wan", build("Wan"))
    timesteps, pipe.scheduler.timesteps = pipe.scheduler.timesteps, None
    with accelerate(pipe, asymrnr()), pytest.raises(ValueError, match="no timesteps"):
        pipe._run("cond", torch.zeros(1, 4, 4, 8, 12), timesteps[0], torch.zeros(1, 5, 16))
