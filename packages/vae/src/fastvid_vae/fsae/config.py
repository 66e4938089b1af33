"""Architecture of an FSAE, and the two full-size constants. Source: FSVideo, section 2.2 and DC-AE."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal, get_args

from fastvid_vae.arguments import check_range

DecoderMode = Literal["causal", "standard", "lite"]
StageKind = Literal["conv", "attention"]
InjectionKind = Literal["content", "relative", "linear", "deformable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FSAEConfig:
    """Stages run from the pixels (index 0) to the latents (last); each halves the height and width of the one before.

    Attributes:
        latent_channels: channels of a latent.
        stage_kinds: `conv` (residual convolution blocks) or `attention` (EfficientViT blocks), per stage.
        encoder_widths, decoder_widths: channels per stage.
        encoder_depths, decoder_depths: blocks per stage.
        temporal_stages: consecutive stages whose down- and upsampling also halves and doubles time.
        head_width: channels of one linear-attention head.
        affine_norm: pixel norm with weight and bias (as DC-AE) or without (as ProGAN).
        decoder_mode: which frames a decoder convolution sees: `causal`, `standard` (centred) or `lite` (group-causal).
        injection: per stage, how the first frame's encoder features enter the decoder; None: they do not.
        injection_head_width: channels of one head of that cross-attention.
        noise_weight: weight of the Gaussian noise in the decoder's convolution blocks; 0 turns it off.
        latent_mean, latent_std: statistics of the raw latents, one value a channel; latents leave `encode` normalised.
    """

    latent_channels: int
    stage_kinds: tuple[StageKind, ...]
    encoder_widths: tuple[int, ...]
    decoder_widths: tuple[int, ...]
    encoder_depths: tuple[int, ...]
    decoder_depths: tuple[int, ...]
    temporal_stages: tuple[int, ...]
    head_width: int
    affine_norm: bool
    decoder_mode: DecoderMode
    injection: tuple[InjectionKind | None, ...]
    injection_head_width: int
    noise_weight: float
    latent_mean: tuple[float, ...]
    latent_std: tuple[float, ...]

    def __post_init__(self) -> None:
        self._check_stages()
        self._check_temporal_stages()
        self._check_injection()
        self._check_statistics()

    def _check_stages(self) -> None:
        stages = len(self.stage_kinds)
        check_range("stage_kinds", stages, 1, 12, "stages")
        for name in ("latent_channels", "head_width", "injection_head_width"):
            check_range(name, getattr(self, name), 1, 4096)
        _check_one_of("stage_kinds", self.stage_kinds, get_args(StageKind))
        _check_one_of("injection", self.injection, (*get_args(InjectionKind), None))
        _check_one_of("decoder_mode", (self.decoder_mode,), get_args(DecoderMode))
        for name in ("encoder_widths", "decoder_widths", "encoder_depths", "decoder_depths", "injection"):
            if len(getattr(self, name)) != stages:
                raise ValueError(
                    f"`{name}` has {len(getattr(self, name))} entries; `stage_kinds` names {stages} stages"
                )
        for name, low, high in (("widths", 1, 16384), ("depths", 0, 256)):
            for value in (*getattr(self, f"encoder_{name}"), *getattr(self, f"decoder_{name}")):
                check_range(f"encoder_{name}` or `decoder_{name}", value, low, high)
        for kind, *widths in zip(self.stage_kinds, self.encoder_widths, self.decoder_widths, strict=True):
            if kind == "attention" and any(width % self.head_width for width in widths):
                raise ValueError(f"`head_width` is {self.head_width}; it must divide the attention widths {widths}")

    def _check_temporal_stages(self) -> None:
        first = min(self.temporal_stages, default=0)
        consecutive = tuple(range(first, first + len(self.temporal_stages)))
        if first < 0 or self.temporal_stages != consecutive or first + len(consecutive) >= len(self.stage_kinds):
            raise ValueError(
                f"`temporal_stages` is {self.temporal_stages}; expected consecutive stages before the last, as (0, 1)"
            )

    def _check_injection(self) -> None:
        head = self.injection_head_width
        for kind, *widths in zip(self.injection, self.encoder_widths, self.decoder_widths, strict=True):
            if kind and (widths[0] != widths[1] or widths[0] % head):
                raise ValueError(
                    f"`injection` needs encoder and decoder widths that agree and divide by {head}; got {widths}"
                )
            if kind == "relative" and head % 4:
                raise ValueError(f"`injection_head_width` is {head}; 'relative' injection needs a multiple of 4")

    def _check_statistics(self) -> None:
        for name in ("latent_mean", "latent_std"):
            values = getattr(self, name)
            if len(values) != self.latent_channels:
                raise ValueError(f"`{name}` has {len(values)} values; `latent_channels` is {self.latent_channels}")
            if not all(map(isfinite, values)):
                raise ValueError(f"`{name}` holds a value that is not finite")
        if min(self.latent_std) <= 0:
            raise ValueError(f"`latent_std` holds {min(self.latent_std)}; every value must be positive")
        if not (isfinite(self.noise_weight) and self.noise_weight >= 0):
            raise ValueError(f"`noise_weight` is {self.noise_weight}; expected 0 or more")

    @property
    def stride(self) -> tuple[int, int, int]:
        """Compression in time, height and width."""
        return self.stride_without(0)

    def stride_without(self, skipped: int) -> tuple[int, int, int]:
        """The same where so many stages leave space as it is."""
        space = 1 << (len(self.stage_kinds) - 1 - skipped)
        time = 1 << len(self.temporal_stages)
        return time, space, space

    def group_size(self, stage: int) -> int:
        """Frames of one latent at this stage: the group of a group-causal convolution."""
        return 1 << sum(stage <= temporal for temporal in self.temporal_stages)


def _check_one_of(name: str, values: Sequence[object], legal: Sequence[object]) -> None:
    for value in values:
        if value not in legal:
            raise ValueError(f"`{name}` has {value!r}; expected {', '.join(map(repr, legal))}")


FSAE_STANDARD = FSAEConfig(
    latent_channels=128,
    stage_kinds=("conv", "conv", "conv", "attention", "attention", "attention", "attention"),
    encoder_widths=(128, 256, 512, 512, 1024, 1024, 2048),
    decoder_widths=(128, 256, 512, 512, 1024, 1024, 2048),
    encoder_depths=(2, 2, 2, 3, 3, 3, 3),
    decoder_depths=(3, 3, 3, 3, 3, 3, 3),
    temporal_stages=(0, 1),
    head_width=32,
    affine_norm=True,
    decoder_mode="standard",
    injection=(None, None, "content", "content", "content", "content", "content"),
    injection_head_width=64,
    noise_weight=0.05,
    latent_mean=(0.0,) * 128,
    latent_std=(1.0,) * 128,
)

FSAE_LITE = replace(FSAE_STANDARD, decoder_widths=(64, 128, 512, 512, 1024, 1024, 2048), decoder_mode="lite")
