"""Finding the parts that other packages bring, by entry point; nothing else is ever imported by name."""

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from fastvid_pipelines.errors import CheckpointError, MissingPackageError

AUTOENCODERS = "fastvid.autoencoder"
TRANSFORMERS = "fastvid.transformer"
UPSAMPLERS = "fastvid.upsampler"
TRANSFORMER_COSTS = "fastvid.transformer_cost"
AUTOENCODER_COSTS = "fastvid.autoencoder_cost"
ACCELERATORS = "fastvid.accelerator"
COMPOSITIONS = "fastvid.accelerator_composition"
ACCELERATOR_SETTINGS = "fastvid.accelerator_settings"
CALIBRATORS = "fastvid.calibrator"
ENGINES = "fastvid.engine"
COMMANDS = "fastvid.command"
CONVERSIONS = "fastvid.conversion"

BRINGS = {
    AUTOENCODERS: "fastvid-vae",
    TRANSFORMERS: "fastvid-dit",
    UPSAMPLERS: "fastvid-vae",
    TRANSFORMER_COSTS: "fastvid-dit",
    AUTOENCODER_COSTS: "fastvid-vae",
    ACCELERATORS: "fastvid-accel",
    COMPOSITIONS: "fastvid-accel",
    ACCELERATOR_SETTINGS: "fastvid-accel",
    CALIBRATORS: "fastvid-accel",
    ENGINES: "fastvid-export",
    COMMANDS: "fastvid-export",
    CONVERSIONS: "fastvid-vae fastvid-dit fastvid-accel",
}


def installed(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group, by name; where two packages took the same name, that of fastvid counts."""
    return {entry.name: entry for entry in sorted(entry_points(group=group), key=lambda entry: (_is_own(entry), entry))}


def find(group: str, name: str) -> Any:
    """The object that an installed package offers under `name`.

    Raises:
        MissingPackageError: nothing of this group is installed.
        ValueError: other names are.
    """
    found = installed(group)
    if name in found:
        return found[name].load()
    kind = group.removeprefix("fastvid.")
    if not found:
        raise MissingPackageError(f"no {kind} is installed; install one with: pip install {BRINGS[group]}")
    raise ValueError(
        f"`{kind}` is {name!r}; installed: {', '.join(map(repr, found))}. "
        f"More may come with: pip install -U {BRINGS[group]}"
    )


def find_class(group: str, library: str, class_name: str) -> Any:
    """The class that a model_index.json names as [library, class]; only what is registered in `group` is eligible.

    Raises:
        MissingPackageError: nothing of this group is installed.
        CheckpointError: other classes are.
    """
    entries = {(_library(entry), entry.name): entry for entry in entry_points(group=group)}
    if (library, class_name) in entries:
        return entries[library, class_name].load()
    kind = group.removeprefix("fastvid.")
    if not entries:
        raise MissingPackageError(
            f"the pipeline's {kind} is {library}.{class_name}, and no {kind} is installed; install one with: "
            f"pip install {BRINGS[group]}  (or everything: pip install 'fastvid-pipelines[all]')"
        )
    present = ", ".join(".".join(names) for names in sorted(entries))
    raise CheckpointError(f"the pipeline's {kind} is {library}.{class_name}; installed: {present}")


def _library(entry: EntryPoint) -> str:
    return entry.module.split(".")[0]


def _is_own(entry: EntryPoint) -> bool:
    return _library(entry).replace("_", "-") in BRINGS.values()
