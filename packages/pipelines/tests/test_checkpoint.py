"""A folder is read whole and right, or refused by name; it is written whole or not at all."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fastvid_pipelines import checkpoint
from fastvid_pipelines.encoders.byte import ByteTextEncoder
from fastvid_pipelines.errors import CheckpointError
from safetensors.torch import load_file, save_file

from .fakes import build_text_encoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_text_encoder().save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


def change_config(folder: Path, change: Callable[[dict[str, object]], None]) -> None:
    values = json.loads((folder / "config.json").read_text())
    change(values)
    (folder / "config.json").write_text(json.dumps(values))


def poison(state: dict[str, torch.Tensor]) -> None:
    state["norm.weight"][0] = float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("norm.weight"), "missing tensors norm.weight, unexpected tensors none"),
        (lambda state: state.update(more=torch.zeros(1)), "missing tensors none, unexpected tensors more"),
        (lambda state: state.update({"norm.weight": torch.zeros(9)}), r"norm.weight \(9,\), expected \(8,\)"),
        (
            lambda state: state.update({"norm.weight": torch.zeros(8, dtype=torch.int64)}),
            r"not floating point norm.weight \(I64\)",
        ),
        (poison, "NaN or infinity in norm.weight"),
    ],
    ids=["missing", "extra", "misshapen", "integer", "nan"],
)
def test_wrong_tensors_are_named(folder: Path, change: Callable[[dict[str, torch.Tensor]], None], message: str) -> None:
    change_weights(folder, change)
    with pytest.raises(CheckpointError, match=message):
        ByteTextEncoder.from_pretrained(folder)


def test_without_the_check_nan_weights_would_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_weights(folder, poison)
    monkeypatch.setattr(checkpoint, "_check_finite", lambda state, where: None)
    assert ByteTextEncoder.from_pretrained(folder).norm.weight.isnan().any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.pop("num_layers"), "num_layers: Field required"),
        (lambda values: values.update(colour=1), "colour: Unexpected keyword argument"),
        (lambda values: values.update(num_layers="two"), "num_layers: Input should be a valid integer"),
        (lambda values: values.update(num_layers=True), "num_layers: Input should be a valid integer"),
        (lambda values: values.update(num_layers=10**9), "`num_layers` is 1000000000; expected 1 to 256"),
        (lambda values: values.pop("_class_name"), "describes None"),
    ],
    ids=["missing", "unknown", "text", "bool", "huge", "class"],
)
def test_wrong_configurations_are_named(
    folder: Path, change: Callable[[dict[str, object]], None], message: str
) -> None:
    change_config(folder, change)
    with pytest.raises(CheckpointError, match=message):
        ByteTextEncoder.from_pretrained(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"a": 1, "a": 2}', "[" * 100_000, '{"a": "' + "x" * (checkpoint.LARGEST_JSON + 1) + '"}']
)
def test_damaged_json_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        ByteTextEncoder.from_pretrained(folder)


def header(values: dict[str, object], data: bytes = b"") -> bytes:
    text = json.dumps(values).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        struct.pack("<Q", 0),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 200_000_000) + b"{}",
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\x00" * 4),
        header({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}}, b"\x00" * 8),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\x00" * 8 + b"PK"),
        header({"a": {"dtype": "X9", "shape": [2], "data_offsets": [0, 8]}}, b"\x00" * 8),
        b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.",
        b"PK\x03\x04" + b"\x00" * 100,
    ],
    ids=["empty", "short", "no-header", "2^63", "200MB", "cut", "overflow", "polyglot", "dtype", "pickle", "zip"],
)
def test_hostile_weights_are_refused_and_run_nothing(
    folder: Path, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "model.safetensors").write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        ByteTextEncoder.from_pretrained(folder)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("share", [0.02, 0.3, 0.99])
def test_a_truncated_file_is_refused(folder: Path, share: float) -> None:
    file = folder / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="truncated or no safetensors file"):
        ByteTextEncoder.from_pretrained(folder)


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./nowhere", "nowhere", "a/b/c"])
def test_a_missing_folder_is_no_repository_name(name: str) -> None:
    with pytest.raises(CheckpointError, match="no such folder, and no repository name"):
        checkpoint.find_folder(name)


def test_a_repository_that_is_not_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"`path_or_repo_id` is 'owner/name'.*local cache"):
        checkpoint.find_folder("owner/name", local_files_only=True)


def test_an_existing_folder_is_not_overwritten(folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"`directory` is .*no empty folder; name a new one"):
        build_text_encoder(seed=1).save_pretrained(folder)
    assert (folder / "model.safetensors").read_bytes() == before


def test_an_interrupted_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        build_text_encoder().save_pretrained(tmp_path / "encoder")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    encoder = build_text_encoder()
    with torch.no_grad():
        encoder.norm.weight[0] = float("inf")
    with pytest.raises(CheckpointError, match=r"NaN or infinity in norm\.weight"):
        encoder.save_pretrained(tmp_path / "encoder")
    assert list(tmp_path.iterdir()) == []
