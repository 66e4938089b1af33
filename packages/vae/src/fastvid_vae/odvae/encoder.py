"""Frames -> moments of the latents. Source: OD-VAE, section 3.1."""

import torch.nn.functional as F
from torch import Tensor, nn

from fastvid_vae.odvae.blocks import EPS, CausalConv3d, Middle, ResnetBlock, conv
from fastvid_vae.odvae.config import ODVAEConfig
from fastvid_vae.odvae.resample import Downsample, TimeDownsample


class Encoder(nn.Module):
    """1 + 4k frames to mean and log-variance of 1 + k latent frames, before `quant_conv`."""

    def __init__(self, config: ODVAEConfig) -> None:
        super().__init__()
        width, groups = config.widths[-1], config.norm_groups
        self.conv_in = conv(config.encoder_conv_in, 3, config.widths[0])
        self.down = nn.ModuleList(DownLevel(config, level) for level in range(len(config.widths)))
        self.mid = Middle(config.encoder_blocks[-1], config.attention, width, groups=groups)
        self.norm_out = nn.GroupNorm(groups, width, eps=EPS)
        self.conv_out = CausalConv3d(width, 2 * config.latent_channels)

    def forward(self, frames: Tensor) -> Tensor:
        """frames: b 3 T H W, whole latent cells; returns b 2c t h w."""
        x = self.conv_in(frames)
        for level in self.down:
            x = level(x)
        moments: Tensor = self.conv_out(F.silu(self.norm_out(self.mid(x))))
        return moments


class DownLevel(nn.Module):
    """Residual blocks, and after all levels but the last a downsampling of space, then maybe one of time."""

    def __init__(self, config: ODVAEConfig, level: int) -> None:
        super().__init__()
        kind, groups = config.encoder_blocks[level], config.norm_groups
        width, before = config.widths[level], config.widths[max(level - 1, 0)]
        self.block = nn.ModuleList(
            ResnetBlock(kind, width if i else before, width, groups=groups) for i in range(config.num_blocks)
        )
        self.downsample: Downsample | None = None
        self.time_downsample: TimeDownsample | None = None
        if level < len(config.downsamples):
            self.downsample = Downsample(config.downsamples[level], width)
            if config.time_downsamples[level] != "none":
                self.time_downsample = TimeDownsample(config.time_downsamples[level], width)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        for sample in (self.downsample, self.time_downsample):
            x = x if sample is None else sample(x)
        return x
