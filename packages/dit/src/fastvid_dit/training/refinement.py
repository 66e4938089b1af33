"""How a refiner's condition is made worse in training, so that it learns to mend. Source: FSVideo, section 2.4.2.

The order is ours: deviation (before the upsampler), shuffle, replacement, dropout; the mask follows the same edits. All
draws come from a generator on the CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fastvid_dit.config import RefinerMask
from fastvid_dit.flow import add_noise
from fastvid_dit.refinement import RefinerCondition, refiner_condition

SHUFFLES = ("window", "pair", "clip")
SHUFFLE_WEIGHTS = (6.0, 3.0, 1.0)
LARGEST_WINDOW = 4
LOWEST_SIGMA = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """How often a sample's condition is edited. The paper gives `shuffle`; the others are ours.

    Attributes:
        shuffle: chance that frames of the small video change places.
        replacement: chance that some frames are replaced by the true ones.
        dropout: chance that the small video is left out altogether.
    """

    shuffle: float = 0.5
    replacement: float = 0.5
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("shuffle", "replacement", "dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must lie in [0, 1], got {getattr(self, name)}")


def deviated_latents(
    clean: Float[Tensor, "b c t h w"],
    velocity: Callable[[Tensor, Tensor], Tensor],
    generator: torch.Generator,
) -> Float[Tensor, "b c t h w"]:
    """z~ = noise - v_hat (equation 13): the true latents, off by the base model's velocity error at a random level.

    It equals (z_hat - z) / sigma + z without ever dividing by a small sigma.

    Args:
        clean: latents of the small video.
        velocity: of the base transformer, from latents at noise level sigma and sigma (b).
        generator: on the CPU.
    """
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    sigma = LOWEST_SIGMA + (1 - LOWEST_SIGMA) * torch.rand(len(clean), generator=generator).to(clean.device)
    return noise - velocity(add_noise(clean, noise, sigma), sigma)


def training_condition(
    upsampled: Float[Tensor, "b c t h w"],
    upsampled_first: Float[Tensor, "b c 1 h w"],
    clean: Float[Tensor, "b c t h w"],
    settings: RefinerMask,
    degradation: Degradation,
    generator: torch.Generator,
) -> RefinerCondition:
    """The condition of one step: `refiner_condition` of upsampled latents, edited sample by sample.

    Args:
        upsampled: upsampled `deviated_latents`.
        upsampled_first: of the latent of the small first frame.
        clean: the target, whose frame 0 is the latent of the large first frame.
        settings: of the mask.
        degradation: how often what is edited.
        generator: on the CPU.
    """
    shuffled = torch.stack([sample[:, _frame_order(sample.shape[1], degradation, generator)] for sample in upsampled])
    condition = refiner_condition(shuffled, clean[:, :, :1], upsampled_first, settings)
    condition = replace_frames(condition, clean, _replaced(clean, degradation, generator))
    dropped = torch.rand(len(clean), generator=generator) < degradation.dropout
    return drop_small_video(condition, dropped.to(clean.device))


def shuffled_order(num_frames: int, kind: str, generator: torch.Generator) -> Int[Tensor, " t"]:
    """An order of the frames: a window of neighbours, two that are no neighbours, or the whole clip changes places.

    Frame 0 stays where it is. A clip too short for its kind keeps its order.
    """
    order = torch.arange(num_frames)
    later = num_frames - 1
    if kind == "window" and later >= 2:
        size = int(torch.randint(2, min(LARGEST_WINDOW, later) + 1, (), generator=generator))
        start = 1 + int(torch.randint(0, later - size + 1, (), generator=generator))
        order[start : start + size] = start + torch.randperm(size, generator=generator)
    elif kind == "pair" and later >= 3:
        one = 1 + int(torch.randint(0, later, (), generator=generator))
        others = [frame for frame in range(1, num_frames) if abs(frame - one) > 1]
        if others:
            other = others[int(torch.randint(0, len(others), (), generator=generator))]
            order[[one, other]] = order[[other, one]]
    elif kind == "clip":
        order[1:] = 1 + torch.randperm(later, generator=generator)
    return order


def replace_frames(
    condition: RefinerCondition, clean: Float[Tensor, "b c t h w"], replaced: Bool[Tensor, "b t"]
) -> RefinerCondition:
    """True latents and mask 1 in the frames where `replaced` is true."""
    where = replaced[:, None, :, None, None]
    return RefinerCondition(
        latents=torch.where(where, clean, condition.latents),
        mask=torch.where(where, torch.ones_like(condition.mask), condition.mask),
    )


def drop_small_video(condition: RefinerCondition, dropped: Bool[Tensor, " b"]) -> RefinerCondition:
    """Latents and mask 0 behind frame 0 in the samples where `dropped` is true: plain image-to-video."""
    keep = torch.ones_like(condition.mask)
    keep[:, :, 1:] = (~dropped).to(keep).view(-1, 1, 1, 1, 1)
    return replace(condition, latents=condition.latents * keep, mask=condition.mask * keep)


def _frame_order(num_frames: int, degradation: Degradation, generator: torch.Generator) -> Tensor:
    if float(torch.rand((), generator=generator)) >= degradation.shuffle:
        return torch.arange(num_frames)
    kind = SHUFFLES[int(torch.multinomial(torch.tensor(SHUFFLE_WEIGHTS), 1, generator=generator))]
    return shuffled_order(num_frames, kind, generator)


def _replaced(clean: Tensor, degradation: Degradation, generator: torch.Generator) -> Tensor:
    """Half of the chosen samples' frames at most; every frame with a chance that is drawn for its sample."""
    batch, num_frames = clean.shape[0], clean.shape[2]
    chosen = torch.rand(batch, 1, generator=generator) < degradation.replacement
    chance = 0.5 * torch.rand(batch, 1, generator=generator)
    return (chosen & (torch.rand(batch, num_frames, generator=generator) < chance)).to(clean.device)
