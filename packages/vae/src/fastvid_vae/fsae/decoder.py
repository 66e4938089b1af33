"""Latents -> frames: causal, standard (centred) or lite (group-causal). Source: FSVideo, section 2.2."""

from collections.abc import Sequence
from functools import partial

from einops import repeat
from torch import Tensor, nn
from torch.nn import functional

from fastvid_vae.fsae.config import FSAEConfig, InjectionKind
from fastvid_vae.fsae.encoder import build_blocks
from fastvid_vae.layers.deformable_attention import DeformableFirstFrameAttention, upsample_offsets
from fastvid_vae.layers.first_frame_attention import FirstFrameAttention
from fastvid_vae.layers.noise import Noise
from fastvid_vae.layers.norm import PixelNorm
from fastvid_vae.layers.resample import Upsample, whole_ratio
from fastvid_vae.layers.stream import Stream
from fastvid_vae.layers.temporal_conv import CausalConv3d, CenteredConv3d, ConvBuilder, GroupCausalConv3d


class Decoder(nn.Module):
    """The latent convolution, then from the last stage to the first: upsampling, first-frame injection, blocks."""

    def __init__(self, config: FSAEConfig) -> None:
        super().__init__()
        widths = config.decoder_widths
        last = len(widths) - 1
        convs = [_conv_builder(config, stage) for stage in range(last + 1)]
        self.temporal_stages = config.temporal_stages
        self.in_repeats = whole_ratio(widths[-1], config.latent_channels)
        self.conv_in = convs[last](config.latent_channels, widths[-1])
        self.place = _place(config.latent_channels) if "deformable" in config.injection else None
        # An upsampling convolves before it grows, so it works on the groups of the stage below.
        self.ups = nn.ModuleList(
            Upsample(widths[i + 1], widths[i], time=2 if i in config.temporal_stages else 1, conv=convs[i + 1])
            for i in range(last)
        )
        self.injections = nn.ModuleDict(
            {
                str(stage): _injection(config, stage, kind)
                for stage, kind in enumerate(config.injection)
                if kind is not None
            }
        )
        self.stages = nn.ModuleList(
            build_blocks(config, stage, widths[stage], config.decoder_depths[stage], convs[stage])
            for stage in range(last + 1)
        )
        self.norm_out = PixelNorm(widths[0], affine=config.affine_norm)
        self.conv_out = convs[0](widths[0], 3)

    def forward(
        self,
        latents: Tensor,
        first_features: Sequence[Tensor | None] | None,
        stream: Stream,
        noise: Noise,
        *,
        skipped: int = 0,
    ) -> Tensor:
        """Frames (b 3 T H W).

        `first_features`: the encoder's of frame 0, one a stage with injection, or None; `skipped`: of the upsamplings,
        from the latents on, so many leave space as it is, and the frames are smaller.
        """
        x, offsets = self.start(latents, stream)
        for stage in reversed(range(len(self.stages))):
            in_space = stage < len(self.ups) - skipped
            x, offsets = self.run_stage(stage, x, offsets, first_features, stream, noise, in_space=in_space)
        return self.finish(x, stream)

    def start(self, latents: Tensor, stream: Stream) -> tuple[Tensor, Tensor | None]:
        """The features before the last stage, and where the deformable stages start to look."""
        x = self.conv_in(latents, stream) + repeat(latents, "b c t h w -> b (c g) t h w", g=self.in_repeats)
        return x, None if self.place is None else self.place(latents).float()

    def run_stage(  # the state that travels through the stages
        self,
        stage: int,
        x: Tensor,
        offsets: Tensor | None,
        first_features: Sequence[Tensor | None] | None,
        stream: Stream,
        noise: Noise,
        *,
        in_space: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        if stage < len(self.ups):
            x = self.ups[stage](x, stream, in_space=in_space)
            if offsets is not None:
                time = 2 if stage in self.temporal_stages else 1
                offsets = upsample_offsets(offsets, stream, time=time, in_space=in_space)
        if first_features is not None and str(stage) in self.injections:
            injection = self.injections[str(stage)]
            if offsets is not None and isinstance(injection, DeformableFirstFrameAttention):
                x, offsets = injection(x, first_features[stage], offsets)
            else:
                x = injection(x, first_features[stage])
        for block in self.stages[stage]:  # type: ignore[attr-defined]  # a ModuleList of ModuleLists
            x = block(x, stream, noise)
        return x, offsets

    def finish(self, x: Tensor, stream: Stream) -> Tensor:
        frames: Tensor = self.conv_out(functional.relu(self.norm_out(x)), stream)
        return frames


def _place(latent_channels: int) -> nn.Conv3d:
    """Latents -> offsets (x, y), in cells, to where their content lies in the first frame: its own place, at first."""
    place = nn.Conv3d(latent_channels, 2, 1)
    nn.init.zeros_(place.weight)
    nn.init.zeros_(place.bias)  # type: ignore[arg-type]  # the layer is built with a bias
    return place


def _injection(config: FSAEConfig, stage: int, kind: InjectionKind) -> nn.Module:
    width, head, affine = config.decoder_widths[stage], config.injection_head_width, config.affine_norm
    if kind == "deformable":
        return DeformableFirstFrameAttention(width, head_width=head, affine_norm=affine)
    return FirstFrameAttention(width, head_width=head, kind=kind, affine_norm=affine)


def _conv_builder(config: FSAEConfig, stage: int) -> ConvBuilder:
    match config.decoder_mode:
        case "causal":
            return CausalConv3d
        case "standard":
            return CenteredConv3d
        case "lite":
            return partial(GroupCausalConv3d, group_size=config.group_size(stage))
