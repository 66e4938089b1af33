"""The arithmetic of the plan, with made-up costs; the formulas of real models are tested where they are."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastvid_pipelines import discovery
from fastvid_pipelines.commands import plan as planning

from .conftest import Outcome


@dataclass(frozen=True, kw_only=True)
class FakeCost:
    tokens: int = 0
    flops: int = 0
    weight_bytes: int = 0
    activation_bytes: int = 0
    stride: tuple[int, int, int] = (4, 64, 64)


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> None:
    def transformer(size: tuple[int, int, int]) -> FakeCost:
        tokens = size[0] * size[1] * size[2]
        return FakeCost(tokens=tokens, flops=10 * tokens, weight_bytes=1000, activation_bytes=tokens)

    def find(group: str, name: str) -> Any:
        if name != "fake":
            raise ValueError(f"`transformer_cost` is {name!r}")
        decoder = FakeCost(weight_bytes=50, activation_bytes=7)
        return transformer if group == discovery.TRANSFORMER_COSTS else lambda video: decoder

    monkeypatch.setattr(discovery, "find", find)


@pytest.mark.usefixtures("costs")
def test_sizes_passes_and_sums() -> None:
    report = planning.plan("fake", num_frames=121, height=720, width=1280, steps=30, refiner_steps=8)
    assert report["base_size"] == [384, 640]
    assert report["refiner_size"] == [768, 1280]
    base, refiner, decode = report["stages"]
    assert (base["tokens"], refiner["tokens"]) == (31 * 6 * 10, 31 * 12 * 20)
    assert (base["passes"], refiner["passes"]) == (60, 8)
    assert base["flops"] == 60 * 18_600
    assert base["peak_bytes"] == 1000 + 2 * 1860  # both branches in one batch
    assert refiner["peak_bytes"] == 1000 + 7440
    assert decode["peak_bytes"] == 57
    assert report["flops"] == 60 * 18_600 + 8 * 74_400
    assert report["weight_bytes"] == 2050


@pytest.mark.usefixtures("costs")
def test_the_verb_prints_a_table_or_json(tmp_path: Path) -> None:
    plain = Outcome(tmp_path, "plan", "--model", "fake")
    assert plain.code == 0, plain.err
    assert "base 384x640, refiner 768x1280" in plain.out
    report = json.loads(Outcome(tmp_path, "plan", "--model", "fake", "--num-frames", 1, "--json").out)
    assert report["latent_frames"] == 1


@pytest.mark.usefixtures("costs")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--height", 0), "`--height` is 0"),
        (("--num-frames", -1), "`--num-frames` is -1"),
        (("--steps", 0), "`--steps` is 0"),
        (("--refiner-steps", 0), "`--refiner-steps` is 0"),
        (("--model", "other"), "`--model` is 'other'"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, words: tuple[object, ...], message: str) -> None:
    outcome = Outcome(tmp_path, "plan", "--model", "fake", *words)
    assert outcome.code == 2
    assert message in outcome.err
