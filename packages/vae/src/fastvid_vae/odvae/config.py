"""Architecture of an OD-VAE: the four variants of the paper and the released graphs. Source: OD-VAE, sections 3.1 and
3.2; the released code and its configuration files where the paper is silent."""

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from fastvid_vae.arguments import check_range

ConvKind = Literal["2d", "causal"]
BlockKind = Literal["2d", "causal", "half causal"]
Downsampling = Literal["2d", "flat", "causal", "causal time"]
TimeDownsampling = Literal["none", "pool", "mixed"]
Upsampling = Literal["flat", "causal", "causal time"]
TimeUpsampling = Literal["none", "linear", "mixed"]
Attention = Literal["frames", "scrambled"]
UpsampleMode = Literal["trilinear", "nearest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ODVAEConfig:
    """Levels run from the pixels (index 0) to the latents (last); step i lies between level i and level i + 1.

    Attributes:
        latent_channels: c, channels of a latent.
        widths: channels of encoder and decoder, per level.
        num_blocks: residual blocks of an encoder level; a decoder level has one more.
        encoder_conv_in: the first convolution sees each frame alone (`2d`), or also the two frames before it.
        encoder_blocks, decoder_blocks: per level, the last one also for the middle; `half causal` has a causal first
            convolution and a 2-D second one.
        downsamples: per step, halving height and width: `2d` frame by frame; `flat` the same as a 3-D kernel of depth
            one; `causal` with depth three; `causal time` halving time as well.
        time_downsamples: per step, after the above: `pool` averages three frames, `mixed` adds a learned convolution.
        upsamples: per step, doubling height and width: `flat` repeats pixels, then a kernel of depth one; `causal`
            and, doubling time as well, `causal time` interpolate, then a causal kernel.
        time_upsamples: per step, after the above: `linear` interpolates, `mixed` adds a learned convolution.
        decoder_conv_out: as `encoder_conv_in`.
        attention: in the middle of both networks, `frames` among the positions of each frame. `scrambled` mixes
            channels with frames, as version 1.0 was trained; for one frame it is the same.
        upsample_mode: how `causal` upsamplings and those of time interpolate. Released weights are `trilinear`; image
            autoencoders know `nearest`.
        norm_groups: groups of every group norm.
        scaling_factor: latents leave the autoencoder multiplied by it.
    """

    latent_channels: int
    widths: tuple[int, ...]
    num_blocks: int
    encoder_conv_in: ConvKind
    encoder_blocks: tuple[BlockKind, ...]
    downsamples: tuple[Downsampling, ...]
    time_downsamples: tuple[TimeDownsampling, ...]
    decoder_blocks: tuple[BlockKind, ...]
    upsamples: tuple[Upsampling, ...]
    time_upsamples: tuple[TimeUpsampling, ...]
    decoder_conv_out: ConvKind
    attention: Attention
    upsample_mode: UpsampleMode
    norm_groups: int
    scaling_factor: float

    def __post_init__(self) -> None:
        for name, kinds in _KINDS.items():
            for value in _values(getattr(self, name)):
                if value not in get_args(kinds):
                    raise ValueError(f"`{name}` holds {value!r}; expected {', '.join(map(repr, get_args(kinds)))}")
        check_range("latent_channels", self.latent_channels, 1, 4096)
        check_range("norm_groups", self.norm_groups, 1, 4096)
        check_range("num_blocks", self.num_blocks, 1, 64)
        if not 0 < self.scaling_factor < float("inf"):
            raise ValueError(f"`scaling_factor` is {self.scaling_factor}; expected a finite number above 0")
        self._check_levels()
        self._check_time()

    def _check_levels(self) -> None:
        levels = len(self.widths)
        if not 1 <= levels <= 12:
            raise ValueError(f"`widths` has {levels} levels; expected 1 to 12")
        for width in self.widths:
            check_range("widths", width, 1, 16384)
            if width % self.norm_groups:
                raise ValueError(f"`widths` holds {width}; `norm_groups`, {self.norm_groups}, must divide it")
        for names, expected in ((_PER_LEVEL, levels), (_PER_STEP, levels - 1)):
            for name in names:
                if len(getattr(self, name)) != expected:
                    raise ValueError(
                        f"`{name}` has {len(getattr(self, name))} entries; expected {expected}, as `widths` has "
                        f"{levels}"
                    )

    def _check_time(self) -> None:
        down = sum(self.halves_time(step) for step in range(len(self.downsamples)))
        up = sum(self.doubles_time(step) for step in range(len(self.upsamples)))
        if down != up:
            raise ValueError(f"the encoder halves time {down} times and the decoder doubles it {up} times")
        for step in range(len(self.downsamples)):
            twice_down = self.downsamples[step] == "causal time" and self.time_downsamples[step] != "none"
            if twice_down or (self.upsamples[step] == "causal time" and self.time_upsamples[step] != "none"):
                raise ValueError(f"step {step} changes time twice; expected one of its two layers to leave it")

    @property
    def stride(self) -> tuple[int, int, int]:
        """Compression in time, height and width."""
        space = 1 << len(self.downsamples)
        return 1 << sum(self.halves_time(step) for step in range(len(self.downsamples))), space, space

    def halves_time(self, step: int) -> bool:
        """Whether the encoder halves time between level `step` and the next one."""
        return self.downsamples[step] == "causal time" or self.time_downsamples[step] != "none"

    def doubles_time(self, step: int) -> bool:
        """Whether the decoder doubles time between level `step` + 1 and level `step`."""
        return self.upsamples[step] == "causal time" or self.time_upsamples[step] != "none"


_PER_LEVEL = ("encoder_blocks", "decoder_blocks")
_PER_STEP = ("downsamples", "time_downsamples", "upsamples", "time_upsamples")
_KINDS: dict[str, Any] = {
    "encoder_conv_in": ConvKind,
    "encoder_blocks": BlockKind,
    "downsamples": Downsampling,
    "time_downsamples": TimeDownsampling,
    "decoder_blocks": BlockKind,
    "upsamples": Upsampling,
    "time_upsamples": TimeUpsampling,
    "decoder_conv_out": ConvKind,
    "attention": Attention,
    "upsample_mode": UpsampleMode,
}


def _values(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else (value,)


ODVAE_VARIANT_1 = ODVAEConfig(
    latent_channels=4,
    widths=(128, 256, 512, 512),
    num_blocks=2,
    encoder_conv_in="causal",
    encoder_blocks=("causal",) * 4,
    downsamples=("causal", "causal time", "causal time"),
    time_downsamples=("none",) * 3,
    decoder_blocks=("causal",) * 4,
    upsamples=("causal", "causal time", "causal time"),
    time_upsamples=("none",) * 3,
    decoder_conv_out="causal",
    attention="frames",
    upsample_mode="trilinear",
    norm_groups=32,
    scaling_factor=0.18215,
)
"""Every 2-D convolution of the image autoencoder inflated. The graph is ours: the paper shows it in a figure alone."""

ODVAE_VARIANT_2 = replace(ODVAE_VARIANT_1, encoder_blocks=("half causal",) * 4, decoder_blocks=("half causal",) * 4)
"""Half of the convolutions 2-D. Ours: the second one of every residual block; which, the paper shows in a figure."""

ODVAE_VARIANT_4 = replace(
    ODVAE_VARIANT_1,
    encoder_conv_in="2d",
    encoder_blocks=("2d", "2d", "causal", "causal"),
    downsamples=("2d", "causal time", "causal time"),
    upsamples=("flat", "causal time", "causal time"),
)
"""The outer blocks of the encoder 2-D: the paper's choice, and what Open-Sora-Plan released as version 1.2."""

ODVAE_VARIANT_3 = replace(ODVAE_VARIANT_4, decoder_blocks=("2d", "2d", "causal", "causal"), decoder_conv_out="2d")
"""The outer blocks of both networks 2-D. Ours: where the decoder's outer blocks end, the paper shows in a figure."""

ODVAE_V1_1 = replace(
    ODVAE_VARIANT_4,
    downsamples=("2d",) * 3,
    time_downsamples=("none", "mixed", "mixed"),
    upsamples=("flat",) * 3,
    time_upsamples=("none", "mixed", "mixed"),
)
"""Open-Sora-Plan 1.1: layers of their own for time."""

ODVAE_V1_0 = replace(
    ODVAE_VARIANT_1,
    downsamples=("flat",) * 3,
    time_downsamples=("pool", "pool", "none"),
    upsamples=("flat",) * 3,
    time_upsamples=("none", "linear", "linear"),
    attention="scrambled",
)
"""Open-Sora-Plan 1.0: 3-D throughout, time averaged, attention as it was before its shapes were put right."""
