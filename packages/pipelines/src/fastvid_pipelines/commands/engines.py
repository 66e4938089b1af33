"""Engines in the place of a pipeline's parts."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from fastvid_pipelines import discovery
from fastvid_pipelines.image_to_video import FSVideoPipeline

PARTS = ("transformer", "refiner", "upsampler", "decoder")
"""What an engine can stand for, as its folder is called."""


class EngineFolder(Protocol):
    """Engines of one pipeline; each method gives what takes the place of the part that it is given."""

    @property
    def records(self) -> Mapping[str, Any]:
        """By part, what runs there."""
        ...

    def transformer(self, eager: Any, /) -> Any: ...
    def refiner(self, eager: Any, /) -> Any: ...
    def upsampler(self, eager: Any, /) -> Any: ...
    def autoencoder(self, eager: Any, /) -> Any: ...


def parts_in(folder: Path) -> list[str]:
    """Which parts the folder has engines of.

    Raises:
        ValueError: no such folder, or one without any engine.
    """
    if not folder.is_dir():
        raise ValueError(f"`engine` is {str(folder)!r}, which is no folder; expected one of fastvid-cli export build")
    found = [part for part in PARTS if (folder / part).is_dir()]
    if not found:
        raise ValueError(f"`engine` is {str(folder)!r}, which has none of the folders {', '.join(PARTS)}")
    return found


def put_in(pipeline: FSVideoPipeline, folder: Path, fallback: str) -> dict[str, Any]:
    """Let the engines in the folder do what they were built for; returns by part what runs there.

    Args:
        folder: has a folder for each part that shall run as an engine: transformer, refiner, upsampler, decoder.
        fallback: 'error' or 'eager', for engines that cannot be loaded, and for calls that one cannot take.
    Raises:
        ValueError: as `parts_in`; or an engine of a part that the pipeline lacks.
    """
    parts = parts_in(folder)
    opening: Callable[..., EngineFolder] = discovery.find(discovery.ENGINES, "folder")
    engines = opening(folder, fallback=fallback)
    for part in parts:
        match part:
            case "transformer":
                pipeline.transformer = engines.transformer(pipeline.transformer)
            case "decoder":
                pipeline.autoencoder = engines.autoencoder(pipeline.autoencoder)
            case _:
                _put_in_refiner(pipeline, part, engines)
    return dict(engines.records)


def _put_in_refiner(pipeline: FSVideoPipeline, part: str, engines: EngineFolder) -> None:
    refiner = pipeline.refiner
    if refiner is None:
        raise ValueError(f"`engine` has a {part}, which this pipeline has not; take that folder out")
    if part == "refiner":
        pipeline.refiner = replace(refiner, transformer=engines.refiner(refiner.transformer))
    else:
        pipeline.refiner = replace(refiner, upsampler=engines.upsampler(refiner.upsampler))
