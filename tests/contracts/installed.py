"""Everything that is installed under an entry-point group, built tiny."""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import fastvid_pipelines.interfaces as pipelines

from ..tiny_models import AUTOENCODER, TRANSFORMER, randomised

TINY_CONFIGS: dict[str, Any] = {"FSAE": AUTOENCODER, "FSVideoDiT": TRANSFORMER}


def names(group: str) -> list[str]:
    return sorted(entry.name for entry in entry_points(group=f"fastvid.{group}"))


def load(group: str, name: str) -> Callable[..., Any]:
    (entry,) = entry_points(group=f"fastvid.{group}", name=name)
    loaded: Callable[..., Any] = entry.load()
    return loaded


def tiny_autoencoder(name: str) -> pipelines.Autoencoder:
    """A new kind needs a tiny configuration in `TINY_CONFIGS`."""
    model: pipelines.Autoencoder = randomised(load("autoencoder", name)(TINY_CONFIGS[name]))
    return model


def tiny_transformer(name: str) -> pipelines.Transformer:
    """A new kind needs a tiny configuration in `TINY_CONFIGS`."""
    model: pipelines.Transformer = randomised(load("transformer", name)(TINY_CONFIGS[name]))
    return model
