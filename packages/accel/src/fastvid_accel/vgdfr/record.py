"""What VGDFR did to a video, to be kept beside it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import UInt8
from torch import Tensor

from fastvid_accel.vgdfr.frame_rate import FrameRate, Merge

BAR_WIDTH, CURVE_HEIGHT, BAR_HEIGHT = 8, 48, 16
KEPT, DOUBLED, FOURFOLD = (70, 70, 70), (60, 130, 200), (230, 140, 40)
CURVE, PAPER = (20, 20, 20), (255, 255, 255)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeRecord:
    """The frame rate that was chosen, and the similarities that led to it.

    Attributes:
        similarity: of each frame and the next, in the preview after `start_step` steps.
        refining_steps: calls of the transformer that the preview took beside those steps.
    """

    rate: FrameRate
    similarity: tuple[float, ...]
    start_step: int
    refining_steps: int = 0

    def to_json(self) -> dict[str, Any]:
        """Numbers, strings, lists and dicts alone."""
        return {
            "name": "vgdfr",
            "start_step": self.start_step,
            "refining_steps": self.refining_steps,
            "stride": self.rate.stride,
            "num_frames": self.rate.num_frames,
            "num_latents": self.rate.num_latents,
            "kept_latents": list(self.rate.kept_latents),
            "merges": [
                {"first_frame": merge.first_frame, "rate": merge.rate, "score": merge.score}
                for merge in self.rate.merges
            ],
            "similarity": list(self.similarity),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` gave, or a session's report.

        Raises:
            ValueError: a field is missing, or of another kind.
        """
        try:
            merges = tuple(
                Merge(first_frame=merge["first_frame"], rate=merge["rate"], score=merge["score"])
                for merge in values["merges"]
            )
            rate = FrameRate(num_frames=values["num_frames"], stride=values["stride"], merges=merges)
            return cls(
                rate=rate,
                similarity=tuple(values["similarity"]),
                start_step=values["start_step"],
                refining_steps=values["refining_steps"],
            )
        except KeyError as error:
            raise ValueError(f"`values` is no record of VGDFR: it has no {error}") from error
        except TypeError as error:
            raise ValueError(f"`values` is no record of VGDFR: {error}") from error

    def picture(self) -> UInt8[Tensor, "H W 3"]:
        """A column for each frame: the similarity to the next one as a curve from 0 (below) to 1, and a bar under it.

        The bar is grey where a frame is kept, blue where two become one, orange where four do.
        """
        rate, count = self.rate, self.rate.num_frames
        picture = torch.empty(CURVE_HEIGHT + BAR_HEIGHT, count * BAR_WIDTH, 3, dtype=torch.uint8)
        picture[:CURVE_HEIGHT] = torch.tensor(PAPER, dtype=torch.uint8)
        colours = {1: KEPT, 2: DOUBLED, 4: FOURFOLD}
        for first, length in rate.groups:
            left, right = first * BAR_WIDTH, (first + length) * BAR_WIDTH - 1  # one pixel apart
            picture[CURVE_HEIGHT:, left : right + 1] = torch.tensor(PAPER, dtype=torch.uint8)
            picture[CURVE_HEIGHT:, left:right] = torch.tensor(colours[length], dtype=torch.uint8)
        for frame, value in enumerate(self.similarity):
            if not math.isnan(value):
                row = round((1 - min(max(value, 0.0), 1.0)) * (CURVE_HEIGHT - 1))
                left = frame * BAR_WIDTH + BAR_WIDTH // 2  # between this frame and the next
                picture[row : row + 2, left : left + BAR_WIDTH] = torch.tensor(CURVE, dtype=torch.uint8)
        return picture
