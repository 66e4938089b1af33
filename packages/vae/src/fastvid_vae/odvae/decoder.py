"""Latents -> frames. Source: OD-VAE, section 3.1."""

import torch.nn.functional as F
from torch import Tensor, nn

from fastvid_vae.odvae.blocks import EPS, CausalConv3d, Middle, ResnetBlock, conv
from fastvid_vae.odvae.config import ODVAEConfig
from fastvid_vae.odvae.resample import TimeUpsample, Upsample


class Decoder(nn.Module):
    """1 + k latent frames to 1 + 4k frames: the middle, then from the last level to the first."""

    def __init__(self, config: ODVAEConfig) -> None:
        super().__init__()
        width, groups = config.widths[-1], config.norm_groups
        self.conv_in = CausalConv3d(config.latent_channels, width)
        self.mid = Middle(config.decoder_blocks[-1], config.attention, width, groups=groups)
        self.up = nn.ModuleList(UpLevel(config, level) for level in range(len(config.widths)))
        self.norm_out = nn.GroupNorm(groups, config.widths[0], eps=EPS)
        self.conv_out = conv(config.decoder_conv_out, config.widths[0], 3)

    def forward(self, latents: Tensor) -> Tensor:
        """latents: b c t h w, after `post_quant_conv`; returns frames b 3 T H W, not clamped."""
        x = self.mid(self.conv_in(latents))
        for level in reversed(self.up):
            x = level(x)
        frames: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return frames


class UpLevel(nn.Module):
    """Residual blocks, and at all levels but the first an upsampling of space, then maybe one of time."""

    def __init__(self, config: ODVAEConfig, level: int) -> None:
        super().__init__()
        kind, mode, groups = config.decoder_blocks[level], config.upsample_mode, config.norm_groups
        width, deeper = config.widths[level], config.widths[min(level + 1, len(config.widths) - 1)]
        self.block = nn.ModuleList(
            ResnetBlock(kind, width if i else deeper, width, groups=groups) for i in range(config.num_blocks + 1)
        )
        self.upsample: Upsample | None = None
        self.time_upsample: TimeUpsample | None = None
        if level:
            self.upsample = Upsample(config.upsamples[level - 1], width, mode=mode)
            if config.time_upsamples[level - 1] != "none":
                self.time_upsample = TimeUpsample(config.time_upsamples[level - 1], width, mode=mode)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        for sample in (self.upsample, self.time_upsample):
            x = x if sample is None else sample(x)
        return x
