"""Frames -> moments of the latents, and content frame -> features. Source: Reducio, section 3.1."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fastvid_vae.reducio.blocks import EPS, Dims, Downsample, Middle, conv, resnet_blocks
from fastvid_vae.reducio.config import ReducioConfig


class VideoEncoder(nn.Module):
    """A clip to the mean and log-variance of its latents, before `quant_conv`. Not causal: frames see one another."""

    def __init__(self, config: ReducioConfig) -> None:
        super().__init__()
        widths, groups = config.widths, config.norm_groups
        self.conv_in = conv(3, 3, widths[0])
        self.down = _levels(3, widths, config, halves_time=[config.halves_time(i) for i in range(len(widths))])
        self.mid = Middle(3, widths[-1], num_heads=config.num_heads, groups=groups)
        self.norm_out = nn.GroupNorm(groups, widths[-1], eps=EPS)
        self.conv_out = conv(3, widths[-1], 2 * config.latent_channels)

    def forward(self, frames: Tensor) -> Tensor:
        """frames: b 3 T H W, whole latent cells; returns b 2c t h w."""
        x = self.conv_in(frames)
        for level in self.down:
            x = level(x)[1]
        moments: Tensor = self.conv_out(F.silu(self.norm_out(self.mid(x))))
        return moments


class ContentEncoder(nn.Module):
    """A content frame to features: one per level before its downsampling, and one after the middle's attention.

    `mid.block_2` and `norm_out` belong to the released weights and reach no output.
    """

    def __init__(self, config: ReducioConfig) -> None:
        super().__init__()
        widths, groups = config.content_widths, config.norm_groups
        self.conv_in = conv(2, 3, widths[0])
        self.down = _levels(2, widths, config, halves_time=[False] * len(widths))
        self.mid = Middle(2, widths[-1], num_heads=config.num_heads, groups=groups)
        self.norm_out = nn.GroupNorm(groups, widths[-1], eps=EPS)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """picture: b 3 H W; returns b c H/2^i W/2^i for each level i, and the last once more, deeper."""
        x = self.conv_in(picture)
        features = []
        for level in self.down:
            feature, x = level(x)
            features.append(feature)
        return [*features, self.mid.attn_1(self.mid.block_1(x))]


class Level(nn.Module):
    """Residual blocks, and a downsampling after all levels but the last. Returns what is before and after it."""

    def __init__(self, block: nn.ModuleList, downsample: Downsample | None) -> None:
        super().__init__()
        self.block = block
        self.downsample = downsample

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for block in self.block:
            x = block(x)
        return x, x if self.downsample is None else self.downsample(x)


def _levels(dims: Dims, widths: Sequence[int], config: ReducioConfig, *, halves_time: Sequence[bool]) -> nn.ModuleList:
    levels = []
    for i, width in enumerate(widths):
        channels = [widths[max(i - 1, 0)]] + [width] * config.num_blocks
        last = i == len(widths) - 1
        downsample = None if last else Downsample(dims, width, halves_time=halves_time[i])
        levels.append(Level(resnet_blocks(dims, channels, groups=config.norm_groups), downsample))
    return nn.ModuleList(levels)
