"""The released OD-VAE checkpoints as an `ODVAE`, and back.

Our modules carry the released names, so what is left are the wrappings of a training run: 248 tensors (260 of version
1.1). A training checkpoint holds the moving average under `ema_state_dict` and the last weights under
`state_dict.gen_model`; others hold them under `state_dict` or bare. Which of these is read, `odvae_layout` says.
Source: Open-Sora-Plan 1.0 to 1.2. Their published weights have not been run through this map yet.
"""

from collections.abc import Mapping

from torch import Tensor

from fastvid_vae.checkpoint import build_empty
from fastvid_vae.conversion.released import StateDict, bare, fitted
from fastvid_vae.odvae.config import ODVAEConfig
from fastvid_vae.odvae.model import ODVAE


def convert(state_dict: Mapping[str, Tensor], config: ODVAEConfig) -> StateDict:
    """The released state dict as that of `ODVAE(config)`.

    A leading `module.` is stripped, the discriminator and the perceptual loss (`loss.`) are dropped.

    Raises:
        ValueError: tensors are missing, left over or of another shape.
    """
    return invert(bare(state_dict), config)


def invert(state_dict: Mapping[str, Tensor], config: ODVAEConfig) -> StateDict:
    """The exact inverse of `convert`, for a checkpoint without wrappings; raises as it does."""
    return fitted(state_dict, build_empty(ODVAE, config).state_dict())
