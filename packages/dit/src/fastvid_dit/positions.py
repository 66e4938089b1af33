"""Token coordinates as a tensor: the only place that knows the grid."""

import torch
from jaxtyping import Float
from torch import Tensor


def grid_positions(grid: tuple[int, int, int], *, device: torch.device | None = None) -> Float[Tensor, "3 t h w"]:
    """Integer coordinates of every token of a `(t, h, w)` grid, as float32.

    Anything of this shape may be passed to a model instead: fractional, scaled or unevenly spaced coordinates.
    """
    axes = [torch.arange(size, dtype=torch.float32, device=device) for size in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))
