"""Engines in the place of a pipeline's parts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastvid_pipelines import discovery
from fastvid_pipelines.image_to_video import FSVideoPipeline

PLACES = {"transformer": "transformer", "refiner": "refiner", "upsampler": "upsampler", "decoder": "autoencoder"}
"""The part of a pipeline that each folder is for."""


def parts_in(folder: Path) -> list[str]:
    """Which parts the folder has engines of.

    Raises:
        ValueError: no such folder, or one without any engine.
    """
    if not folder.is_dir():
        raise ValueError(f"`engine` is {str(folder)!r}, which is no folder; expected one of fastvid-cli export build")
    found = [part for part in PLACES if (folder / part).is_dir()]
    if not found:
        raise ValueError(f"`engine` is {str(folder)!r}, which has none of the folders {', '.join(PLACES)}")
    return found


def put_in(pipeline: FSVideoPipeline, folder: Path, fallback: str) -> dict[str, Any]:
    """Let the engines in the folder do what they were built for; returns their keys by part.

    Args:
        folder: has a folder for each part that shall run as an engine: transformer, refiner, upsampler, decoder.
        fallback: 'error' or 'eager', for calls that an engine cannot take.
    Raises:
        ValueError: as `parts_in`; or an engine of a part that the pipeline lacks.
    """
    records: dict[str, Any] = {}
    for part in parts_in(folder):
        opened: Callable[..., Any] = discovery.find(discovery.ENGINES, part)
        if part in ("refiner", "upsampler"):
            if pipeline.refiner is None:
                raise ValueError(f"`engine` has a {part}, which this pipeline has not; take that folder out")
            name = "transformer" if part == "refiner" else part
            engine = opened(folder, getattr(pipeline.refiner, name), fallback=fallback)
            pipeline.refiner = replace(pipeline.refiner, **{name: engine})
        else:
            engine = opened(folder, getattr(pipeline, PLACES[part]), fallback=fallback)
            setattr(pipeline, PLACES[part], engine)
        records[part] = engine.records
    return records
