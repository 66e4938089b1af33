"""The verb `doctor`, and verbs that other packages add."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, PackageNotFoundError
from pathlib import Path

import pytest
import torch
from fastvid_pipelines import cli, exit_codes

from .conftest import Outcome


def test_doctor_names_what_is_missing_with_the_line_that_installs_it(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, "doctor", "--json")
    report = json.loads(outcome.out)
    assert report["versions"]["torch"] == torch.__version__.split("+")[0]
    assert report["codecs"] == {"write h264": True, "read h264": True}
    assert "cpu" in report["devices"]
    assert outcome.code == (exit_codes.MISSING_DEPENDENCY if report["missing"] else 0)
    for package in ("fastvid-vae", "fastvid-dit"):
        assert (package in report["versions"]) != (f"{package}: pip install {package}" in report["missing"])


def test_doctor_tells_a_part_named_none_from_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [EntryPoint("none", "a:b", cli.discovery.ACCELERATORS)]
    monkeypatch.setattr(cli.discovery, "entry_points", lambda group: [entry for entry in found if entry.group == group])
    lines = Outcome(tmp_path, "doctor").out.splitlines()
    assert "  fastvid.accelerator: 'none'" in lines
    assert "  fastvid.transformer: nothing installed" in lines


@pytest.mark.parametrize(
    ("present", "listed"),
    [((), True), (("onnxruntime",), False), (("onnxruntime-gpu",), False)],
)
def test_one_onnxruntime_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: tuple[str, ...], listed: bool
) -> None:
    def version(name: str) -> str:
        if name in present:
            return "1.0"
        raise PackageNotFoundError(name)

    monkeypatch.setattr("fastvid_pipelines.commands.doctor.version", version)
    lines = json.loads(Outcome(tmp_path, "doctor", "--json").out)["optional"]
    assert any("'fastvid-export[rtx]'" in line for line in lines)
    assert any("onnxruntime" in line for line in lines) == listed


@pytest.fixture
def restored_verbs() -> Iterator[None]:
    before = list(cli.app.registered_commands)
    yield
    cli.app.registered_commands[:] = before


def test_another_package_adds_a_verb_that_is_loaded_when_it_is_called(tmp_path: Path, restored_verbs: None) -> None:
    loaded = []

    def shout(word: str, times: int = 1) -> None:
        if times < 1:
            raise ValueError(f"`times` is {times}; expected at least 1")
        sys.stdout.write(" ".join([word.upper()] * times) + "\n")

    def load() -> Callable[..., None]:
        loaded.append(True)
        return shout

    cli._add_command("shout", "fastvid-other", load)
    overview = Outcome(tmp_path, "--help")
    assert "From fastvid-other" in overview.out
    assert loaded == []
    assert Outcome(tmp_path, "shout", "hey", "--times", 2).out == "HEY HEY\n"
    assert Outcome(tmp_path, "shout", "hey", "--times", 0).code == exit_codes.USAGE
    assert Outcome(tmp_path, "shout").code == exit_codes.USAGE
    assert "--times" in Outcome(tmp_path, "shout", "--help").out


def test_no_other_package_takes_the_place_of_a_verb(
    tmp_path: Path, restored_verbs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [EntryPoint(name, "os:abort", cli.discovery.COMMANDS) for name in ("doctor", "other")]
    monkeypatch.setattr(cli.discovery, "entry_points", lambda group: entries)
    before = set(cli.OWN_VERBS)
    assert before == {command.callback.__name__ for command in cli.app.registered_commands}
    cli._add_commands()
    assert [command.name for command in cli.app.registered_commands if command.name] == ["other"]
    assert "codecs" in json.loads(Outcome(tmp_path, "doctor", "--json").out)


def test_the_command_line_starts_without_torch() -> None:
    program = "import sys; import fastvid_pipelines.cli; print('torch' in sys.modules, 'av' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "False False\n"
