"""Architecture of a Reducio-VAE, and the two released ones. Source: Reducio, section 3.1 and Table 5; the released code
where the paper is silent."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from fastvid_vae.arguments import check_range

Fusion = Literal["none", "linear", "add", "attention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReducioConfig:
    """Levels run from the pixels (index 0) to the latents (last); each halves the height and width of the one before.

    Attributes:
        latent_channels: |z|, channels of a latent.
        num_frames: frames of the clips that the model is trained on.
        widths: channels of the 3-D encoder and decoder, per level; f_s is 2 to the number of levels less one.
        content_widths: channels of the 2-D content encoder, per level.
        num_blocks: residual blocks of an encoder level; a decoder level has twice as many, half of them before fusion.
        temporal_levels: the deepest downsamplings, so many of them, that also halve time; f_t is 2 to that number.
        fusion: how the content frame enters the decoder (Table 5). Its middle always attends, unless this is `none`.
        fused_levels: decoder levels that fuse the content features of the same level; `none` leaves them unused, so
            that one field makes the rows of Table 5.
        num_heads: heads of the self-attention in the middle of each network.
        fusion_head_width: channels of one head of a fusing cross-attention.
        norm_groups: groups of every group norm.
    """

    latent_channels: int
    num_frames: int
    widths: tuple[int, ...]
    content_widths: tuple[int, ...]
    num_blocks: int
    temporal_levels: int
    fusion: Fusion
    fused_levels: tuple[int, ...]
    num_heads: int
    fusion_head_width: int
    norm_groups: int

    def __post_init__(self) -> None:
        if self.fusion not in get_args(Fusion):
            raise ValueError(f"`fusion` is {self.fusion!r}; expected {', '.join(map(repr, get_args(Fusion)))}")
        for name in ("latent_channels", "num_frames", "num_heads", "fusion_head_width", "norm_groups"):
            check_range(name, getattr(self, name), 1, 4096)
        check_range("num_blocks", self.num_blocks, 1, 64)
        for name in ("widths", "content_widths"):
            self._check_widths(name)
        check_range("temporal_levels", self.temporal_levels, 0, len(self.widths) - 1)
        if self.num_frames % self.stride[0]:
            raise ValueError(
                f"`num_frames` is {self.num_frames}; expected a multiple of {self.stride[0]}, which `temporal_levels` "
                f"compresses to one latent frame"
            )
        self._check_fusion()

    def _check_widths(self, name: str) -> None:
        widths = getattr(self, name)
        check_range(name, len(widths), 1, 12, "levels")
        for width in widths:
            check_range(name, width, 1, 16384)
            if width % self.norm_groups:
                raise ValueError(f"`{name}` holds {width}; `norm_groups`, {self.norm_groups}, must divide it")
        if widths[-1] % self.num_heads:
            raise ValueError(f"`{name}` ends with {widths[-1]}; `num_heads`, {self.num_heads}, must divide it")

    def _check_fusion(self) -> None:
        deepest = min(len(self.widths), len(self.content_widths)) - 1
        if list(self.fused_levels) != sorted(set(self.fused_levels)):
            raise ValueError(f"`fused_levels` is {self.fused_levels}; expected rising levels, none twice")
        for level in self.fused_levels:
            check_range("fused_levels", level, 0, deepest)
        for level in (*self.fused_levels, -1):  # -1: the middle
            if self.widths[level] % self.fusion_head_width:
                raise ValueError(
                    f"`fusion_head_width` is {self.fusion_head_width}; it must divide {self.widths[level]}, a width "
                    "of a fused level or of the last one"
                )

    @property
    def stride(self) -> tuple[int, int, int]:
        """Compression in time, height and width: f_t, f_s, f_s."""
        space = 1 << (len(self.widths) - 1)
        return 1 << self.temporal_levels, space, space

    def halves_time(self, level: int) -> bool:
        """Whether going from this level to the next one also halves time (and coming back doubles it)."""
        return level >= len(self.widths) - 1 - self.temporal_levels

    def frames_at(self, level: int) -> int:
        """Frames of a clip of `num_frames` at a level."""
        return self.num_frames >> sum(self.halves_time(above) for above in range(level))


REDUCIO_FT4 = ReducioConfig(
    latent_channels=16,
    num_frames=16,
    widths=(128, 256, 256, 512, 512, 512),
    content_widths=(128, 256, 512, 512),
    num_blocks=2,
    temporal_levels=2,
    fusion="attention",
    fused_levels=(2, 3),
    num_heads=8,
    fusion_head_width=64,
    norm_groups=32,
)

REDUCIO_FT2 = replace(REDUCIO_FT4, temporal_levels=1)
