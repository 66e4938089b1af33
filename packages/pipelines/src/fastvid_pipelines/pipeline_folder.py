"""A saved pipeline: model_index.json and one sub-folder per part, the layout of diffusers."""

import os
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fastvid_pipelines import checkpoint, discovery
from fastvid_pipelines.encoders.byte import ByteTextEncoder
from fastvid_pipelines.errors import CheckpointError
from fastvid_pipelines.interfaces import Autoencoder, Saveable
from fastvid_pipelines.parts import Parts, Refiner
from fastvid_pipelines.types import Refinement, Sampling

ALWAYS = ("vae", "transformer", "text_encoder")
OPTIONAL = ("image_encoder", "upsampler", "refiner")
ABSENT = [None, None]


def find(path_or_repo_id: str | os.PathLike[str], *, revision: str | None, local_files_only: bool) -> Path:
    """The local folder of a pipeline: the path itself, or a download (or cached copy) of a repository of the hub."""
    return checkpoint.find_folder(
        path_or_repo_id, revision=revision, local_files_only=local_files_only, file=checkpoint.INDEX_NAME
    )


def load(folder: Path, class_name: str, *, dtype: torch.dtype, device: torch.device) -> Parts:
    """Read every part; what is missing, unknown or damaged is an error, whichever part it is in."""
    index = _read_index(folder, class_name)
    return Parts(
        autoencoder=_load_part(folder, index, "vae", _autoencoder_class, dtype, device),
        transformer=_load_part(folder, index, "transformer", _transformer_class, dtype, device),
        text_encoder=_load_part(folder, index, "text_encoder", _text_encoder_class, dtype, device),
        image_encoder=None
        if index["image_encoder"] == ABSENT
        else _load_part(folder, index, "image_encoder", _image_encoder_class, dtype, device),
        refiner=_load_refiner(folder, index, dtype, device),
        sampling=read_sampling(folder, class_name)[0],
    )


def read_sampling(folder: Path, class_name: str) -> tuple[Sampling, Refinement | None]:
    """How the pipeline samples and refines when nobody says otherwise."""
    index = _read_index(folder, class_name)
    sampling = checkpoint.build_record(index["sampling"], Sampling, f"{folder / checkpoint.INDEX_NAME}: sampling")
    return sampling, None if index["refinement"] is None else _read_refinement(folder, index)


def load_autoencoder(folder: Path, class_name: str, *, dtype: torch.dtype, device: torch.device) -> Autoencoder:
    """Only the part that reconstruction needs."""
    autoencoder: Autoencoder = _load_part(
        folder, _read_index(folder, class_name), "vae", _autoencoder_class, dtype, device
    )
    return autoencoder


def save(parts: Parts, class_name: str, directory: str | os.PathLike[str]) -> None:
    """Write a new folder, which appears whole or not at all."""
    saved: dict[str, Saveable | None] = {
        "vae": parts.autoencoder,
        "transformer": parts.transformer,
        "text_encoder": parts.text_encoder,
        "image_encoder": parts.image_encoder,
        "upsampler": None if parts.refiner is None else parts.refiner.upsampler,
        "refiner": None if parts.refiner is None else parts.refiner.transformer,
    }
    refinement = None if parts.refiner is None else asdict(parts.refiner.refinement)
    with checkpoint.new_folder(directory) as folder:
        for name, part in saved.items():
            if part is not None:
                part.save_pretrained(folder / name)
        index: dict[str, Any] = {"_class_name": class_name, "_fastvid_version": version("fastvid-pipelines")}
        index |= {name: ABSENT if part is None else _qualified_name(part) for name, part in saved.items()}
        index |= {"sampling": asdict(parts.sampling), "refinement": refinement}
        checkpoint.write_json(folder / checkpoint.INDEX_NAME, index)


