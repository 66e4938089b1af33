"""DC-AE's two layouts as `fastvid-cli convert` asks for them: whole checkpoints to an FSAE and back.

Source: github.com/mit-han-lab/efficientvit (Apache-2.0) and diffusers, dc-ae-f32c32-sana-1.0 and 1.1. Their published
weights have not been run through this yet.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastvid_vae.checkpoint import CONFIG_NAME, build_empty, read_config
from fastvid_vae.conversion import dc_ae, dc_ae_efficientvit
from fastvid_vae.conversion.dc_ae_config import (
    config_of,
    read_diffusers,
    read_efficientvit,
    scaled,
    scaling_factor_of,
    write_diffusers,
    write_efficientvit,
)
from fastvid_vae.conversion.warm_start import start_from_dc_ae
from fastvid_vae.fsae.config import FSAE_LITE, FSAE_STANDARD, FSAEConfig
from fastvid_vae.fsae.model import FSAE

StateDict = dict[str, Tensor]
Foreign = Mapping[str, Tensor]

NAMED = {"FSAE_STANDARD": FSAE_STANDARD, "FSAE_LITE": FSAE_LITE}


@dataclass(frozen=True, slots=True, kw_only=True)
class DCAELayout:
    """One way in which the tensors and the configuration of a DC-AE are named.

    Attributes:
        file_stem: what the files of weights are called, without their ending.
        nested: where pickles of this layout may keep the tensors, if they are not the pickled object itself.
        ours: the name of our layout.
    """

    file_stem: str
    nested: tuple[str, ...]
    to_diffusers: Callable[[Foreign], StateDict]
    from_diffusers: Callable[[Foreign], StateDict]
    read: Callable[[Mapping[str, Any] | None, FSAEConfig], float]
    write: Callable[[FSAEConfig, float], dict[str, Any] | None]
    ours: str = "fsae"

    def load(self, state_dict: Foreign, config: Mapping[str, Any] | None, /) -> FSAE:
        """An FSAE that passes each frame as DC-AE passes an image; the weights keep their data types.

        Raises:
            ValueError: tensors or configuration are not those of a DC-AE that an FSAE can be.
        """
        theirs = self.to_diffusers(state_dict)
        own = config_of(theirs)
        return _filled(scaled(own, self.read(config, own)), theirs)

    def start(self, state_dict: Foreign, config: Mapping[str, Any] | None, target: str, seed: int, /) -> FSAE:
        """A new FSAE that begins with DC-AE's weights, for training: with as many stages, or with one more.

        Args:
            state_dict: the tensors.
            config: the config.json beside them.
            target: name of a constant, or a folder with the config.json of an FSAE.
            seed: of the weights that DC-AE does not have.
        Raises:
            ValueError: as `load`; or the target is none, or does not hold the weights.
        """
        theirs, wanted = self.to_diffusers(state_dict), _target(target)
        own = config_of(theirs)
        self.read(config, own)
        if len(wanted.stage_kinds) == len(own.stage_kinds):
            return _filled(wanted, theirs)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = FSAE(wanted)
        start_from_dc_ae(model, theirs)
        return model

    def export(self, folder: Path, state_dict: Foreign, /) -> tuple[StateDict, dict[str, Any] | None]:
        """Tensors and config.json in this layout; the exact inverse of `load`.

        Raises:
            ValueError: the model compresses time, has learned along it, or has parts that DC-AE has not.
        """
        config = read_config(folder, FSAEConfig, FSAE.__name__)
        if config.temporal_stages:
            raise ValueError(f"`temporal_stages` is {config.temporal_stages}; a DC-AE does not compress time")
        written = self.write(config, scaling_factor_of(config))
        _check_shapes(state_dict, build_empty(FSAE, config).state_dict())
        return self.from_diffusers(dc_ae.invert(state_dict, config)), written


def _filled(config: FSAEConfig, theirs: Foreign) -> FSAE:
    model = build_empty(FSAE, config)
    _check_shapes(theirs, dc_ae.invert(model.state_dict(), config))
    model.load_state_dict(dc_ae.convert(theirs, config), assign=True)
    return model


def _check_shapes(given: Foreign, expected: Foreign) -> None:
    """Of those that both have; who misses which name is said by the maps."""
    wrong = [
        f"{name} {tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
        for name, tensor in given.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    if wrong:
        raise ValueError(f"`state_dict`: misshapen tensors {wrong[:10]}")


def _target(target: str) -> FSAEConfig:
    if target in NAMED:
        return NAMED[target]
    path = Path(target)
    folder = path.parent if path.name == CONFIG_NAME else path
    if not (folder / CONFIG_NAME).is_file():
        raise ValueError(
            f"`target` is {target!r}; expected {', '.join(NAMED)} or a folder with the {CONFIG_NAME} of an FSAE"
        )
    return read_config(folder, FSAEConfig, FSAE.__name__)


def _unchanged(state_dict: Foreign) -> StateDict:
    return dict(state_dict)


DC_AE_DIFFUSERS = DCAELayout(
    file_stem="diffusion_pytorch_model",
    nested=(),
    to_diffusers=_unchanged,
    from_diffusers=_unchanged,
    read=read_diffusers,
    write=write_diffusers,
)

DC_AE_EFFICIENTVIT = DCAELayout(
    file_stem="model",
    nested=("state_dict",),
    to_diffusers=dc_ae_efficientvit.to_diffusers,
    from_diffusers=dc_ae_efficientvit.from_diffusers,
    read=read_efficientvit,
    write=write_efficientvit,
)
