"""The released OD-VAE checkpoints as `fastvid-cli convert` asks for them: whole files to an ODVAE and back.

Source: huggingface.co/LanguageBind/Open-Sora-Plan-v1.2.0, v1.1.0 and v1.0.0 (folder `vae`). Their published weights
have not been run through this yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fastvid_vae.checkpoint import build_empty, read_config
from fastvid_vae.conversion import odvae, odvae_config
from fastvid_vae.conversion.released import StateDict
from fastvid_vae.odvae.config import ODVAEConfig
from fastvid_vae.odvae.model import ODVAE


@dataclass(frozen=True, slots=True, kw_only=True)
class ODVAELayout:
    """The layout of a released file.

    Attributes:
        file_stem: what the file is called, without its ending.
        nested: where pickles of this layout may keep the tensors, if they do not hold them bare. The moving average
            comes first, as in the released loader.
        ours: the name of our layout.
    """

    file_stem: str
    nested: tuple[str, ...] = ("ema_state_dict", "state_dict.gen_model", "state_dict")
    ours: str = "od-vae"

    def load(self, state_dict: Mapping[str, Tensor], config: Mapping[str, Any] | None, /) -> ODVAE:
        """The same model; the weights keep their data types.

        Raises:
            ValueError: no config.json, one that no release has, or tensors that do not fit it.
        """
        if config is None:
            raise ValueError(
                "`config` is missing: put the config.json of the release beside its weights, since three graphs share "
                f"the name {odvae_config.CLASS_NAME}"
            )
        own = odvae_config.from_official(config)
        model = build_empty(ODVAE, own)
        model.load_state_dict(odvae.convert(state_dict, own), assign=True)
        return model

    def start(
        self, state_dict: Mapping[str, Tensor], config: Mapping[str, Any] | None, target: str, seed: int, /
    ) -> ODVAE:
        """Refused: there is no larger model to begin with these weights.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"`target` is {target!r}; no other model begins with an OD-VAE: leave it out")

    def export(self, folder: Path, state_dict: Mapping[str, Tensor], /) -> tuple[StateDict, dict[str, Any] | None]:
        """Tensors and config.json in this layout; the exact inverse of `load`.

        Raises:
            ValueError: a model that `load` would not read back as it is.
        """
        config = read_config(folder, ODVAEConfig, ODVAE.__name__)
        return odvae.invert(state_dict, config), odvae_config.official(config)


ODVAE_CHECKPOINT = ODVAELayout(file_stem="checkpoint")
"""Version 1.2: a pickle of the training run."""

ODVAE_DIFFUSERS = ODVAELayout(file_stem="diffusion_pytorch_model")
"""Versions 1.0 and 1.1: safetensors."""
