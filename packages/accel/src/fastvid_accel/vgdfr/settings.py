"""Settings of VGDFR as a file, which a person writes.

    {"format": "fastvid-vgdfr/1", "settings": {"threshold": 0.8}, "interpolator": "rife"}

`settings` are those of `VGDFRConfig`; what is left out keeps its default. `interpolator` is 'linear', 'motion' or the
folder of an `IFNet`, from the folder of the file on.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from fastvid_accel.vgdfr.config import VGDFRConfig
from fastvid_accel.vgdfr.ifnet import IFNet
from fastvid_accel.vgdfr.motion import MotionInterpolator
from fastvid_accel.vgdfr.restore import Interpolator, LinearInterpolator

FORMAT = "fastvid-vgdfr/1"
KEYS = {"format", "settings", "interpolator"}


def read_settings(path: str | os.PathLike[str]) -> tuple[VGDFRConfig, Interpolator]:
    """What a file says.

    Raises:
        ValueError: no such file, another format, settings that are unknown or out of range, or no such interpolator.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"`settings` is {str(path)!r}, which is no file; expected settings of VGDFR as JSON")
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"`settings` {str(path)!r} is no JSON: {error}") from error
    if not isinstance(facts, dict) or facts.keys() != KEYS or facts["format"] != FORMAT:
        raise ValueError(f"`settings` {str(path)!r} is not of the format {FORMAT!r}, with the keys {sorted(KEYS)}")
    return _config(facts["settings"]), _interpolator(facts["interpolator"], file.parent)


def _config(values: Any) -> VGDFRConfig:
    known = {field.name for field in fields(VGDFRConfig)}
    if not isinstance(values, Mapping) or values.keys() - known:
        raise ValueError(f"`settings` are {values!r}; expected some of {sorted(known)}")
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return VGDFRConfig(**given)


def _interpolator(name: Any, folder: Path) -> Interpolator:
    match name:
        case "linear":
            return LinearInterpolator()
        case "motion":
            return MotionInterpolator()
        case str() if (folder / name).is_dir():
            return IFNet.from_pretrained(folder / name)
        case _:
            raise ValueError(f"`interpolator` is {name!r}; expected 'linear', 'motion' or the folder of an IFNet")
