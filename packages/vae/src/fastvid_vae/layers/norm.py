"""Normalisation that looks at one pixel of one frame only, so that chunks, tiles and frames never mix."""

import torch
from torch import Tensor, nn


class PixelNorm(nn.Module):
    """x / rms over the channels, with an optional affine map.

    Source: FSVideo, section 2.2 ("changing all norms to pixel norm"). The affine map is that of DC-AE's RMSNorm,
    so that its weights load; `affine=False` is the literal form of ProGAN.
    """

    def __init__(self, channels: int, *, affine: bool, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:  # b c t h w
        scale = torch.rsqrt(x.float().square().mean(dim=1, keepdim=True) + self.eps)
        x = x * scale.to(x.dtype)
        if self.weight is None or self.bias is None:
            return x
        return x * self.weight.view(1, -1, 1, 1, 1) + self.bias.view(1, -1, 1, 1, 1)
