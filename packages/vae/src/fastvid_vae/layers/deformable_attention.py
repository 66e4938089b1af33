"""Deformable cross-attention from the decoder to the first frame: each head looks at one place that it chooses.

Source: Deformable DETR (Zhu et al., 2021), section 4.1, with one sampling point a head and the option to look at
nothing. A camera that moves shows the first frame again, somewhere else; dense attention finds that place at a cost of
(t h w)(h w), which only the deep stages can pay, and blurs it to whole cells. Sampling costs t h w and keeps fractions.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from fastvid_vae.layers.norm import PixelNorm

REACH = 4.0
"""Cells that an offset of 1 moves: a unit of activation is a typical motion, not one cell."""


class DeformableFirstFrameAttention(nn.Module):
    """x + out(the first frame's features, sampled bilinearly where each head looks, times how much it looks)."""

    def __init__(self, channels: int, *, head_width: int, affine_norm: bool) -> None:
        super().__init__()
        self.norm = PixelNorm(channels, affine=affine_norm)
        self.look = Look(channels, channels // head_width)
        self.v = nn.Conv3d(channels, channels, 1, bias=False)
        self.out = nn.Conv3d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]  # the layer is built with a bias

    def forward(self, x: Tensor, first: Tensor) -> Tensor:
        """x: b c t h w; first: b c 1 h w, the encoder's features of frame 0 at this stage."""
        t, h, w = x.shape[2:]
        offsets, weights = self.look(self.norm(x))
        size = torch.tensor([w, h], device=x.device, dtype=torch.float32)
        # grid_sample runs from -1 at the outer edge of the first cell to 1 at the outer edge of the last.
        grid = (2 * (_cells(h, w, x.device)[:, :, None] + offsets) + 1) / size - 1
        v = rearrange(self.v(first).float(), "b (n e) 1 h w -> (b n) e h w", n=weights.shape[-1])
        places = rearrange(grid, "b t h w n xy -> (b n) (t h) w xy")
        seen = functional.grid_sample(v, places, mode="bilinear", padding_mode="zeros", align_corners=False)
        seen = seen * rearrange(weights, "b t h w n -> (b n) 1 (t h) w")
        seen = rearrange(seen, "(b n) e (t h) w -> b (n e) t h w", b=x.shape[0], t=t)
        out: Tensor = x + self.out(seen.to(x.dtype))
        return out


class Look(nn.Module):
    """Where every head of every position looks, relative to its own place, and how much."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(channels, 3 * heads)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: b c t h w -> offsets (x, y) in cells, (b t h w n 2), and weights in 0..1, (b t h w n); both fp32."""
        look = rearrange(
            self.project(rearrange(x, "b c t h w -> b t h w c")).float(), "b t h w (n k) -> b t h w n k", k=3
        )
        return REACH * look[..., :2], look[..., 2].sigmoid()


def _cells(h: int, w: int, device: torch.device) -> Tensor:
    """(h, w, 2): x and y of every cell."""
    y, x = torch.meshgrid(
        torch.arange(h, device=device, dtype=torch.float32),
        torch.arange(w, device=device, dtype=torch.float32),
        indexing="ij",
    )
    return torch.stack([x, y], dim=-1)
