"""Model folders: config.json and safetensors. Reading is strict, never unpickles, and allocates nothing before the
folder has proved to fit the model; writing is atomic."""

import json
import os
import shutil
import sys
import types
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from huggingface_hub import load_torch_model, save_torch_model, snapshot_download
from safetensors import SafetensorError, safe_open
from torch import nn

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
LARGEST_JSON = 16 * 2**20
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")
NAMES_SHOWN = 10

Config = TypeVar("Config")
Model = TypeVar("Model", bound=nn.Module)


class CheckpointError(ValueError):
    """A model folder that is incomplete, damaged or of another model."""


def save(model: nn.Module, config: Any, directory: str | os.PathLike[str]) -> None:
    """Write config.json and the weights (in shards above 5 GB); a crash leaves no half-written file behind.

    A new folder appears whole. In an existing one the files are replaced one by one, each of them at once.

    Raises:
        CheckpointError: a weight is not finite; such a folder could not be read back.
    """
    _check_finite(model, "the model")
    target = Path(directory)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.part"
    temporary.mkdir()
    try:
        text = json.dumps({"_class_name": type(model).__name__, **asdict(config)}, indent=2)
        (temporary / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
        save_torch_model(model, temporary)
        _sync(temporary)
        if target.exists():
            _replace_files(temporary, target)
        else:
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def find_folder(
    path_or_repo_id: str | os.PathLike[str], *, subfolder: str | None, revision: str | None, local_files_only: bool
) -> Path:
    """The local folder of a model: the path itself, or a download (or cached copy) of a repository of the hub."""
    path = Path(path_or_repo_id)
    if path.exists():
        return _existing(path / subfolder if subfolder else path)
    name = os.fspath(path_or_repo_id)
    if path.is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise CheckpointError(f"`path_or_repo_id` is {name!r}: no such folder, and no repository name (owner/name)")
    prefix = f"{subfolder}/" if subfolder else ""
    try:
        root = snapshot_download(
            name,
            revision=revision,
            allow_patterns=[prefix + CONFIG_NAME, prefix + "*.safetensors", prefix + INDEX_NAME],
            local_files_only=local_files_only,
        )
    except (OSError, ValueError) as error:  # what huggingface_hub raises: unknown, private, offline, invalid name
        where = "in the local cache (`local_files_only` is set)" if local_files_only else "on the hub, or not reachable"
        raise CheckpointError(
            f"`path_or_repo_id` is {name!r}: no such folder here, and not found {where}: {error}"
        ) from error
    return _existing(Path(root, subfolder) if subfolder else Path(root))


def class_name(folder: Path) -> str:
    """Of the model in a folder, as its config.json says it."""
    return str(_read_json(folder / CONFIG_NAME).get("_class_name"))


def read_config(folder: Path, config_class: type[Config], class_name: str) -> Config:
    """The configuration in config.json; unknown and missing keys and wrong types are errors."""
    values = _read_json(folder / CONFIG_NAME)
    found = values.pop("_class_name", None)
    if found != class_name:
        raise CheckpointError(f"{folder / CONFIG_NAME} describes {found!r}; expected `_class_name` {class_name!r}")
    names = [field.name for field in fields(config_class)]  # type: ignore[arg-type]  # every config is a dataclass
    unknown, missing = sorted(set(values) - set(names)), [name for name in names if name not in values]
    if unknown or missing:
        raise CheckpointError(f"{folder / CONFIG_NAME}: unknown keys {_some(unknown)}, missing keys {_some(missing)}")
    hints = get_type_hints(config_class)
    try:
        return config_class(**{name: _typed(values[name], hints[name], name) for name in names})
    except ValueError as error:
        raise CheckpointError(f"{folder / CONFIG_NAME}: {error}") from error


def build_empty(model_class: Callable[[Config], Model], config: Config) -> Model:
    """The model without memory for its weights."""
    try:
        with torch.device("meta"):
            return model_class(config)
    except ValueError as error:
        raise CheckpointError(f"{CONFIG_NAME} describes a model that cannot be built: {error}") from error


def load_weights(
    model: nn.Module, folder: Path, *, dtype: torch.dtype | None, device: torch.device | str | None
) -> None:
    """Fill `model`, built on the meta device, after the headers of the files have shown that every tensor fits."""
    headers: dict[str, tuple[str, tuple[int, ...]]] = {}
    for file in _weight_files(folder):
        headers.update(_read_header(file))
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    missing, unexpected = sorted(expected.keys() - headers.keys()), sorted(headers.keys() - expected.keys())
    if missing or unexpected:
        raise CheckpointError(f"{folder}: missing tensors {_some(missing)}, unexpected tensors {_some(unexpected)}")
    misshapen = [
        f"{name} {headers[name][1]}, expected {shape}" for name, shape in expected.items() if headers[name][1] != shape
    ]
    if misshapen:
        raise CheckpointError(f"{folder}: misshapen tensors {_some(misshapen)}")
    strange = [f"{name} ({kind})" for name, (kind, _) in headers.items() if kind not in FLOAT_DTYPES]
    if strange:
        raise CheckpointError(f"{folder}: tensors that are not floating point {_some(strange)}")
    model.to(dtype or torch.float32).to_empty(device=device or "cpu")
    weights = folder if (folder / INDEX_NAME).is_file() else folder / WEIGHTS_NAME
    load_torch_model(model, weights, strict=True, safe=True)
    _check_finite(model, str(folder))
    model.eval()


def _existing(folder: Path) -> Path:
    if (folder / CONFIG_NAME).is_file():
        return folder
    hint = ""
    if (folder / "model_index.json").is_file():
        hint = "; it is the folder of a pipeline, name the part with `subfolder`"
    raise CheckpointError(f"{folder} holds no {CONFIG_NAME}{hint}")


def _weight_files(folder: Path) -> list[Path]:
    if not (folder / INDEX_NAME).is_file():
        return [folder / WEIGHTS_NAME]
    shards = _read_json(folder / INDEX_NAME).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise CheckpointError(f"{folder / INDEX_NAME}: expected a `weight_map` from tensor names to file names")
    for name in shards.values():
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise CheckpointError(
                f"{folder / INDEX_NAME} names {name!r}; expected a safetensors file of the same folder"
            )
    return [folder / name for name in sorted(set(shards.values()))]


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


def _read_json(file: Path) -> dict[str, Any]:
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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key appears twice")
    return values


def _typed(value: Any, hint: Any, name: str) -> Any:
    """`value` from JSON as the annotation `hint` wants it; lists become tuples."""
    if hint is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(item, arguments[0], name) for item in value)
    if origin is Literal and isinstance(value, str) and value in arguments:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _typed(value, next(kind for kind in arguments if kind is not type(None)), name)
    if origin is None and type(value) is hint:
        return value
    raise ValueError(f"`{name}` holds {str(value)[:80]!r} ({type(value).__name__}); expected {hint}")


def _check_finite(model: nn.Module, where: str) -> None:
    bad = [name for name, tensor in model.state_dict().items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise CheckpointError(f"{where}: tensors with NaN or infinite values {_some(bad)}")


def _replace_files(source: Path, target: Path) -> None:
    new = {file.name for file in source.iterdir()}
    for file in sorted(source.iterdir(), key=lambda file: file.name == CONFIG_NAME):
        os.replace(file, target / file.name)
    for stale in [*target.glob("model-*-of-*.safetensors"), target / WEIGHTS_NAME, target / INDEX_NAME]:
        if stale.name not in new:
            stale.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("r+b") as opened:  # Windows flushes only what may be written
            os.fsync(opened.fileno())


def _some(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
