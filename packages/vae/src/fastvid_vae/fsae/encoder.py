"""Frames -> latents, strictly causal. Source: FSVideo, section 2.2 (causal encoder on DC-AE's stages)."""

from einops import reduce
from torch import Tensor, nn

from fastvid_vae.fsae.config import FSAEConfig
from fastvid_vae.layers.linear_attention import EfficientViTBlock
from fastvid_vae.layers.noise import Noise
from fastvid_vae.layers.resample import Downsample, whole_ratio
from fastvid_vae.layers.resnet import ResBlock
from fastvid_vae.layers.stream import Stream
from fastvid_vae.layers.temporal_conv import CausalConv3d, ConvBuilder

SILENT = Noise("off", 0.0, None)


class Encoder(nn.Module):
    """conv, then per stage blocks and a downsampling, then the latent convolution with its averaging shortcut."""

    def __init__(self, config: FSAEConfig) -> None:
        super().__init__()
        widths = config.encoder_widths
        self.conv_in = CausalConv3d(3, widths[0])
        self.stages = nn.ModuleList(
            build_blocks(config, stage, widths[stage], config.encoder_depths[stage], CausalConv3d)
            for stage in range(len(widths))
        )
        self.downs = nn.ModuleList(
            Downsample(widths[i], widths[i + 1], time=2 if i in config.temporal_stages else 1, conv=CausalConv3d)
            for i in range(len(widths) - 1)
        )
        self.out_group = whole_ratio(widths[-1], config.latent_channels)
        self.conv_out = CausalConv3d(widths[-1], config.latent_channels)

    def forward(self, frames: Tensor, stream: Stream, *, skipped: int = 0) -> tuple[Tensor, list[Tensor]]:
        """Raw latents (b c t h w), and the output of every stage's blocks.

        `skipped`: so many of the last downsamplings leave space as it is, for frames that are smaller.
        """
        x = self.conv_in(frames, stream)
        features = []
        for stage, blocks in enumerate(self.stages):
            for block in blocks:  # type: ignore[attr-defined]  # a ModuleList of ModuleLists
                x = block(x, stream, SILENT)
            features.append(x)
            if stage < len(self.downs):
                x = self.downs[stage](x, stream, in_space=stage < len(self.downs) - skipped)
        shortcut = reduce(x, "b (c g) t h w -> b c t h w", "mean", g=self.out_group)
        return self.conv_out(x, stream) + shortcut, features


def build_blocks(config: FSAEConfig, stage: int, width: int, depth: int, conv: ConvBuilder) -> nn.ModuleList:
    """The blocks of one stage, of the kind that the configuration names."""
    if config.stage_kinds[stage] == "conv":
        return nn.ModuleList(ResBlock(width, conv=conv, affine_norm=config.affine_norm) for _ in range(depth))
    return nn.ModuleList(
        EfficientViTBlock(width, head_width=config.head_width, conv=conv, affine_norm=config.affine_norm)
        for _ in range(depth)
    )
