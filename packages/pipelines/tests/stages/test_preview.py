from dataclasses import dataclass
from typing import Any

import pytest
import torch
from fastvid_pipelines.stages.preview import PreviewCodec
from torch import Tensor

LATENTS = torch.zeros(2, 4, 3, 5, 6)


@dataclass
class Codec:
    """Frames that say how they were asked for."""

    space: int = 8
    takes_reference: bool = True

    @property
    def stride(self) -> tuple[int, int, int]:
        return 4, self.space, self.space

    def encode(self, frames: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return frames[:, :1, ::4, :: self.space, :: self.space]

    def decode(self, latents: Tensor, *, reference: Tensor | None = None, size: Any = None, **others: Any) -> Tensor:
        value = 0.0 if reference is None else reference.mean()
        return torch.full((2, 3, 9, *size), float(value), dtype=latents.dtype)

    def truncated(self, *, stages: int) -> "Codec":
        if self.space >> stages == 0:
            raise ValueError("not so many stages")
        return Codec(space=self.space >> stages, takes_reference=self.takes_reference)


def test_frames_have_the_size_of_the_reference_and_are_float32() -> None:
    codec = PreviewCodec(autoencoder=Codec(), reference=torch.full((2, 3, 40, 44), 0.5).half())
    frames = codec.decode(LATENTS)
    assert (frames.shape, frames.dtype) == ((2, 3, 9, 40, 44), torch.float32)
    assert (frames == 0.5).all()
    latents = codec.encode(frames)
    assert (latents.shape, latents.dtype) == ((2, 1, 3, 5, 6), torch.float32)
    assert codec.temporal_stride == 4


def test_a_reference_goes_where_one_is_taken() -> None:
    codec = PreviewCodec(autoencoder=Codec(takes_reference=False), reference=torch.ones(2, 3, 40, 44))
    assert (codec.decode(LATENTS) == 0).all()


@pytest.mark.parametrize(("stages", "size"), [(0, (40, 44)), (1, (20, 22)), (2, (10, 11)), (3, (5, 6))])
def test_a_stage_less_halves_frames_and_reference_rounded_up(stages: int, size: tuple[int, int]) -> None:
    whole = PreviewCodec(autoencoder=Codec(), reference=torch.arange(2 * 3 * 40 * 44.0).view(2, 3, 40, 44))
    small = whole.truncated(stages)
    assert small.decode(LATENTS).shape[-2:] == small.reference.shape[-2:] == size
    assert small.reference.mean() == pytest.approx(float(whole.reference.mean()), rel=1e-5)
    assert whole.decode(LATENTS).shape[-2:] == (40, 44)


def test_what_the_autoencoder_refuses_is_refused() -> None:
    with pytest.raises(ValueError, match="not so many stages"):
        PreviewCodec(autoencoder=Codec(), reference=torch.ones(2, 3, 40, 44)).truncated(4)
