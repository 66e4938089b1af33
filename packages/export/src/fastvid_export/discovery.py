"""Models that other packages bring, found by entry point; nothing is imported by a name that a file gives."""

import json
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

import torch

Part = Literal["encoder", "decoder", "transformer", "upsampler", "refiner"]

GROUPS: dict[Part, str] = {
    "encoder": "fastvid.autoencoder",
    "decoder": "fastvid.autoencoder",
    "transformer": "fastvid.transformer",
    "upsampler": "fastvid.upsampler",
    "refiner": "fastvid.transformer",
}
FOLDERS: dict[Part, str] = {
    "encoder": "vae",
    "decoder": "vae",
    "transformer": "transformer",
    "upsampler": "upsampler",
    "refiner": "refiner",
}
BRINGS: dict[Part, str] = {
    "encoder": "fastvid-vae",
    "decoder": "fastvid-vae",
    "transformer": "fastvid-dit",
    "upsampler": "fastvid-vae",
    "refiner": "fastvid-dit",
}


def load_part(folder: Path, part: Part, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Any:
    """The model of a folder, or of the part's folder in a pipeline, in evaluation mode; None: on the CPU.

    `dtype` is that of the weights; what a model keeps in float32 all the same stays that. None: float32.

    Raises:
        ValueError: the folder is not one of a model, or of a class that no installed package offers.
        ImportError: no package for such models is installed.
    """
    if (folder / "model_index.json").is_file():
        folder /= FOLDERS[part]
    config = folder / "config.json"
    if not config.is_file():
        raise ValueError(f"`model` must be the folder of a model or of a pipeline; there is no {config}")
    try:
        class_name = json.loads(config.read_text(encoding="utf-8"))["_class_name"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"`model` is damaged: {config} names no `_class_name` ({error})") from error
    offered = installed(part)
    if not offered:
        raise ImportError(f"no package with a {part} is installed; run: pip install {BRINGS[part]}")
    if class_name not in offered:
        raise ValueError(
            f"`model` is a {class_name!r}, which is not a {part} that is installed: {', '.join(offered)}"
            f" (more may come with: pip install -U {BRINGS[part]})"
        )
    return offered[class_name].load().from_pretrained(folder, dtype=dtype, device=device, local_files_only=True).eval()


def installed(part: Part) -> dict[str, EntryPoint]:
    """Entry points for this part, by class name; where two packages took the same name, that of fastvid counts."""
    own = BRINGS[part].replace("-", "_")
    entries = sorted(entry_points(group=GROUPS[part]), key=lambda entry: entry.module.split(".")[0] == own)
    return {entry.name: entry for entry in entries}
