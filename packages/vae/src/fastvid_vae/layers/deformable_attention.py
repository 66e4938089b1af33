"""Deformable cross-attention from the decoder to the first frame: each head looks at one place that it chooses.

Sources: Deformable DETR (Zhu et al., 2021), section 4.1, with one sampling point a head and the option to look at
nothing; PWC-Net (Sun et al., 2018) for the order, coarse to fine: every stage starts where the one below it looked. A
camera that moves shows the first frame again, somewhere else; dense attention finds that place at a cost of
(t h w)(h w), which only the deep stages can pay, and blurs it to whole cells. Sampling costs t h w and keeps fractions.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from fastvid_vae.layers.norm import PixelNorm
from fastvid_vae.layers.precision import without_autocast
from fastvid_vae.layers.stream import Stream

REACH = 0.25
"""Cells that an offset of 1 moves: what is left to a stage is a fraction of its cell."""


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

    def forward(self, x: Tensor, first: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """The stage's features, and where its heads looked on average.

        x: b c t h w; first: b c 1 h w, the encoder's features of frame 0 at this stage; coarse: b 2 t h w, the offsets
        (x, y) in cells of this stage to start from, fp32.
        """
        t, h, w = x.shape[2:]
        offsets, weights = self.look(self.norm(x), coarse)
        size = torch.tensor([w, h], device=x.device, dtype=torch.float32)
        # grid_sample runs from -1 at the outer edge of the first cell to 1 at the outer edge of the last.
        grid = (2 * (_cells(h, w, x.device)[:, :, None] + offsets) + 1) / size - 1
        v = rearrange(self.v(first).float(), "b (n e) 1 h w -> (b n) e h w", n=weights.shape[-1])
        places = rearrange(grid, "b t h w n xy -> (b n) (t h) w xy")
        seen = functional.grid_sample(v, places, mode="bilinear", padding_mode="zeros", align_corners=False)
        seen = seen * rearrange(weights, "b t h w n -> (b n) 1 (t h) w")
        seen = rearrange(seen, "(b n) e (t h) w -> b (n e) t h w", b=x.shape[0], t=t)
        return x + self.out(seen.to(x.dtype)), rearrange(offsets.mean(dim=-2), "b t h w xy -> b xy t h w")


class Look(nn.Module):
    """Where every head of every position looks, relative to its own place, and how much."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = PreciseLinear(channels, 3 * heads)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """x: b c t h w -> offsets (x, y) in cells, (b t h w n 2), and weights in 0..1, (b t h w n); both fp32."""
        look = self.project(rearrange(x, "b c t h w -> b t h w c"))
        look = rearrange(look, "b t h w (n k) -> b t h w n k", k=3)
        return rearrange(coarse, "b xy t h w -> b t h w 1 xy") + REACH * look[..., :2], look[..., 2].sigmoid()


class PreciseLinear(nn.Linear):
    """In fp32, whatever the weights are in: bfloat16 knows an offset of 30 cells to an eighth of one."""

    # A module of its own, so that hooks that fetch weights from elsewhere are called before they are used.
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # its parent's name
        with without_autocast(input.device.type):
            return functional.linear(input.float(), self.weight.float(), self.bias.float())


def upsample_offsets(offsets: Tensor, stream: Stream, *, time: int, in_space: bool = True) -> Tensor:
    """Offsets (b 2 t h w) in cells, on a grid of cells half as large; a frame in between (`time` 2) takes the mean.

    `in_space` False: cells stay as they are.
    """
    if time == 2:
        known = stream.extend(offsets, first=1, later=1)
        between = (known[:, :, :-1] + known[:, :, 1:]) / 2
        offsets = rearrange(torch.stack([between, known[:, :, 1:]], dim=3), "b xy t dt h w -> b xy (t dt) h w")
        if stream.first:
            offsets = offsets[:, :, 1:]
    if not in_space:
        return offsets
    frames = rearrange(offsets, "b xy t h w -> (b t) xy h w")
    finer = 2 * functional.interpolate(frames, scale_factor=2.0, mode="bilinear", align_corners=False)
    return rearrange(finer, "(b t) xy h w -> b xy t h w", b=offsets.shape[0])


def _cells(h: int, w: int, device: torch.device) -> Tensor:
    """(h, w, 2): x and y of every cell."""
    y, x = torch.meshgrid(
        torch.arange(h, device=device, dtype=torch.float32),
        torch.arange(w, device=device, dtype=torch.float32),
        indexing="ij",
    )
    return torch.stack([x, y], dim=-1)
