"""Model folders: config.json with safetensors for the parts that live in this package, model_index.json for pipelines.

Reading is strict and never unpickles; writing is atomic.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fastvid_pipelines.errors import CheckpointError
from fastvid_pipelines.outputs import sync

CONFIG_NAME = "config.json"
INDEX_NAME = "model_index.json"
WEIGHTS_NAME = "model.safetensors"
LARGEST_JSON = 16 * 2**20
NAMES_SHOWN = 10
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")

Config = TypeVar("Config")


def find_folder(
    path_or_repo_id: str | os.PathLike[str],
    *,
    subfolder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    file: str = CONFIG_NAME,
) -> Path:
    """The local folder that holds `file`: the path itself, or a copy of a repository of the hub."""
    if not isinstance(path_or_repo_id, str | os.PathLike) or path_or_repo_id == "":
        raise CheckpointError(
            f"`path_or_repo_id` is {path_or_repo_id!r}; expected a folder or a repository (owner/name)"
        )
    path = Path(path_or_repo_id)
    name = os.fspath(path_or_repo_id)
    if not os.path.exists(path):  # of a name that is too long, Path.exists raises
        if path.is_absolute() or name.startswith(".") or name.count("/") != 1:
            raise CheckpointError(f"`path_or_repo_id` is {name!r}: no such folder, and no repository name (owner/name)")
        from huggingface_hub import snapshot_download  # half a second, which a folder that is here need not wait for

        prefix = f"{subfolder}/" if subfolder else ""
        try:
            path = Path(
                snapshot_download(
                    name,
                    revision=revision,
                    allow_patterns=[f"{prefix}*.json", f"{prefix}*.safetensors", f"{prefix}*.model"],
                    local_files_only=local_files_only,
                )
            )
        except (OSError, ValueError) as error:  # what the hub's client raises: unknown, private, offline, invalid name
            where = "in the local cache (`local_files_only` is set)" if local_files_only else "on the hub"
            raise CheckpointError(
                f"`path_or_repo_id` is {name!r}: no such folder, not found {where}: {error}"
            ) from error
    folder = path / subfolder if subfolder else path
    if not (folder / file).is_file():
        raise CheckpointError(f"`path_or_repo_id` is {name!r}: {folder} holds no {file}")
    return folder


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: missing, too large, no valid JSON, a key twice, or no object.
    """
    if not file.is_file():
        raise CheckpointError(f"{file} is missing")
    if file.stat().st_size > LARGEST_JSON:
        raise CheckpointError(f"{file} has {file.stat().st_size} bytes; at most {LARGEST_JSON} are read")
    try:
        values = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is no valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: expected an object, got {type(values).__name__}")
    return values


def read_config(folder: Path, config_class: type[Config], class_name: str) -> Config:
    """The configuration of a part; the folder must be one of `class_name`."""
    values = read_json(folder / CONFIG_NAME)
    found = values.pop("_class_name", None)
    if found != class_name:
        raise CheckpointError(f"{folder / CONFIG_NAME} describes {found!r}; expected `_class_name` {class_name!r}")
    return build_record(values, config_class, str(folder / CONFIG_NAME))


def build_record(values: dict[str, Any], record_class: type[Config], where: str) -> Config:
    """A record from a file; unknown and missing keys, wrong types and values out of range are errors."""
    try:
        return TypeAdapter(record_class).validate_json(json.dumps(values))
    except ValidationError as error:
        faults = [": ".join([*map(str, fault["loc"]), fault["msg"]]) for fault in error.errors()]
        raise CheckpointError(f"{where}: {'; '.join(faults)}") from error


def load_weights(model: nn.Module, folder: Path, *, device: torch.device | str | None) -> None:
    """Fill a model built on the meta device, after the file's header has shown that every tensor fits."""
    file = folder / WEIGHTS_NAME
    header = _read_header(file)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    missing, unexpected = sorted(expected.keys() - header.keys()), sorted(header.keys() - expected.keys())
    if missing or unexpected:
        raise CheckpointError(f"{file}: missing tensors {listed(missing)}, unexpected tensors {listed(unexpected)}")
    misshapen = [
        f"{name} {header[name][1]}, expected {shape}" for name, shape in expected.items() if header[name][1] != shape
    ]
    if misshapen:
        raise CheckpointError(f"{file}: misshapen tensors {listed(misshapen)}")
    strange = [f"{name} ({kind})" for name, (kind, _) in header.items() if kind not in FLOAT_DTYPES]
    if strange:
        raise CheckpointError(f"{file}: tensors that are not floating point {listed(strange)}")
    model.to_empty(device=device or "cpu")
    with safe_open(file, framework="pt") as opened:
        model.load_state_dict({name: opened.get_tensor(name) for name in expected}, strict=True)
    _check_finite(model.state_dict(), str(file))


def save(model: nn.Module, config: Any, directory: str | os.PathLike[str]) -> None:
    """Write config.json and model.safetensors into a new folder.

    Raises:
        CheckpointError: a weight is not finite; such a folder could not be read back.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    _check_finite(state, "the model")
    with new_folder(directory) as folder:
        write_json(folder / CONFIG_NAME, {"_class_name": type(model).__name__, **asdict(config)})
        save_file(state, folder / WEIGHTS_NAME, metadata={"format": "pt"})


def write_json(file: Path, values: dict[str, Any]) -> None:
    """Write an object, indented."""
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


@contextmanager
def new_folder(directory: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to fill; it takes its name when the block ends well and is gone otherwise.

    Raises:
        ValueError: something other than an empty folder is there already: replacing it could not be all or nothing.
    """
    target = Path(directory)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(
            f"`directory` is {os.fspath(directory)!r}, which exists and is no empty folder; name a new one"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.part"
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                sync(file)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_header(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Data type and shape of every tensor; the library checks that they cover the file exactly."""
    if not file.is_file():
        raise CheckpointError(f"{file} is missing")
    try:
        with safe_open(file, framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  # not a mapping
            return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file} is truncated or no safetensors file: {error}") from error


def _check_finite(state: dict[str, Tensor], where: str) -> None:
    damaged = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if damaged:
        raise CheckpointError(f"{where}: NaN or infinity in {listed(damaged)}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key appears twice")
    return values


def listed(names: list[str]) -> str:
    """The first ten, and how many more there are."""
    if not names:
        return "none"
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
