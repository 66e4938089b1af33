"""Files of other people: what they may hold, and that none of them is ever executed."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fastvid_pipelines.errors import CheckpointError
from fastvid_pipelines.foreign_weights import read_weights, weight_files
from safetensors.torch import save_file
from torch import Tensor


def read(location: Path, *nested: str) -> dict[str, Tensor]:
    return read_weights(weight_files(location, "model"), nested)


def archive(file: Path, program: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """What torch.save writes, with this pickle in it."""
    with zipfile.ZipFile(file, "w", compression) as opened:
        opened.writestr("archive/data.pkl", program)
        opened.writestr("archive/byteorder", "little")
        opened.writestr("archive/data/0", bytes(16))
        opened.writestr("archive/version", "3\n")
    return file


def calling(function: Callable[..., Any], *arguments: object) -> object:
    class Call:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
            return function, arguments

    return Call()


def bombs(mark: Path) -> dict[str, bytes]:
    """One program for each way in which a pickle calls something; all of them make the file `mark`."""
    shell, path = f"touch {mark}".encode(), str(mark).encode()
    return {
        "reduce": pickle.dumps(calling(os.system, shell.decode()), protocol=2),
        "reduce through stack_global": pickle.dumps(calling(os.system, shell.decode()), protocol=4),
        "inst": b"(S'" + shell + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'" + shell + b"'\no.",
        "newobj": b"\x80\x02cpathlib\nPath\nX" + len(path).to_bytes(4, "little") + path + b"\x85\x81.",
        "build": b"\x80\x02ctypes\nSimpleNamespace\n)R}S'a'\ncos\nsystem\nS'" + shell + b"'\n\x85Rsb.",
        "global of builtins": b"cbuiltins\nexec\n(S'import pathlib; pathlib.Path(\"" + path + b"\").touch()'\ntR.",
        "inside a dictionary of tensors": pickle.dumps({"weight": calling(os.system, shell.decode())}, protocol=2),
        "ext": b"\x80\x02\x82\x01.",
    }


KINDS = list(bombs(Path("mark")))


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"newobj", "ext"}))  # harmless classes; codes nobody registered
def test_torch_would_run_the_programs_if_it_were_let(tmp_path: Path, kind: str) -> None:
    """Else the tests below could not fail."""
    mark = tmp_path / "mark"
    file = archive(tmp_path / "model.pt", bombs(mark)[kind])
    torch.load(file, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("setting", [None, "1"])
@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.bin", "model.ckpt", "model.safetensors", "model.zip"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_program_runs(
    tmp_path: Path, kind: str, name: str, setting: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if setting is not None:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", setting)
    mark, file = tmp_path / "mark", tmp_path / name
    program = bombs(mark)[kind]
    nested = io.BytesIO()
    with zipfile.ZipFile(nested, "w") as inner:
        inner.writestr("archive/data.pkl", program)
    for content in (
        lambda: archive(file, program),
        lambda: file.write_bytes(program),
        lambda: archive(file, nested.getvalue()),
    ):
        content()
        with pytest.raises(CheckpointError) as caught:
            read_weights([file], "weight")
        assert str(file) in str(caught.value)
        assert "weights_only" not in str(caught.value)  # no advice to lower the guard
        assert not mark.exists()


@pytest.mark.parametrize("value", [[torch.zeros(2)], {"a": 1.0}, {"a": {"b": torch.zeros(2)}}, {1: torch.zeros(2)}, {}])
def test_anything_but_a_dictionary_of_tensors_is_refused(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"expected a dictionary of tensors|expected names and tensors only"):
        read(tmp_path)


def test_tensors_under_a_key_only_where_the_layout_has_them_there(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "model.pt")
    assert read(tmp_path, "state_dict").keys() == {"a"}
    with pytest.raises(CheckpointError, match="others are state_dict, epoch"):
        read(tmp_path)


def test_what_is_hidden_in_tensors_is_refused(tmp_path: Path) -> None:
    strange = {
        "sparse": torch.eye(3).to_sparse(),
        "whole numbers": torch.zeros(2, dtype=torch.int64),
        "nowhere": torch.zeros(2, device="meta"),
        "larger than its memory": torch.zeros(1).expand(10**12),
        "nothing but NaN": torch.full((2,), torch.nan),
        "infinite": torch.tensor([1.0, torch.inf]),
    }
    for name, tensor in strange.items():
        torch.save({"fine": torch.ones(1), name: tensor}, tmp_path / "model.pt")
        with pytest.raises(CheckpointError, match=name):
            read(tmp_path)


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    archive(tmp_path / "model.pt", pickle.dumps({}), zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed entries"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        ({0: 0}, zipfile.BadZipFile),  # the entry's signature
        ({6: 255}, NotImplementedError),  # the version that it asks for
        ({9: 8, 46: 255}, UnicodeDecodeError),  # its name, said to be UTF-8
    ],
)
def test_a_damaged_archive_is_named(tmp_path: Path, damage: dict[int, int], cause: type[Exception]) -> None:
    file = archive(tmp_path / "model.pt", pickle.dumps({}))
    content = bytearray(file.read_bytes())
    entry = content.index(b"PK\x01\x02")
    for place, value in damage.items():
        content[entry + place] = value
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged zip archive") as caught:
        read(tmp_path)
    assert isinstance(caught.value.__cause__, cause)


def test_tensors_that_share_memory_are_told_apart(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    torch.save({"a": whole, "b": whole, "c": whole[2:]}, tmp_path / "model.pt")
    found = read(tmp_path)
    assert len({tensor.untyped_storage().data_ptr() for tensor in found.values()}) == 3
    assert torch.equal(found["c"], whole[2:])


def shards(folder: Path, weight_map: dict[str, Any], **files: dict[str, Tensor]) -> Path:
    for name, tensors in files.items():
        save_file(tensors, folder / f"{name}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_shards_make_one_model(tmp_path: Path) -> None:
    parts = {"a": {"x": torch.ones(2)}, "b": {"y": torch.zeros(2), "z": torch.ones(1)}}
    shards(tmp_path, {"x": "a.safetensors", "y": "b.safetensors", "z": "b.safetensors"}, **parts)
    assert read(tmp_path).keys() == {"x", "y", "z"}
    assert [file.name for file in weight_files(tmp_path, "model")][1:] == ["a.safetensors", "b.safetensors"]


@pytest.mark.parametrize(
    "name",
    ["../a.safetensors", "/etc/passwd", "/tmp/a.safetensors", "sub/a.safetensors", "..\\a.safetensors", "a.pt", ""],
)
def test_an_index_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "a.safetensors")
    (tmp_path / "sub").mkdir()
    with pytest.raises(CheckpointError, match="expected a safetensors file of the same folder"):
        weight_files(shards(tmp_path / "sub", {"x": name}), "model")


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"x": "a.safetensors"}, "unexpected tensors y"),
        ({"x": "a.safetensors", "y": "a.safetensors", "z": "a.safetensors"}, "missing tensors z"),
        ({"x": "a.safetensors", "y": "gone.safetensors"}, r"unexpected tensors y|is missing"),
        ({"x": "a.safetensors", "y": "a.safetensors", "w": "b.safetensors"}, "another file holds too: x"),
        ({}, "expected a `weight_map`"),
        ({"x": 1}, "expected a `weight_map`"),
    ],
)
def test_shards_that_are_not_what_the_index_says_are_refused(
    tmp_path: Path, weight_map: dict[str, Any], message: str
) -> None:
    both = {"x": torch.ones(1), "y": torch.ones(1)}
    with pytest.raises(CheckpointError, match=message):
        read(shards(tmp_path, weight_map, a=both, b={"x": torch.ones(1), "w": torch.ones(1)}))


def test_at_most_ten_names_are_listed(tmp_path: Path) -> None:
    save_file({f"t{index:02}": torch.full((1,), torch.nan) for index in range(25)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"t08, t09 and 15 more$"):
        read(tmp_path)


def test_a_folder_without_weights_or_with_too_many_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"found none"):
        weight_files(tmp_path, "model")
    for ending in ("pt", "bin"):
        torch.save({"x": torch.ones(1)}, tmp_path / f"model.{ending}")
    with pytest.raises(CheckpointError, match=r"found model\.pt, model\.bin"):
        weight_files(tmp_path, "model")
    save_file({"x": torch.ones(1)}, tmp_path / "model.safetensors")
    assert weight_files(tmp_path, "model") == [tmp_path / "model.safetensors"]
