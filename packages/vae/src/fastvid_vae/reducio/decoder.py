"""Latents and content features -> frames. Source: Reducio, section 3.1; the released code."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fastvid_vae.reducio.blocks import EPS, Middle, Upsample, conv, resnet_blocks
from fastvid_vae.reducio.config import ReducioConfig
from fastvid_vae.reducio.fusion import AddFusion, AttentionFusion, LinearFusion


class FusionDecoder(nn.Module):
    """The middle, then from the last level to the first: blocks, fusion, blocks, upsampling."""

    def __init__(self, config: ReducioConfig) -> None:
        super().__init__()
        widths, groups = config.widths, config.norm_groups
        self.conv_in = conv(3, config.latent_channels, widths[-1])
        self.mid = FusionMiddle(config)
        self.up = nn.ModuleList(UpLevel(config, level) for level in range(len(widths)))
        self.norm_out = nn.GroupNorm(groups, widths[0], eps=EPS)
        self.conv_out = conv(3, widths[0], 3)

    def forward(self, latents: Tensor, content: Sequence[Tensor], *, trained_length: bool) -> Tensor:
        """Frames b 3 T H W, not clamped.

        Args:
            latents: b c t h w, after `post_quant_conv`.
            content: features of the content frame from `ContentEncoder`; empty where nothing is fused.
            trained_length: whether the clip is as long as in training; otherwise tables over time are rebuilt.
        """
        x = self.mid(self.conv_in(latents), content, trained_length=trained_length)
        for level in reversed(range(len(self.up))):
            x = self.up[level](x, content, trained_length=trained_length)
        frames: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return frames


class FusionMiddle(Middle):
    """Block, fusion with the deepest features, self-attention, block."""

    def __init__(self, config: ReducioConfig) -> None:
        width, last = config.widths[-1], len(config.widths) - 1
        super().__init__(3, width, num_heads=config.num_heads, groups=config.norm_groups)
        # Always attention: the grids of latents and features differ, so there is nothing to add or to append.
        self.fuse = nn.ModuleList([] if config.fusion == "none" else [_attention(config, last, -1)])

    def forward(self, x: Tensor, content: Sequence[Tensor], *, trained_length: bool) -> Tensor:  # type: ignore[override]  # the decoder's middle is told of the content
        x = self.block_1(x)
        for fusion in self.fuse:
            x = fusion(x, content[-1], trained_length=trained_length)
        out: Tensor = self.block_2(self.attn_1(x))
        return out


class UpLevel(nn.Module):
    """Blocks, fusion where the configuration names the level, blocks, and an upsampling at all levels but the first."""

    def __init__(self, config: ReducioConfig, level: int) -> None:
        super().__init__()
        widths, groups = config.widths, config.norm_groups
        width, deeper = widths[level], widths[min(level + 1, len(widths) - 1)]
        self.level = level
        self.block_1 = resnet_blocks(3, [deeper] + [width] * config.num_blocks, groups=groups)
        self.fuse = nn.ModuleList(_fusion(config, level))
        self.block_2 = resnet_blocks(3, [width] * (config.num_blocks + 1), groups=groups)
        self.upsample = Upsample(width, doubles_time=config.halves_time(level - 1)) if level else None

    def forward(self, x: Tensor, content: Sequence[Tensor], *, trained_length: bool) -> Tensor:
        for block in self.block_1:
            x = block(x)
        for fusion in self.fuse:
            x = fusion(x, content[self.level], trained_length=trained_length)
        for block in self.block_2:
            x = block(x)
        return x if self.upsample is None else self.upsample(x)


def _fusion(config: ReducioConfig, level: int) -> list[nn.Module]:
    if config.fusion == "none" or level not in config.fused_levels:
        return []
    if config.fusion == "attention":
        return [_attention(config, level, level)]
    kind = AddFusion if config.fusion == "add" else LinearFusion
    width, context = config.widths[level], config.content_widths[level]
    return [kind(width, context, frames=config.frames_at(level), groups=config.norm_groups)]


def _attention(config: ReducioConfig, level: int, content_level: int) -> AttentionFusion:
    return AttentionFusion(
        config.widths[level],
        config.content_widths[content_level],
        frames=config.frames_at(level),
        head_width=config.fusion_head_width,
    )
