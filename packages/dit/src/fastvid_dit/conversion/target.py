"""The model that is to begin with the weights of another: a constant of ours, or a folder with its config.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from fastvid_dit.checkpoint import CONFIG_NAME, read_config

ConfigT = TypeVar("ConfigT")


def read_target(target: str, named: Mapping[str, ConfigT], config_class: type[ConfigT], model_name: str) -> ConfigT:
    """The configuration that `target` means.

    Args:
        target: a name in `named`, a folder with a config.json, or that file.
        named: constants, by name.
        config_class: of the model.
        model_name: its class, as config.json has it.
    Raises:
        ValueError: `target` is neither, or its config.json is not one of such a model.
    """
    if target in named:
        return named[target]
    path = Path(target)
    folder = path.parent if path.name == CONFIG_NAME else path
    if not (folder / CONFIG_NAME).is_file():
        raise ValueError(
            f"`target` is {target!r}; expected {', '.join(named)} or a folder with the {CONFIG_NAME} of a {model_name}"
        )
    return read_config(folder, config_class, model_name)
