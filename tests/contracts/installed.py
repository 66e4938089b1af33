"""Everything that is installed under an entry-point group, and the fake that pipelines tests against, built tiny."""

import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import fastvid_pipelines.interfaces as pipelines
from fastvid_accel import AsymRnRConfig

from ..tiny_models import AUTOENCODER, OD_VAE, REDUCIO, REDUCIO_TRANSFORMER, TRANSFORMER, randomised

TINY_CONFIGS: dict[str, Any] = {
    "FSAE": AUTOENCODER,
    "FSVideoDiT": TRANSFORMER,
    "ODVAE": OD_VAE,
    "ReducioDiT": REDUCIO_TRANSFORMER,
    "ReducioVAE": REDUCIO,
}
NEUTRAL: dict[str, dict[str, Any]] = {"asymrnr": {"config": AsymRnRConfig(kv=((0.0, 0.0),))}}
"""Settings of accelerators with which they change nothing."""

FAKES = {"autoencoder": "FakeAutoencoder", "transformer": "FakeTransformer", "accelerator": "FakeAccelerator"}


def names(group: str) -> list[str]:
    return sorted(entry.name for entry in entry_points(group=f"fastvid.{group}"))


def with_fake(group: str) -> list[str]:
    """What the suites run on: a fake that keeps another promise than the real parts would be worth nothing."""
    return [*names(group), FAKES[group]]


def load(group: str, name: str) -> Callable[..., Any]:
    if name == FAKES[group]:
        fake: Callable[..., Any] = getattr(fakes(), name)
        return fake
    (entry,) = entry_points(group=f"fastvid.{group}", name=name)
    loaded: Callable[..., Any] = entry.load()
    return loaded


def fakes() -> ModuleType:
    """The stand-ins of pipelines' own tests, from where they lie."""
    name = "fakes_of_pipelines"
    if name not in sys.modules:
        spec = spec_from_file_location(name, Path(__file__).parents[2] / "packages/pipelines/tests/fakes.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def tiny_autoencoder(name: str) -> pipelines.Autoencoder:
    """A new kind needs a tiny configuration in `TINY_CONFIGS`."""
    config = () if name == FAKES["autoencoder"] else (TINY_CONFIGS[name],)
    model: pipelines.Autoencoder = randomised(load("autoencoder", name)(*config))
    return model


def tiny_transformer(name: str) -> pipelines.Transformer:
    """A new kind needs a tiny configuration in `TINY_CONFIGS`."""
    config = fakes().FakeTransformerConfig() if name == FAKES["transformer"] else TINY_CONFIGS[name]
    model: pipelines.Transformer = randomised(load("transformer", name)(config))
    return model
