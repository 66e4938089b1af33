"""`generate --engine`: engines in the place of the pipeline's parts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastvid_pipelines import cli
from fastvid_pipelines.commands import engines
from fastvid_pipelines.errors import MissingPackageError

from .conftest import Outcome
from .fakes import build_pipeline

Run = Callable[..., Outcome]
PARTS = ("transformer", "refiner", "upsampler", "decoder")


class Engine:
    """The part itself, and a note of what it was opened with."""

    def __init__(self, eager: Any) -> None:
        self.eager = eager

    def __getattr__(self, name: str) -> Any:
        return getattr(self.eager, name)

    def __call__(self, *args: Any, **call: Any) -> Any:
        return self.eager(*args, **call)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path, str]]:
    calls: list[tuple[str, Path, str]] = []

    def find(group: str, name: str) -> type:
        assert group == "fastvid.engine"

        assert name == "folder"

        class Folder:
            def __init__(self, folder: Path, *, fallback: str) -> None:
                self.opened, self.records = (folder, fallback), {}

            def _open(self, part: str, eager: Any) -> Engine:
                calls.append((part, *self.opened))
                self.records[part] = {"dense": "key"}
                return Engine(eager)

            def transformer(self, eager: Any) -> Engine:
                return self._open("transformer", eager)

            def refiner(self, eager: Any) -> Engine:
                return self._open("refiner", eager)

            def upsampler(self, eager: Any) -> Engine:
                return self._open("upsampler", eager)

            def autoencoder(self, eager: Any) -> Engine:
                return self._open("decoder", eager)

        return Folder

    monkeypatch.setattr(cli.discovery, "find", find)
    return calls


@pytest.fixture
def run_here(tmp_path: Path, saved: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*flags: str) -> Outcome:
        fixed = ("generate", photo, "--prompt", "x", "--output", "out.mp4", "--model", saved)
        return Outcome(tmp_path, *fixed, *flags)

    return run


def folder_of(tmp_path: Path, *parts: str) -> Path:
    for part in parts:
        (tmp_path / "engines" / part).mkdir(parents=True)
    return tmp_path / "engines"


def test_each_part_that_has_a_folder_is_replaced(opened: list[tuple[str, Path, str]], tmp_path: Path) -> None:
    pipe = build_pipeline(refining=True)
    folder = folder_of(tmp_path, *PARTS)
    records = engines.put_in(pipe, folder, "eager")
    assert opened == [(part, folder, "eager") for part in PARTS]
    assert records == {part: {"dense": "key"} for part in PARTS}
    assert pipe.refiner is not None
    parts = (pipe.transformer, pipe.refiner.transformer, pipe.refiner.upsampler, pipe.autoencoder)
    assert all(isinstance(part, Engine) for part in parts)
    assert [type(part.eager).__name__ for part in parts] == [
        "FakeTransformer",
        "FakeTransformer",
        "FakeUpsampler",
        "FakeAutoencoder",
    ]


def test_others_stay(opened: list[tuple[str, Path, str]], tmp_path: Path) -> None:
    pipe = build_pipeline()
    autoencoder = pipe.autoencoder
    engines.put_in(pipe, folder_of(tmp_path, "transformer"), "error")
    assert pipe.autoencoder is autoencoder
    assert [part for part, _, _ in opened] == ["transformer"]


def test_the_sidecar_names_the_engines(
    opened: list[tuple[str, Path, str]], tmp_path: Path, saved: Path, photo: Path
) -> None:
    folder = folder_of(tmp_path, "transformer")
    fixed = ("generate", photo, "--prompt", "pan left", "--output", tmp_path / "out.mp4", "--model", saved)
    outcome = Outcome(tmp_path, *fixed, "--engine", folder, "--engine-fallback", "eager")
    assert outcome.code == 0, outcome.err
    sidecar = json.loads((tmp_path / "out.json").read_text())
    assert sidecar["engines"] == {"transformer": {"dense": "key"}}
    assert f"--engine {folder} --engine-fallback eager" in sidecar["command"]
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("parts", "flags", "message"),
    [
        ((), ("--engine", "engines"), "`--engine` is 'engines', which is no folder"),
        (
            ("other",),
            ("--engine", "engines"),
            "`--engine` is 'engines', which has none of the folders",
        ),
        (("refiner",), ("--engine", "engines"), "`--engine` has a refiner, which this pipeline has not"),
        ((), ("--engine-fallback", "eager"), "`--engine-fallback` is 'eager', which has no effect without `--engine`"),
    ],
)
def test_what_cannot_be_is_refused(
    run_here: Run, opened: list[tuple[str, Path, str]], parts: tuple[str, ...], flags: tuple[str, ...], message: str
) -> None:
    folder_of(Path(), *parts)
    outcome = run_here(*flags)
    assert outcome.code == 2
    assert message in outcome.err
    assert not opened
    assert not outcome.new


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.discovery, "installed", lambda group: {})
    with pytest.raises(MissingPackageError, match=r"no engine is installed; .*: pip install fastvid-export"):
        engines.put_in(build_pipeline(), folder_of(tmp_path, "transformer"), "error")
