import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from fastvid_accel.asymrnr import matching
from fastvid_accel.asymrnr.matching import matcher_for

from . import fused_cases

CPU = torch.device("cpu")
triton_only = pytest.mark.skipif(matching.find_spec("triton") is None, reason="torch brings Triton on Linux only")


def check(found: dict[str, dict[str, float]], first: list[int]) -> None:
    for name, shares in found.items():
        assert shares["fused"] >= 0.99, name
        assert shares["off"] < 0.1, name
    assert found["one tile"]["fused"] == found["remainders"]["fused"] == 1
    assert first == [0, 150]


@triton_only
@pytest.mark.slow
def test_what_the_interpreter_finds_is_what_float64_finds() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, fused_cases.__file__ or ""]
    result = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["cases"].keys() == fused_cases.CASES.keys()
    check(facts["cases"], facts["first"])


@pytest.mark.gpu
def test_what_a_gpu_finds_is_what_float64_finds() -> None:
    device = torch.device("cuda")
    check(
        {name: fused_cases.compare(name, device) for name in fused_cases.CASES},
        fused_cases.numbers_of_duplicates(device),
    )


@triton_only
@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("width", [64, 128])
def test_it_compiles_for_a_gpu_and_fits_it(capability: int, width: int) -> None:
    from fastvid_accel.asymrnr import fused_matching as fused
    from triton import compiler
    from triton.backends.compiler import GPUTarget

    names = fused._kernel.arg_names
    types = dict.fromkeys(names, "i32") | dict.fromkeys(("mean", "offset", "similarity"), "*fp32")
    types |= {"tokens": "*bf16", "targets": "*bf16", "positions": "*i64", "nearest": "*i32"}
    constants: dict[str, Any] = {"WIDTH": width, "PADDED_WIDTH": width, "METRIC": "euclidean", "IS_INTERPRETED": False}
    constants |= {"SOURCES": fused.SOURCES, "DESTINATIONS": fused.DESTINATIONS, "stride_e": 1}
    types |= dict.fromkeys(constants, "constexpr")
    source = compiler.ASTSource(fused._kernel, types, constants)
    compiled = compiler.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 8, "num_stages": 3}
    )
    assert compiled.metadata.shared <= 99 * 1024  # of one program on the smallest of these GPUs
    assert ("wgmma" if capability == 90 else "mma.sync") in compiled.asm["ptx"]


def test_it_is_chosen_for_gpus_that_triton_compiles_for(monkeypatch: pytest.MonkeyPatch) -> None:
    capability = (9, 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(matching, "find_spec", lambda name: object())
    assert matcher_for(torch.device("cuda")) == "fused"
    assert matcher_for(CPU) == matcher_for(torch.device("meta")) == "torch"
    capability = (7, 5)
    assert matcher_for(torch.device("cuda")) == "torch"
    capability = (9, 0)
    monkeypatch.setattr(matching, "find_spec", lambda name: None)
    assert matcher_for(torch.device("cuda")) == "torch"
