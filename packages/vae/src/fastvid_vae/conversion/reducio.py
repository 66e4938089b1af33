"""The released Reducio-VAE checkpoints as a `ReducioVAE`, and back.

Our modules carry the released names, so what is left are the wrappings of a training run and the tables over time: 512
tensors at either full size. Source: huggingface.co/microsoft/Reducio-VAE (`reducio-ft4-fs32-attn23.ckpt`,
`reducio-ft2-fs32-attn23.ckpt`); a pickle that `torch.load(weights_only=True)` reads, with the tensors under
`state_dict` or bare. Those weights have not been run through this map yet.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fastvid_vae.checkpoint import build_empty
from fastvid_vae.conversion.released import StateDict, bare, fitted
from fastvid_vae.reducio.config import ReducioConfig
from fastvid_vae.reducio.fusion import frame_table
from fastvid_vae.reducio.model import ReducioVAE

TABLE = ".pos_embed"
TABLE_TOLERANCE = 1e-6  # float32; halves are rounded further


def convert(state_dict: Mapping[str, Tensor], config: ReducioConfig) -> StateDict:
    """The released state dict as that of `ReducioVAE(config)`.

    A leading `module.` is stripped, the discriminator and the perceptual loss (`loss.`) are dropped.

    Raises:
        ValueError: tensors are missing, left over or of another shape, or a table over time is another one.
    """
    return _checked(bare(state_dict), config)


def invert(state_dict: Mapping[str, Tensor], config: ReducioConfig) -> StateDict:
    """The exact inverse of `convert`, for a checkpoint without wrappings; raises as it does."""
    return _checked(dict(state_dict), config)


def _checked(tensors: StateDict, config: ReducioConfig) -> StateDict:
    tensors = fitted(tensors, build_empty(ReducioVAE, config).state_dict())
    for name, tensor in tensors.items():
        if name.endswith(TABLE) and not tensor.is_meta:
            _check_table(name, tensor)
    return tensors


def _check_table(name: str, stored: Tensor) -> None:
    """A clip of another length rebuilds the table, so it must be the one that the formula gives."""
    _, frames, _, width = stored.shape
    built = frame_table(frames, width)
    error = float((stored[0, :, 0].double().cpu() - built).abs().max())
    if not error <= max(TABLE_TOLERANCE, torch.finfo(stored.dtype).eps):
        raise ValueError(f"`state_dict`: {name} is {error:.2g} off the sines and cosines it must hold")