def _read_index(folder: Path, class_name: str) -> dict[str, Any]:
    file = folder / checkpoint.INDEX_NAME
    index = checkpoint.read_json(file)
    expected = {"_class_name", "_fastvid_version", "sampling", "refinement", *ALWAYS, *OPTIONAL}
    unknown, missing = sorted(index.keys() - expected), sorted(expected - index.keys())
    if unknown or missing:
        raise CheckpointError(f"{file}: unknown keys {unknown or 'none'}, missing keys {missing or 'none'}")
    if index["_class_name"] != class_name:
        raise CheckpointError(f"{file} describes {index['_class_name']!r}; expected `_class_name` {class_name!r}")
    for name in (*ALWAYS, *OPTIONAL):
        entry = index[name]
        named = isinstance(entry, list) and len(entry) == 2 and all(isinstance(item, str) for item in entry)
        if not named and not (name in OPTIONAL and entry == ABSENT):
            raise CheckpointError(f"{file}: `{name}` is {entry!r}; expected [library, class]")
    second_stage = {name: index[name] == ABSENT for name in ("upsampler", "refiner")}
    second_stage["refinement"] = index["refinement"] is None
    if len(set(second_stage.values())) > 1:
        missing = [name for name, absent in second_stage.items() if absent]
        raise CheckpointError(f"{file}: a second stage needs upsampler, refiner and refinement; missing {missing}")
    return index


def _load_refiner(folder: Path, index: dict[str, Any], dtype: torch.dtype, device: torch.device) -> Refiner | None:
    if index["refiner"] == ABSENT:
        return None
    return Refiner(
        upsampler=_load_part(folder, index, "upsampler", _upsampler_class, dtype, device),
        transformer=_load_part(folder, index, "refiner", _transformer_class, dtype, device),
        refinement=_read_refinement(folder, index),
    )


def _read_refinement(folder: Path, index: dict[str, Any]) -> Refinement:
    return checkpoint.build_record(index["refinement"], Refinement, f"{folder / checkpoint.INDEX_NAME}: refinement")


def _load_part(
    folder: Path,
    index: dict[str, Any],
    name: str,
    class_of: Callable[[str, str], Any],
    dtype: torch.dtype,
    device: torch.device,
) -> Any:
    part_class = class_of(*index[name])
    return part_class.from_pretrained(folder, subfolder=name, dtype=dtype, device=device, local_files_only=True)


def _autoencoder_class(library: str, class_name: str) -> Any:
    return discovery.find_class(discovery.AUTOENCODERS, library, class_name)


def _transformer_class(library: str, class_name: str) -> Any:
    return discovery.find_class(discovery.TRANSFORMERS, library, class_name)


def _upsampler_class(library: str, class_name: str) -> Any:
    return discovery.find_class(discovery.UPSAMPLERS, library, class_name)


def _text_encoder_class(library: str, class_name: str) -> Any:
    match library, class_name:
        case "fastvid_pipelines", "ByteTextEncoder":
            return ByteTextEncoder
        case "fastvid_pipelines", "T5TextEncoder":
            from fastvid_pipelines.encoders.t5 import T5TextEncoder  # transformers takes seconds to import

            return T5TextEncoder
    raise CheckpointError(
        f"the pipeline's text_encoder is {library}.{class_name}; "
        "expected fastvid_pipelines.ByteTextEncoder or fastvid_pipelines.T5TextEncoder"
    )


def _image_encoder_class(library: str, class_name: str) -> Any:
    if (library, class_name) == ("fastvid_pipelines", "CLIPImageEncoder"):
        from fastvid_pipelines.encoders.clip import CLIPImageEncoder  # transformers takes seconds to import

        return CLIPImageEncoder
    raise CheckpointError(
        f"the pipeline's image_encoder is {library}.{class_name}; expected fastvid_pipelines.CLIPImageEncoder"
    )


def _qualified_name(part: Saveable) -> list[str]:
    return [type(part).__module__.split(".")[0], type(part).__name__]
