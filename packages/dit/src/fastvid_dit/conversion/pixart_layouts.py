"""PixArt-alpha's two layouts as `fastvid-cli convert` asks for them: whole checkpoints to a ReducioDiT and back.

What is loaded predicts a picture as PixArt-alpha does. To train a model for video, `start` from it instead: patch
embedding, head and content frame are then new.

Source: github.com/PixArt-alpha/PixArt-alpha and diffusers. Their published weights have not been run through this yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastvid_dit.checkpoint import build_empty, read_config
from fastvid_dit.conversion import pixart_config, pixart_diffusers, pixart_official
from fastvid_dit.conversion.target import read_target
from fastvid_dit.reducio_dit.config import REDUCIO_DIT_XL, ReducioDiTConfig
from fastvid_dit.reducio_dit.model import ReducioDiT

StateDict = dict[str, Tensor]
Foreign = Mapping[str, Tensor]

NAMED = {"REDUCIO_DIT_XL": REDUCIO_DIT_XL}
OURS = "reducio-dit"


@dataclass(frozen=True, slots=True)
class PixArtDiffusers:
    """`PixArtTransformer2DModel`: tensors, and a config.json that says how positions were scaled.

    Attributes:
        file_stem: what the files of weights are called, without their ending.
        nested: where pickles of this layout may keep the tensors, if they are not the pickled object itself.
        ours: the name of our layout.
    """

    file_stem: str = "diffusion_pytorch_model"
    nested: tuple[str, ...] = ()
    ours: str = OURS

    def load(self, state_dict: Foreign, config: Mapping[str, Any] | None, /) -> ReducioDiT:
        """The same model; the weights keep their data types.

        Raises:
            ValueError: tensors or configuration are not those of PixArt-alpha.
        """
        return _load(state_dict, pixart_config.read_diffusers(config))

    def start(self, state_dict: Foreign, config: Mapping[str, Any] | None, target: str, seed: int, /) -> ReducioDiT:
        """A new model for video that begins with PixArt's body; see `start_from_pixart`.

        Args:
            state_dict: the tensors.
            config: the config.json beside them.
            target: name of a constant, or a folder with the config.json of a ReducioDiT.
            seed: of the weights that PixArt does not have.
        Raises:
            ValueError: as `load`; or the target is none, or does not hold the weights.
        """
        return _start(state_dict, pixart_config.read_diffusers(config), target, seed)

    def export(self, folder: Path, state_dict: Foreign, /) -> tuple[StateDict, dict[str, Any] | None]:
        """Tensors and config.json in this layout; the exact inverse of `load`.

        Raises:
            ValueError: the model has parts that PixArt has not.
        """
        config = read_config(folder, ReducioDiTConfig, ReducioDiT.__name__)
        return pixart_diffusers.invert(state_dict, config), pixart_config.write_diffusers(config)


@dataclass(frozen=True, slots=True)
class PixArtOfficial:
    """A .pth file of PixArt-alpha itself: the shapes of its tensors and its table of positions say what it is.

    Attributes:
        file_stem, nested, ours: as of `PixArtDiffusers`.
    """

    file_stem: str = "PixArt-XL-2-256x256"
    nested: tuple[str, ...] = ("state_dict",)
    ours: str = OURS

    def load(self, state_dict: Foreign, config: Mapping[str, Any] | None, /) -> ReducioDiT:
        """The same model; the weights keep their data types, and the empty caption stays behind.

        Raises:
            ValueError: the tensors are not those of PixArt-alpha, or their positions are of no equal steps.
        """
        return _load(*_opened(state_dict))

    def start(self, state_dict: Foreign, config: Mapping[str, Any] | None, target: str, seed: int, /) -> ReducioDiT:
        """As of `PixArtDiffusers`."""
        return _start(*_opened(state_dict), target, seed)

    def export(self, folder: Path, state_dict: Foreign, /) -> tuple[StateDict, dict[str, Any] | None]:
        """There is no way back: the empty caption of an official file is not a part of the model.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "PixArt-alpha's own files hold the tokens of an empty caption, which a ReducioDiT does not keep; "
            "convert to 'pixart-diffusers', which every program of today reads"
        )


def _opened(state_dict: Foreign) -> tuple[StateDict, ReducioDiTConfig]:
    checkpoint = pixart_official.to_diffusers(state_dict)
    return dict(checkpoint.weights), pixart_config.of_official(state_dict, checkpoint.position_span)


def _load(state_dict: Foreign, config: ReducioDiTConfig) -> ReducioDiT:
    model = build_empty(ReducioDiT, config)
    model.load_state_dict(pixart_diffusers.convert(state_dict, config), assign=True)
    return model


def _start(state_dict: Foreign, pixart: ReducioDiTConfig, target: str, seed: int) -> ReducioDiT:
    wanted = read_target(target, NAMED, ReducioDiTConfig, ReducioDiT.__name__)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ReducioDiT(wanted)
    pixart_diffusers.start_from_pixart(model, state_dict, pixart)
    return model


PIXART_DIFFUSERS = PixArtDiffusers()
PIXART_OFFICIAL = PixArtOfficial()
