"""The verb `convert`, with a layout that renames one tensor; those of real models are tested where they are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from fastvid_pipelines import discovery
from fastvid_pipelines.provenance import file_sha256
from safetensors.torch import load_file, save_file
from torch import Tensor

from .conftest import Outcome

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ORIGIN = ("--source", "a drawer", "--revision", "2", "--licence", "MIT")


class FakeModel:
    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = dict(weights)

    def save_pretrained(self, directory: Path) -> None:
        save_file(self.weights, directory / "model.safetensors")
        (directory / "config.json").write_text("{}")


class FakeLayout:
    ours, file_stem, nested = "ours", "their_model", ("state_dict",)

    def load(self, state_dict: Mapping[str, Tensor], config: Mapping[str, Any] | None) -> FakeModel:
        if state_dict.keys() != {"theirs"}:
            raise ValueError(f"missing or left over: {sorted(state_dict)}")
        return FakeModel({"ours": state_dict["theirs"]})

    def start(
        self, state_dict: Mapping[str, Tensor], config: Mapping[str, Any] | None, target: str, seed: int
    ) -> FakeModel:
        if target != "LARGE":
            raise ValueError(f"`target` is {target!r}; expected LARGE")
        return FakeModel({"ours": state_dict["theirs"], "drawn": torch.full((1,), float(seed))})

    def export(self, folder: Path, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        first, second = state_dict["ours"].chunk(2)
        return {"theirs": state_dict["ours"], "first": first, "second": second}, {"of": "them"}


@pytest.fixture(autouse=True)
def layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"theirs": FakeLayout(), "others": FakeLayout()}
    monkeypatch.setattr(discovery, "installed", lambda group: known)
    monkeypatch.setattr(discovery, "find", lambda group, name: known[name])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    save_file({"theirs": torch.arange(4.0)}, tmp_path / "src" / "their_model.safetensors")
    (tmp_path / "src" / "config.json").write_text('{"of": "them"}')
    return tmp_path / "src"


def run(tmp_path: Path, src: object, *words: object, dst: str = "dst") -> Outcome:
    return Outcome(tmp_path, "convert", src, tmp_path / dst, "--from", "theirs", "--to", "ours", *words)


def test_what_is_written_says_where_it_comes_from(tmp_path: Path, folder: Path) -> None:
    outcome = run(tmp_path, folder, *ORIGIN, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.new == ["dst"]
    record = json.loads((tmp_path / "dst" / "source.json").read_text())
    assert json.loads(outcome.out) == {"output": str(tmp_path / "dst"), **record}
    assert (record["source"], record["revision"], record["licence"]) == ("a drawer", "2", "MIT")
    assert (record["from"], record["to"], record["start"], record["made_from"]) == ("theirs", "ours", None, None)
    names = ("their_model.safetensors", "config.json")
    assert record["files"] == {name: file_sha256(folder / name) for name in names}
    assert record["versions"]["torch"] == torch.__version__
    assert torch.equal(load_file(tmp_path / "dst" / "model.safetensors")["ours"], torch.arange(4.0))


def test_the_way_back_knows_the_origin_and_writes_their_names(tmp_path: Path, folder: Path) -> None:
    run(tmp_path, folder, *ORIGIN)
    words = ("convert", tmp_path / "dst", tmp_path / "back", "--from", "ours", "--to", "theirs")
    outcome = Outcome(tmp_path, *words)
    assert outcome.code == 0, outcome.err
    assert outcome.out.endswith("back: theirs from ours; a drawer, revision 2, licence MIT\n")
    tensors = load_file(tmp_path / "back" / "their_model.safetensors")
    assert torch.equal(tensors["second"], torch.tensor([2.0, 3.0]))  # of one tensor with `first`, and not lost
    assert tensors.keys() == {"theirs", "first", "second"}
    assert json.loads((tmp_path / "back" / "config.json").read_text()) == {"of": "them"}
    record = json.loads((tmp_path / "back" / "source.json").read_text())
    assert record["made_from"] == json.loads((tmp_path / "dst" / "source.json").read_text())


@pytest.mark.parametrize("left_out", range(3))
def test_an_origin_that_nobody_tells_is_asked_for(tmp_path: Path, folder: Path, left_out: int) -> None:
    words = [word for index in range(3) if index != left_out for word in ORIGIN[2 * index : 2 * index + 2]]
    outcome = run(tmp_path, folder, *words)
    assert outcome.code == 2
    assert f"`{ORIGIN[2 * left_out]}` must be given" in outcome.err
    assert outcome.new == []


def test_a_larger_model_begins_with_the_weights(tmp_path: Path, folder: Path) -> None:
    assert run(tmp_path, folder, *ORIGIN, "--config", "LARGE", "--seed", 3).code == 0
    assert load_file(tmp_path / "dst" / "model.safetensors")["drawn"] == 3
    assert json.loads((tmp_path / "dst" / "source.json").read_text())["start"] == {"config": "LARGE", "seed": 3}
    assert "`--config` is 'HUGE'" in run(tmp_path, folder, *ORIGIN, "--config", "HUGE", dst="no").err
    assert "`--seed` is 3" in run(tmp_path, folder, *ORIGIN, "--seed", 3, dst="no").err
    words = ("convert", tmp_path / "dst", tmp_path / "no", "--from", "ours", "--to", "theirs", "--config", "LARGE")
    assert "`--config` is 'LARGE'" in Outcome(tmp_path, *words).err


@pytest.mark.parametrize(
    ("from_layout", "to_layout", "message"),
    [
        ("theirs", "others", "convert to a layout of ours first"),
        ("theirs", "another", "`--to` is 'another'; 'theirs' becomes 'ours'"),
        ("another", "theirs", "`--from` is 'another'; 'theirs' is made of 'ours'"),
    ],
)
def test_layouts_that_do_not_go_together_are_refused(
    tmp_path: Path, folder: Path, from_layout: str, to_layout: str, message: str
) -> None:
    words = ("convert", folder, tmp_path / "dst", "--from", from_layout, "--to", to_layout, *ORIGIN)
    outcome = Outcome(tmp_path, *words)
    assert (outcome.code, outcome.new) == (2, [])
    assert message in outcome.err


def test_nothing_is_overwritten(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "dst").mkdir()
    assert "`DST` is" in run(tmp_path, folder, *ORIGIN).err
    assert list((tmp_path / "dst").iterdir()) == []
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert "there already" in run(tmp_path, folder, *ORIGIN, dst="link").err
    assert "there is no folder" in run(tmp_path, folder, *ORIGIN, dst="gone/dst").err


def test_what_fails_leaves_nothing_behind(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"other": torch.ones(1)}, folder / "their_model.safetensors")
    outcome = run(tmp_path, folder, *ORIGIN)
    assert (outcome.code, outcome.new) == (2, [])
    assert "left over: ['other']" in outcome.err

    def stop(self: FakeModel, directory: Path) -> None:
        (directory / "model.safetensors").write_bytes(b"half")
        raise OSError("No space left on device")

    save_file({"theirs": torch.ones(1)}, folder / "their_model.safetensors")
    monkeypatch.setattr(FakeModel, "save_pretrained", stop)
    outcome = run(tmp_path, folder, *ORIGIN)
    assert (outcome.code, outcome.new) == (1, [])


def test_a_file_that_is_no_weights_is_refused_and_never_run(tmp_path: Path, folder: Path) -> None:
    mark = tmp_path / "mark"
    (folder / "bomb.pt").write_bytes(f"cos\nsystem\n(S'touch {mark}'\ntR.".encode())
    outcome = run(tmp_path, folder / "bomb.pt", *ORIGIN)
    assert (outcome.code, outcome.new) == (2, [])
    assert "no zip archive" in outcome.err
    assert not mark.exists()


def test_a_pickle_of_ours_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    torch.save({"state_dict": {"ours": torch.ones(2)}}, tmp_path / "src" / "model.pt")
    words = ("convert", tmp_path / "src", tmp_path / "dst", "--from", "ours", "--to", "theirs", *ORIGIN)
    assert "names and tensors only; others are state_dict" in Outcome(tmp_path, *words).err


@pytest.fixture
def hub(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The copy of a repository where the hub's client puts one."""
    copy = tmp_path / "snapshots" / COMMIT
    copy.parent.mkdir()
    folder.rename(copy)
    (copy / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    asked: list[dict[str, Any]] = []

    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append({"name": name, "revision": revision, "allow_patterns": allow_patterns})
        return str(copy)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return copy


def test_a_repository_says_its_commit_and_licence(tmp_path: Path, hub: Path) -> None:
    outcome = run(tmp_path, "owner/name", "--revision", "main", "--json")
    assert outcome.code == 0, outcome.err
    record = json.loads(outcome.out)
    assert (record["source"], record["revision"], record["licence"]) == ("owner/name", COMMIT, "apache-2.0")


@pytest.mark.parametrize("text", ["# A model\n", "---\nlicense: other\n---\n", "---\nlicense:\n- mit\n---\n"])
def test_a_repository_that_is_silent_on_its_licence_is_not_guessed_at(tmp_path: Path, hub: Path, text: str) -> None:
    (hub / "README.md").write_text(text)
    assert "`--licence` must be given" in run(tmp_path, "owner/name").err
    record = json.loads(run(tmp_path, "owner/name", "--licence", "theirs", "--json").out)
    assert record["licence"] == "theirs"


def test_a_repository_has_its_own_name(tmp_path: Path, hub: Path) -> None:
    assert "`--source` is 'mine'" in run(tmp_path, "owner/name", "--source", "mine").err


def test_without_a_network_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, **others: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    outcome = run(tmp_path, "owner/name")
    assert (outcome.code, outcome.new) == (2, [])
    assert (
        "`SRC` is 'owner/name': no such file or folder here, and not found on the hub, or not reachable" in outcome.err
    )


@pytest.mark.parametrize("src", ["", "./gone", "/gone/too", "gone", "a/b/c"])
def test_a_source_that_is_none_is_refused(tmp_path: Path, src: str) -> None:
    outcome = run(tmp_path, src, *ORIGIN)
    assert outcome.code == 2
    assert "`SRC` is" in outcome.err
