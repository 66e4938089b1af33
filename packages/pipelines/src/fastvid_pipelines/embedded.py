"""The model that comes with this package."""

from importlib.resources import files
from pathlib import Path

from fastvid_pipelines.errors import CheckpointError


def embedded_folder() -> Path:
    """Where it lies."""
    return Path(str(files("fastvid_pipelines"))) / "embedded_model"


def embedded_model() -> Path:
    """`embedded_folder`, where there is one.

    Raises:
        CheckpointError: this installation has none; says how to name another model.
    """
    folder = embedded_folder()
    if not folder.is_dir():
        raise CheckpointError(
            f"no embedded model in this installation ({folder} is missing): name the folder of another model, by "
            "`--model` on the command line or with `from_pretrained`"
        )
    return folder
