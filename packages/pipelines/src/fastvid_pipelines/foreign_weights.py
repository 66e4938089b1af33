"""Weights as other people publish them: safetensors, whole or in shards, and pickles.

This is the only place that opens a pickle, and only the verb `convert` comes here. torch reads it with
`weights_only=True`: a small interpreter that builds tensors and containers and calls nothing else. What it gives is
checked as any other data.
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fastvid_pipelines.checkpoint import listed, read_json
from fastvid_pipelines.errors import CheckpointError

PICKLES = (".pt", ".pth", ".pkl", ".bin", ".ckpt")
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

StateDict = dict[str, Tensor]


def weight_files(location: Path, stem: str) -> list[Path]:
    """The files of one model: `location` itself, or those in it, named `stem`; an index comes before its shards.

    Raises:
        CheckpointError: none, pickles of several endings, or an index that names anything but safetensors beside it.
    """
    if location.is_file():
        return [location]
    index = location / f"{stem}.safetensors.index.json"
    if index.is_file():
        return [index, *(location / name for name in sorted(set(_weight_map(index).values())))]
    whole = location / f"{stem}.safetensors"
    if whole.is_file():
        return [whole]
    pickles = [location / f"{stem}{ending}" for ending in PICKLES if (location / f"{stem}{ending}").is_file()]
    if len(pickles) != 1:
        names = f"{index.name}, {whole.name} or {stem} with one of {', '.join(PICKLES)}"
        found = ", ".join(file.name for file in pickles) or "none"
        raise CheckpointError(f"{location}: expected {names}; found {found}. Or name the file itself")
    return pickles


def read_weights(files: list[Path], nested: Sequence[str]) -> StateDict:
    """The tensors in what `weight_files` found; memory is taken only as they are used.

    Args:
        files: the files.
        nested: where a pickle may hold the tensors, such as `state_dict` or `state_dict.generator`: the first place
            that holds something; where none does, it is the dictionary of them.
    Raises:
        CheckpointError: a damaged file, something other than dense tensors of floats, NaN, a tensor twice or elsewhere
            than the index says.
    """
    index = files[0] if files[0].name.endswith(".index.json") else None
    state: StateDict = {}
    for file in files if index is None else files[1:]:
        found = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file, nested)
        twice = sorted(found.keys() & state.keys())
        if twice:
            raise CheckpointError(f"{file}: tensors that another file holds too: {listed(twice)}")
        if index is not None:
            named = {name for name, shard in _weight_map(index).items() if shard == file.name}
            missing, unexpected = sorted(named - found.keys()), sorted(found.keys() - named)
            if missing or unexpected:
                raise CheckpointError(
                    f"{file} is not what {index.name} says: missing tensors {listed(missing)}, "
                    f"unexpected tensors {listed(unexpected)}"
                )
        _check(found, file)
        state |= found
    return state


def _weight_map(index: Path) -> dict[str, str]:
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise CheckpointError(f"{index}: expected a `weight_map` from tensor names to file names")
    for name in shards.values():
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{index} names {name!r}; expected a safetensors file of the same folder")
    return shards


def _read_safetensors(file: Path) -> StateDict:
    if not file.is_file():
        raise CheckpointError(f"{file} is missing")
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file} is truncated or no safetensors file: {error}") from error


def _read_pickle(file: Path, nested: Sequence[str]) -> StateDict:
    if file.suffix not in PICKLES:
        raise CheckpointError(f"{file}: weights are read from .safetensors and from {', '.join(PICKLES)}")
    _check_archive(file)
    try:
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except MemoryError:
        raise
    except Exception as error:  # a hostile program may end in any of them; their texts advise to lower the guard
        raise CheckpointError(
            f"{file} holds more than tensors, or is damaged ({type(error).__name__}); such a file is never executed"
        ) from None
    loaded = next((found for place in nested if (found := _at(loaded, place))), loaded)
    if not isinstance(loaded, dict) or not loaded:
        raise CheckpointError(f"{file} holds {type(loaded).__name__}; expected a dictionary of tensors")
    strange = [str(name)[:80] for name, value in loaded.items() if not _is_named_tensor(name, value)]
    if strange:
        raise CheckpointError(f"{file}: expected names and tensors only; others are {listed(strange)}")
    return _separate(loaded)


def _at(loaded: Any, place: str) -> Any:
    """The dictionary at a place; None where there is none."""
    for key in place.split("."):
        loaded = loaded.get(key) if isinstance(loaded, dict) else None
    return loaded if isinstance(loaded, dict) else None


def _check_archive(file: Path) -> None:
    """Only what torch.save writes today: stored, so that no file takes more memory than it takes on the disk."""
    if not zipfile.is_zipfile(file):
        raise CheckpointError(f"{file} is no zip archive, as torch.save writes since torch 1.6")
    try:
        with zipfile.ZipFile(file) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
    # What a damaged directory ends in; beside its own error, of names that are no text and of versions yet to come.
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError) as error:
        raise CheckpointError(f"{file} is a damaged zip archive: {error}") from error
    if packed:
        raise CheckpointError(f"{file} holds compressed entries, which torch.save never writes: {listed(packed)}")


def _is_named_tensor(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor)


def _separate(tensors: Mapping[str, Tensor]) -> StateDict:
    """Tensors that share memory get their own: writers of safetensors would keep one of them only."""
    seen: set[int] = set()
    result: StateDict = {}
    for name, tensor in tensors.items():
        own = tensor.detach()
        if _is_plain(own) and own.untyped_storage().data_ptr() in seen:
            own = own.clone()
        elif _is_plain(own):
            seen.add(own.untyped_storage().data_ptr())
        result[name] = own
    return result


def _is_plain(tensor: Tensor) -> bool:
    """Dense, in memory, and no larger than its memory: a stride of zero can claim any size."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _check(state: Mapping[str, Tensor], file: Path) -> None:
    strange = [
        f"{name} ({tensor.dtype}, {tensor.layout})"
        for name, tensor in state.items()
        if not _is_plain(tensor) or tensor.dtype not in DTYPES
    ]
    if strange:
        raise CheckpointError(f"{file}: tensors that are not dense floating point {listed(sorted(strange))}")
    damaged = [name for name, tensor in state.items() if not bool(tensor.isfinite().all())]
    if damaged:
        raise CheckpointError(f"{file}: NaN or infinity in {listed(damaged)}")
