"""The stages in which FSVideo trains its autoencoder, as data. Source: FSVideo, section 2.2.

The paper gives what is learned, the losses and their weights, frames and sizes, and about 200,000 steps for each of the
first three stages. Learning rates, batches, and the steps of the last two stages are ours.
"""

from dataclasses import dataclass, replace
from typing import Literal

from fastvid_vae import FSAEConfig
from fastvid_vae.fsae.config import DecoderMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage.

    Attributes:
        name: of its checkpoint.
        clips: (frames, side) of the clips, in turn; one frame is an image.
        decoder_mode: which frames the decoder's convolutions see.
        first_frame: whether the decoder is shown the first frame.
        train: everything, or the decoder behind a frozen encoder.
        lpips, gan, alignment: weights beside the mean absolute error; 0 leaves a loss out.
        patch: sides of the patch that the outer stages decode, as a share of the frame; None decodes the whole.
        noise: whether the decoder's convolution blocks get their noise.
        learning_rate: of AdamW, betas 0.9 and 0.95.
        steps: in all.
    """

    name: str
    clips: tuple[tuple[int, int], ...]
    decoder_mode: DecoderMode
    first_frame: bool
    train: Literal["all", "decoder"]
    lpips: float
    gan: float
    alignment: float
    patch: float | None
    noise: bool
    learning_rate: float
    steps: int

    def __post_init__(self) -> None:
        for frames, side in self.clips:
            if min(frames, side) < 1 or (frames - 1) % 4:
                raise ValueError(f"`clips` has {frames} frames of {side}; expected 1 + 4k frames")
        if self.patch is not None and not 0 < self.patch <= 1:
            raise ValueError(f"`patch` is {self.patch}; expected a share of the frame, above 0 and up to 1")
        if self.patch is not None and self.noise:
            raise ValueError("`noise` has no effect where a `patch` is decoded; leave one of them out")
        if self.train == "decoder" and self.alignment:
            raise ValueError("`alignment` has no effect on a frozen encoder; set it to 0")


STAGES = (
    Stage(
        name="reconstruct", clips=((1, 256), (17, 256)), decoder_mode="causal", first_frame=False, train="all",
        lpips=0.1, gan=0.0, alignment=0.0, patch=None, noise=False, learning_rate=1e-4, steps=200_000,
    ),
    Stage(
        name="adversarial", clips=((61, 512),), decoder_mode="causal", first_frame=False, train="all",
        lpips=0.1, gan=0.1, alignment=0.0, patch=None, noise=False, learning_rate=5e-5, steps=200_000,
    ),
    # The paper trains up to 121 x 1024 x 1024, most of it at 256 x 256 x 171 (169 is 1 + 4k) and 704 x 704 x 9.
    Stage(
        name="large", clips=((169, 256), (9, 704), (121, 1024)), decoder_mode="causal", first_frame=False, train="all",
        lpips=0.1, gan=0.1, alignment=0.0, patch=0.5, noise=False, learning_rate=2e-5, steps=200_000,
    ),
    Stage(
        name="align", clips=((17, 256),), decoder_mode="causal", first_frame=False, train="all",
        lpips=0.1, gan=0.1, alignment=1.0, patch=None, noise=False, learning_rate=2e-5, steps=50_000,
    ),
    Stage(
        name="standard", clips=((17, 256), (61, 512)), decoder_mode="standard", first_frame=True, train="decoder",
        lpips=0.1, gan=0.1, alignment=0.0, patch=None, noise=True, learning_rate=2e-5, steps=200_000,
    ),
    Stage(
        name="lite", clips=((17, 256), (61, 512)), decoder_mode="lite", first_frame=True, train="decoder",
        lpips=0.1, gan=0.1, alignment=0.0, patch=None, noise=True, learning_rate=2e-5, steps=200_000,
    ),
)  # fmt: skip
"""The last two are one step of the paper, for its two decoders. `alignment` counts alpha, 0.5, within its own loss."""


def model_config(config: FSAEConfig, stage: Stage) -> FSAEConfig:
    """The architecture that a stage trains: `config` with the stage's decoder, injection and noise."""
    return replace(
        config,
        decoder_mode=stage.decoder_mode,
        injection=config.injection if stage.first_frame else (None,) * len(config.injection),
        noise_weight=config.noise_weight if stage.noise else 0.0,
    )


def toy(stage: Stage, side: int) -> Stage:
    """Two steps on clips of this size: does it run at all?"""
    return replace(stage, clips=tuple((min(frames, 5), side) for frames, _ in stage.clips), steps=2)
