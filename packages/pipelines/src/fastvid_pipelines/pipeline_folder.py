"""A saved pipeline: model_index.json and one sub-folder per part, the layout of diffusers."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch

from fastvid_pipelines import checkpoint, discovery
from fastvid_pipelines.encoders.byte import ByteTextEncoder
from fastvid_pipelines.encoders.open_clip import OpenCLIPImageEncoder
from fastvid_pipelines.encoders.sd_content import SDContentEncoder
from fastvid_pipelines.errors import CheckpointError
from fastvid_pipelines.interfaces import Saveable
from fastvid_pipelines.types import Refinement, Sampling

ABSENT = [None, None]

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the folder of a pipeline holds.

    Attributes:
        class_name: of the pipeline.
        parts: those that are always there, each in a folder of its name.
        optional_parts: those that may be absent.
        records: settings that stand in model_index.json itself.
    """

    class_name: str
    parts: tuple[str, ...]
    optional_parts: tuple[str, ...]
    records: tuple[str, ...]


FSVIDEO = Layout(
    class_name="FSVideoPipeline",
    parts=("vae", "transformer", "text_encoder"),
    optional_parts=("image_encoder", "upsampler", "refiner"),
    records=("sampling", "refinement"),
)

REDUCIO = Layout(
    class_name="ReducioPipeline",
    parts=("vae", "transformer", "text_encoder", "image_encoder", "content_encoder"),
    optional_parts=(),
    records=("sampling",),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineFolder:
    """A folder whose model_index.json is complete and names nothing else."""

    path: Path
    index: Mapping[str, Any]

    def holds(self, name: str) -> bool:
        """Whether an optional part or record is there."""
        return self.index[name] not in (None, ABSENT)

    def load(self, name: str, *, dtype: torch.dtype, device: torch.device) -> Any:
        """Read a part; what is missing, unknown or damaged in it is an error. None: an optional one that is absent."""
        if not self.holds(name):
            return None
        part_class = _class_of(name, *self.index[name])
        return part_class.from_pretrained(self.path, subfolder=name, dtype=dtype, device=device, local_files_only=True)

    def record(self, name: str, record_class: type[Record]) -> Record:
        """Read settings; unknown and missing keys, wrong types and values out of range are errors."""
        return checkpoint.build_record(self.index[name], record_class, f"{self.path / checkpoint.INDEX_NAME}: {name}")


def find(path_or_repo_id: str | os.PathLike[str], *, revision: str | None, local_files_only: bool) -> Path:
    """The local folder of a pipeline: the path itself, or a download (or cached copy) of a repository of the hub."""
    return checkpoint.find_folder(
        path_or_repo_id, revision=revision, local_files_only=local_files_only, file=checkpoint.INDEX_NAME
    )


def find_layout(path: Path) -> Layout:
    """Which pipeline the folder is of.

    Raises:
        CheckpointError: none of this package.
    """
    file = path / checkpoint.INDEX_NAME
    found = checkpoint.read_json(file).get("_class_name")
    for layout in (FSVIDEO, REDUCIO):
        if found == layout.class_name:
            return layout
    raise CheckpointError(
        f"{file} describes {found!r}; expected `_class_name` {FSVIDEO.class_name!r} or {REDUCIO.class_name!r}"
    )


def open_folder(path: Path, layout: Layout) -> PipelineFolder:
    """The folder, once its index has been checked.

    Raises:
        CheckpointError: it is of another pipeline, or keys are missing or unknown.
    """
    file = path / checkpoint.INDEX_NAME
    index = checkpoint.read_json(file)
    if "_class_name" in index and index["_class_name"] != layout.class_name:
        raise CheckpointError(
            f"{file} describes {index['_class_name']!r}; expected `_class_name` {layout.class_name!r}"
        )
    expected = {"_class_name", "_fastvid_version", *layout.parts, *layout.optional_parts, *layout.records}
    unknown, missing = sorted(index.keys() - expected), sorted(expected - index.keys())
    if unknown or missing:
        raise CheckpointError(f"{file}: unknown keys {unknown or 'none'}, missing keys {missing or 'none'}")
    for name in (*layout.parts, *layout.optional_parts):
        entry = index[name]
        named = isinstance(entry, list) and len(entry) == 2 and all(isinstance(item, str) for item in entry)
        if not named and not (name in layout.optional_parts and entry == ABSENT):
            raise CheckpointError(f"{file}: `{name}` is {entry!r}; expected [library, class]")
    return PipelineFolder(path=path, index=index)


def fsvideo_defaults(folder: PipelineFolder) -> tuple[Sampling, Refinement | None]:
    """How an FSVideo pipeline samples and refines when nobody says otherwise.

    Raises:
        CheckpointError: settings that cannot be, or half a second stage.
    """
    sampling = folder.record("sampling", Sampling)
    second_stage = {name: folder.holds(name) for name in ("upsampler", "refiner", "refinement")}
    if not any(second_stage.values()):
        return sampling, None
    if not all(second_stage.values()):
        missing = [name for name, there in second_stage.items() if not there]
        raise CheckpointError(
            f"{folder.path}: a second stage needs upsampler, refiner and refinement; missing {missing}"
        )
    return sampling, folder.record("refinement", Refinement)


def save(
    layout: Layout,
    parts: Mapping[str, Saveable | None],
    records: Mapping[str, Any],
    directory: str | os.PathLike[str],
) -> None:
    """Write a new folder, which appears whole or not at all.

    Args:
        parts: all that the layout names, None where there is none.
        records: dataclasses, None where there is none.
    """
    with checkpoint.new_folder(directory) as folder:
        for name, part in parts.items():
            if part is not None:
                part.save_pretrained(folder / name)
        index: dict[str, Any] = {"_class_name": layout.class_name, "_fastvid_version": version("fastvid-pipelines")}
        index |= {name: ABSENT if part is None else _qualified_name(part) for name, part in parts.items()}
        index |= {name: None if record is None else asdict(record) for name, record in records.items()}
        checkpoint.write_json(folder / checkpoint.INDEX_NAME, index)


def _class_of(part: str, library: str, class_name: str) -> Any:
    match part:
        case "vae":
            return discovery.find_class(discovery.AUTOENCODERS, library, class_name)
        case "transformer" | "refiner":
            return discovery.find_class(discovery.TRANSFORMERS, library, class_name)
        case "upsampler":
            return discovery.find_class(discovery.UPSAMPLERS, library, class_name)
        case "text_encoder":
            return _text_encoder_class(library, class_name)
        case "image_encoder":
            return _image_encoder_class(library, class_name)
    assert part == "content_encoder"
    return _content_encoder_class(library, class_name)


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
    match library, class_name:
        case "fastvid_pipelines", "CLIPImageEncoder":
            from fastvid_pipelines.encoders.clip import CLIPImageEncoder  # transformers takes seconds to import

            return CLIPImageEncoder
        case "fastvid_pipelines", "OpenCLIPImageEncoder":
            return OpenCLIPImageEncoder
    raise CheckpointError(
        f"the pipeline's image_encoder is {library}.{class_name}; "
        "expected fastvid_pipelines.CLIPImageEncoder or fastvid_pipelines.OpenCLIPImageEncoder"
    )


def _content_encoder_class(library: str, class_name: str) -> Any:
    if (library, class_name) == ("fastvid_pipelines", "SDContentEncoder"):
        return SDContentEncoder
    raise CheckpointError(
        f"the pipeline's content_encoder is {library}.{class_name}; expected fastvid_pipelines.SDContentEncoder"
    )


def _qualified_name(part: Saveable) -> list[str]:
    return [type(part).__module__.split(".")[0], type(part).__name__]
