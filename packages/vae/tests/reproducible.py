"""Weights and inputs that come out the same everywhere, for parity with released code."""

from collections.abc import Mapping
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

MOST_VALUES = 6000
STRIDES = (1, 3, 7, 13, 31, 61, 97, 193)


def uniform(shape: tuple[int, ...], key: str) -> Tensor:
    """Values in [-1, 1) from a name: raw bits of PCG64, which are the same on every machine and in every version."""
    seed = int.from_bytes(sha256(key.encode()).digest()[:8], "little")
    bits = np.random.PCG64(seed).random_raw(int(np.prod(shape)))
    return torch.from_numpy((bits >> np.uint64(11)) * 2.0**-52 - 1).float().reshape(shape)


def weights(like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A value for every tensor, by its name and shape."""
    return {name: _weight(name, tensor) for name, tensor in like.items()}


def thin(tensor: Tensor, most: int = MOST_VALUES) -> Tensor:
    """A few thousand of the values, spread over all axes: the stride is odd, so no axis is met at even places only."""
    stride = next(step for step in STRIDES if tensor.numel() <= step * most)
    return tensor.flatten()[::stride].contiguous().clone()


def video(name: str, size: tuple[int, int, int]) -> Tensor:
    return uniform((1, 3, *size), f"video {name}")


def _weight(name: str, tensor: Tensor) -> Tensor:
    values = uniform(tuple(tensor.shape), name)
    if tensor.dim() == 1:
        return 1 + 0.2 * values if name.endswith("weight") else 0.1 * values
    return values * (3 / tensor[0].numel()) ** 0.5
