"""Architecture of an FSAE, and the two full-size constants. Source: FSVideo, section 2.2 and DC-AE."""

from dataclasses import dataclass, replace
from typing import Literal

from fastvid_vae.layers.first_frame_attention import InjectionKind

DecoderMode = Literal["causal", "standard", "lite"]
StageKind = Literal["conv", "attention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FSAEConfig:
    """Stages run from the pixels (index 0) to the latents (last index); each is half the height and width of the one before.

    Attributes:
        latent_channels: channels of a latent.
        stage_kinds: `conv` (residual convolution blocks) or `attention` (EfficientViT blocks), per stage.
        encoder_widths, decoder_widths: channels per stage.
        encoder_depths, decoder_depths: blocks per stage.
        temporal_stages: stages whose down- and upsampling also halves and doubles time.
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
        stages = len(self.stage_kinds)
        for name in ("encoder_widths", "decoder_widths", "encoder_depths", "decoder_depths", "injection"):
            if len(getattr(self, name)) != stages:
                raise ValueError(
                    f"`{name}` has {len(getattr(self, name))} entries; `stage_kinds` names {stages} stages"
                )
        if self.decoder_mode not in ("causal", "standard", "lite"):
            raise ValueError(f"`decoder_mode` is {self.decoder_mode!r}; expected 'causal', 'standard' or 'lite'")
        if tuple(self.temporal_stages) != tuple(range(len(self.temporal_stages))) or len(self.temporal_stages) >= stages:
            raise ValueError(f"`temporal_stages` is {self.temporal_stages}; expected the first stages in order, (0, 1)")
        if any(kind for kind in self.injection[: len(self.temporal_stages)]):
            raise ValueError("`injection` names a stage that is not yet fully compressed in time; the first frame has no feature of its own there")
        for kind, width_in, width_out in zip(self.injection, self.encoder_widths, self.decoder_widths, strict=True):
            if kind and (width_in != width_out or width_in % self.injection_head_width):
                raise ValueError(
                    f"`injection` needs encoder and decoder widths that agree and divide by {self.injection_head_width}; got {width_in} and {width_out}"
                )
        for name in ("latent_mean", "latent_std"):
            if len(getattr(self, name)) != self.latent_channels:
                raise ValueError(f"`{name}` has {len(getattr(self, name))} values; `latent_channels` is {self.latent_channels}")
        if min(self.latent_std) <= 0:
            raise ValueError(f"`latent_std` holds {min(self.latent_std)}; every value must be positive")

    @property
    def stride(self) -> tuple[int, int, int]:
        """Compression in time, height and width."""
        space: int = 2 ** (len(self.stage_kinds) - 1)
        time: int = 2 ** len(self.temporal_stages)
        return time, space, space

    def group_size(self, stage: int) -> int:
        """Frames of one latent at this stage: the group of a group-causal convolution."""
        return 2 ** sum(stage <= temporal for temporal in self.temporal_stages)


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
