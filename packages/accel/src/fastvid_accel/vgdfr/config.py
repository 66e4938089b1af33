"""Settings of VGDFR."""

from dataclasses import dataclass
from typing import Literal

from fastvid_accel.vgdfr.frame_rate import Rate

SHARE_OF_STEPS = 0.1
"""Of all steps, made at the full frame rate where `start_step` is None; the earliest of the paper's 10, 20 and 30 %."""

Positions = Literal["local", "global", "centre"] | tuple[int, ...]
LEGAL_POSITIONS = "'local', 'global', 'centre', a tuple of blocks, or None"


@dataclass(frozen=True, slots=True, kw_only=True)
class VGDFRConfig:
    """How much is merged, and when.

    Attributes:
        threshold: frames are merged that are more similar (SSIM) than this, in [-1, 1]. The paper tries 0.5 to 0.9.
        keep_ratio: instead of `threshold`: the share of frames to keep, in (0, 1]; the most similar ones are merged,
            however similar they are.
        start_step: steps made at the full frame rate, k in the paper; at least 1. None: a tenth of all steps.
        highest_rate: frames that may become one, 2 or 4.
        positions: time as the transformer sees it after merging (DyRoPE, section 3.3). 'local' counts the latents that
            are left; 'global' gives them the places they had, and a merged one that of the first latent it stands for;
            'centre' (ours) gives a merged one the mean place of all that it stands for, as its frames are means. A
            tuple names the blocks that get global positions while all others get local ones, as the paper's
            [4, 19, 23, 31, 35, 36, 37, 40] for HunyuanVideo's 60. None: 'centre' on fastvid's pipelines, where it was
            measured best, and 'local' on those of diffusers, all of which can have it.
        skipped_stages: of the autoencoder, that previews do without; each halves their height and width. 0: frames are
            compared and merged at full size. The paper leaves most of them out, its released code one.
        refining_steps: coarse Euler steps that refine the preview, each a call of the transformer at the full frame
            rate; 0: the preview is the estimate that the sampler has made anyway.
        lengths: latent lengths that may result, for compiled graphs and engines; the least similar blocks are left as
            they are until one fits, or nothing is merged. Empty: any.
    """

    threshold: float | None = 0.75
    keep_ratio: float | None = None
    start_step: int | None = None
    highest_rate: Rate = 4
    positions: Positions | None = None
    skipped_stages: int = 0
    refining_steps: int = 0
    lengths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self._check_kinds()
        if (self.threshold is None) == (self.keep_ratio is None):
            raise ValueError(
                f"`threshold` is {self.threshold} and `keep_ratio` is {self.keep_ratio}; expected one of them, and"
                " None for the other"
            )
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise ValueError(f"`threshold` is {self.threshold}; expected a similarity in [-1, 1]")
        if self.keep_ratio is not None and not 0 < self.keep_ratio <= 1:
            raise ValueError(f"`keep_ratio` is {self.keep_ratio}; expected a share above 0 and at most 1")
        if self.start_step is not None and (type(self.start_step) is not int or self.start_step < 1):
            raise ValueError(f"`start_step` is {self.start_step!r}; expected None or at least 1")
        for name in ("skipped_stages", "refining_steps"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ValueError(f"`{name}` is {value!r}; expected at least 0")
        if self.highest_rate not in (2, 4):
            raise ValueError(f"`highest_rate` is {self.highest_rate!r}; expected 2 or 4")
        if isinstance(self.positions, str):
            if self.positions not in ("local", "global", "centre"):
                raise ValueError(f"`positions` is {self.positions!r}; expected {LEGAL_POSITIONS}")
        elif any(type(block) is not int or block < 0 for block in self.positions or ()):
            raise ValueError(f"`positions` is {self.positions!r}; expected blocks, counted from 0")
        if any(type(length) is not int or length < 1 for length in self.lengths):
            raise ValueError(f"`lengths` is {self.lengths!r}; expected numbers of latent frames, each at least 1")

    def first_merged_step(self, num_steps: int) -> int:
        """The number of steps before merging, k.

        Raises:
            ValueError: no step is left after it.
        """
        start = self.start_step
        if start is None:
            start = max(1, round(SHARE_OF_STEPS * num_steps))
        if start >= num_steps:
            raise ValueError(
                f"`start_step` is {start} of {num_steps} steps; merging needs at least one step before it and one"
                f" behind it (nearest: {max(num_steps - 1, 1)} of {max(num_steps, 2)})"
            )
        return start

    def _check_kinds(self) -> None:
        """Of what is compared or counted later; a file of settings may hold anything."""
        for name in ("threshold", "keep_ratio"):
            share = getattr(self, name)
            if share is not None and (isinstance(share, bool) or not isinstance(share, int | float)):
                raise ValueError(f"`{name}` is {share!r}; expected a number or None")
        if not isinstance(self.positions, str | tuple | list | None):
            raise ValueError(f"`positions` is {self.positions!r}; expected {LEGAL_POSITIONS}")
        if not isinstance(self.lengths, str | tuple | list):
            raise ValueError(f"`lengths` is {self.lengths!r}; expected a tuple of whole numbers")
