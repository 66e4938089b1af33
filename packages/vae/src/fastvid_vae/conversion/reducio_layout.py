"""The released Reducio-VAE checkpoints as `fastvid-cli convert` asks for them: whole files to a ReducioVAE and back.

The tensors tell the architecture, so a config.json beside them is not read. Heads and groups, which tensors cannot
tell, are those of both released models.
Source: huggingface.co/microsoft/Reducio-VAE (MIT). Its published weights have not been run through this yet.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastvid_vae.checkpoint import build_empty, read_config
from fastvid_vae.conversion import reducio
from fastvid_vae.conversion.released import StateDict, bare
from fastvid_vae.reducio.config import REDUCIO_FT4, ReducioConfig
from fastvid_vae.reducio.model import ReducioVAE

Foreign = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReducioLayout:
    """The layout of one released file.

    Attributes:
        temporal_levels: what `ReducioConfig` calls so; tensors of another compression in time are refused.
        file_stem: what the file is called, without its ending.
        nested: where pickles of this layout may keep the tensors, if they do not hold them bare.
        ours: the name of our layout.
    """

    temporal_levels: int
    file_stem: str
    nested: tuple[str, ...] = ("state_dict",)
    ours: str = "reducio-vae"

    def load(self, state_dict: Foreign, config: Mapping[str, Any] | None, /) -> ReducioVAE:
        """The same model; the weights keep their data types.

        Raises:
            ValueError: tensors that are not those of a released Reducio-VAE.
        """
        del config  # the tensors tell
        theirs = bare(state_dict)
        own = self._told(theirs)
        model = build_empty(ReducioVAE, own)
        model.load_state_dict(reducio.convert(theirs, own), assign=True)
        return model

    def start(self, state_dict: Foreign, config: Mapping[str, Any] | None, target: str, seed: int, /) -> ReducioVAE:
        """Refused: there is no larger model to begin with these weights.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"`target` is {target!r}; no other model begins with a Reducio-VAE: leave it out")

    def export(self, folder: Path, state_dict: Foreign, /) -> tuple[StateDict, dict[str, Any] | None]:
        """Tensors in this layout, without a configuration; the exact inverse of `load`.

        Raises:
            ValueError: a model that `load` would not read back as it is.
        """
        config = read_config(folder, ReducioConfig, ReducioVAE.__name__)
        theirs = reducio.invert(state_dict, config)
        told = self._told(theirs)
        if told != config:
            raise ValueError(f"the released layout cannot tell {config}: it would be read as {told}")
        return theirs, None

    def _told(self, state_dict: Foreign) -> ReducioConfig:
        config = config_of(state_dict)
        if config.temporal_levels != self.temporal_levels:
            raise ValueError(
                f"`state_dict` is of a model that makes {config.stride[0]} frames one latent frame; those of "
                f"{self.file_stem} make one of {1 << self.temporal_levels}"
            )
        return config


def config_of(state_dict: Foreign) -> ReducioConfig:
    """The architecture that the tensors have; heads and groups as in `REDUCIO_FT4`.

    Args:
        state_dict: without wrappings.
    Raises:
        ValueError: a tensor that tells the architecture is missing, or it is one that no Reducio-VAE has.
    """
    widths = _widths(state_dict, "encoder_3d")
    halved = [_shape(state_dict, f"encoder_3d.down.{i}.downsample.conv.weight")[2] == 3 for i in range(len(widths) - 1)]
    fused = {int(match[1]) for name in state_dict if (match := re.match(r"decoder\.up\.(\d+)\.fuse\.", name))}
    blocks = {name.split(".")[4] for name in state_dict if name.startswith("encoder_3d.down.0.block.")}
    stride = 1 << sum(halved)
    return replace(
        REDUCIO_FT4,
        latent_channels=_shape(state_dict, "post_quant_conv.weight")[0],
        num_frames=_shape(state_dict, "decoder.mid.fuse.0.pos_embed")[1] * stride,
        widths=widths,
        content_widths=_widths(state_dict, "encoder_2d"),
        num_blocks=len(blocks),
        temporal_levels=sum(halved),
        fusion="attention",
        fused_levels=tuple(sorted(fused)),
    )


def _widths(state_dict: Foreign, network: str) -> tuple[int, ...]:
    pattern = re.compile(rf"{network}\.down\.(\d+)\.")
    levels = {int(match[1]) for name in state_dict if (match := pattern.match(name))}
    return tuple(_shape(state_dict, f"{network}.down.{i}.block.0.conv1.weight")[0] for i in range(len(levels)))


def _shape(state_dict: Foreign, name: str) -> torch.Size:
    """The shape of a tensor that every released model has, with at least as many axes as are looked at."""
    if name not in state_dict:
        raise ValueError(f"`state_dict` is not of a released Reducio-VAE: it has no {name!r}")
    shape = state_dict[name].shape
    if len(shape) < (3 if name.endswith("downsample.conv.weight") else 2):
        raise ValueError(f"`state_dict`: misshapen tensors {[f'{name} {tuple(shape)}']}")
    return shape


REDUCIO_FT4_RELEASED = ReducioLayout(temporal_levels=2, file_stem="reducio-ft4-fs32-attn23")
REDUCIO_FT2_RELEASED = ReducioLayout(temporal_levels=1, file_stem="reducio-ft2-fs32-attn23")
