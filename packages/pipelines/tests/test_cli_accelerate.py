"""`generate --accelerate`: accelerators by name, several at once, and their settings."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fastvid_pipelines import cli

from .conftest import Outcome
from .fakes import FakeAccelerator

Run = Callable[..., Outcome]


def test_an_accelerator_is_found_by_name(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.discovery, "find", lambda group, name: FakeAccelerator)
    outcome = generate("--accelerate", "fake", "--json")
    accelerator = json.loads(outcome.out)["accelerator"]
    assert (accelerator["name"], accelerator["latent_frames"]) == ("fake", [2, 2, 2])
    assert accelerator["report"]["calls"] > 0


def test_several_accelerators_are_composed_in_their_order(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    made: list[FakeAccelerator] = []

    def build() -> FakeAccelerator:
        made.append(FakeAccelerator())
        return made[-1]

    def compose(*accelerators: FakeAccelerator) -> FakeAccelerator:
        assert list(accelerators) == made
        return accelerators[0]

    def find(group: str, name: str) -> Callable[..., FakeAccelerator]:
        asked.append((group, name))
        return compose if name == "compose" else build

    monkeypatch.setattr(cli.discovery, "find", find)
    outcome = generate("--accelerate", "one, two", "--json")
    assert outcome.code == 0
    assert asked == [
        ("fastvid.accelerator", "one"),
        ("fastvid.accelerator", "two"),
        ("fastvid.accelerator_composition", "compose"),
    ]


def test_settings_of_an_accelerator_are_read_for_the_model_at_hand(
    generate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []

    def load(path: Path, *, model: str) -> FakeAccelerator:
        asked.append((path, model))
        return FakeAccelerator()

    monkeypatch.setattr(cli.discovery, "find", lambda group, name: load)
    sidecar = json.loads(generate("--accelerate", "fake", "--accelerate-settings", "mine.json", "--json").out)
    assert asked == [(Path("mine.json"), sidecar["model"]["fingerprint"])]
    assert sidecar["accelerator"]["settings"] == ["mine.json"]
    assert "--accelerate fake" in sidecar["command"]
    assert "--accelerate-settings mine.json" in sidecar["command"]


def test_settings_go_to_the_one_of_several_accelerators_that_reads_them(
    generate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = {"one": object()}
    asked: list[tuple[str, str]] = []
    read: list[object] = []

    def build(*files: object, **_: object) -> FakeAccelerator:
        read.extend(file for file in files if isinstance(file, Path))
        return FakeAccelerator()

    def find(group: str, name: str) -> Callable[..., FakeAccelerator]:
        asked.append((group, name))
        return build

    monkeypatch.setattr(cli.discovery, "find", find)
    monkeypatch.setattr(cli.discovery, "installed", lambda group: readers)
    flags = ("--accelerate", "two,one", "--accelerate-settings", "mine.json")
    assert generate(*flags).code == 0
    assert asked[:2] == [("fastvid.accelerator", "two"), ("fastvid.accelerator_settings", "one")]
    readers["two"] = object()
    outcome = generate(*flags)
    assert outcome.code == 2
    assert "'two' and 'one' reads such: say which with NAME=FILE" in outcome.err
    asked.clear()
    named = ("--accelerate-settings", "one=a=b.json", "--accelerate-settings", "two=c.json")
    assert generate("--accelerate", "two,one", *named).code == 0
    assert asked[:2] == [("fastvid.accelerator_settings", "two"), ("fastvid.accelerator_settings", "one")]
    assert read == [Path("mine.json"), Path("c.json"), Path("a=b.json")]
    outcome = generate("--accelerate", "two,one", *named, "--accelerate-settings", "one=d.json")
    assert "`--accelerate-settings` 'one=d.json' is the second file for 'one'" in outcome.err
    readers.clear()
    outcome = generate(*flags)
    assert outcome.code == 2
    assert "`--accelerate` is 'two, one'; `--accelerate-settings` are for one of them" in outcome.err


def test_settings_without_an_accelerator_are_refused(generate: Run) -> None:
    outcome = generate("--accelerate-settings", "mine.json")
    assert outcome.code == 2
    assert "`--accelerate-settings` is 'mine.json', which has no effect without `--accelerate`" in outcome.err
