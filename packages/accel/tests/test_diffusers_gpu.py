"""AsymRnR in the models of diffusers, on a GPU: the fused matcher, 16 bits, offloading, compiled blocks."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers", reason="an extra")

from diffusers.hooks import apply_group_offloading
from fastvid_accel import AsymRnR, AsymRnRConfig
from fastvid_accel.integrations.diffusers import accelerate

from .tiny_diffusers import KINDS, Pipe, build

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")]

NAMES = list(KINDS)
ACCELERATOR = AsymRnR(AsymRnRConfig(q=((0.0, 0.5),), window=2, min_gain=0.0))
OFF = AsymRnR(AsymRnRConfig(q=((0.0, 0.0),), kv=((0.0, 0.0),), min_gain=0.0))


@pytest.fixture(autouse=True)
def on_gpu() -> Iterator[None]:
    with torch.device("cuda"):
        yield


def build_here(name: str) -> Any:
    with torch.device("cpu"):  # where its weights are drawn
        return build(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_matches_by_the_fused_kernel_and_undoing_leaves_no_bit(name: str) -> None:
    pipe = Pipe(name, build_here(name).to("cuda"), branches="separate")
    expected = pipe()
    with accelerate(pipe, OFF):
        assert torch.equal(pipe(), expected)
    with accelerate(pipe, ACCELERATOR) as acceleration:
        first = pipe()
        assert torch.equal(pipe(), first)
        assert acceleration.report()["matcher"] == "fused"
        assert acceleration.report()["tokens"]["query_share"] == 0.5
    assert torch.equal(pipe(), expected)
    with torch.device("cpu"):
        there = Pipe(name, build(name), branches="separate")
        with accelerate(there, ACCELERATOR):
            torch.testing.assert_close(first.cpu(), there(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["CogVideoX-5B", "HunyuanVideo", "Wan"])
@pytest.mark.parametrize("use_stream", [False, True])
def test_group_offloading(name: str, use_stream: bool) -> None:
    pipe = Pipe(name, build_here(name).to("cuda"))
    with accelerate(pipe, ACCELERATOR):
        expected = pipe()
    offloaded = Pipe(name, build_here(name))
    apply_group_offloading(
        offloaded.transformer, torch.device("cuda"), offload_type="leaf_level", use_stream=use_stream
    )
    with accelerate(offloaded, ACCELERATOR):
        torch.testing.assert_close(offloaded(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["CogVideoX-5B", "Wan"])
def test_compiled_models(name: str) -> None:
    model = build_here(name).to("cuda")
    pipe = Pipe(name, model)
    with accelerate(pipe, ACCELERATOR):
        expected = pipe()
    torch.compiler.reset()
    with accelerate(pipe, ACCELERATOR) as acceleration:
        pipe.transformer = torch.compile(model)
        torch.testing.assert_close(pipe(), expected, rtol=0, atol=1e-3)
        assert acceleration.report()["tokens"]["query_share"] == 0.5
