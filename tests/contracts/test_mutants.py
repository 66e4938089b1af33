"""Parts that break a promise: the suites beside this file must notice each of them."""

from collections.abc import Callable
from typing import Any

import fastvid_dit
import pytest
import torch
from fastvid_accel import NoAcceleration
from fastvid_accel.no_acceleration import NoAccelerationSession, full_attention
from fastvid_dit import FSVideoDiT
from fastvid_pipelines.sampling import solvers
from fastvid_vae import FSAE
from torch import Tensor

from ..tiny_models import AUTOENCODER, TRANSFORMER, randomised
from . import test_accelerator, test_autoencoder, test_flow, test_transformer

Suite = Callable[..., None]


class Wrapped:
    """Stands before a part and changes some of its methods."""

    def __init__(self, part: Any) -> None:
        self.part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self.part, name)


class Scales:
    """An accelerator whose attention is a little off."""

    def start(self, *, num_steps: int, attention: Any = full_attention, codec: Any = None) -> Any:
        return ScaledSession(NoAcceleration().start(num_steps=num_steps, attention=attention))


class ScaledSession(Wrapped):
    def attention(self, q: Tensor, k: Tensor, v: Tensor, site: Any, /) -> Tensor:
        return full_attention(q, k, v, site) * 1.05


class Remembers:
    """An accelerator that keeps its session: the second video gets what the first one left."""

    def __init__(self) -> None:
        self.session = RememberingSession(NoAcceleration().start(num_steps=1))

    def start(self, *, num_steps: int, codec: Any = None) -> Any:
        return self.session


class RememberingSession(Wrapped):
    def __init__(self, part: NoAccelerationSession) -> None:
        super().__init__(part)
        self.calls = 0

    def attention(self, q: Tensor, k: Tensor, v: Tensor, site: Any, /) -> Tensor:
        self.calls += 1
        return full_attention(q, k, v, site) if self.calls <= 4 else v


@pytest.mark.parametrize(
    ("suite", "mutant"),
    [
        (test_accelerator.test_doing_nothing_is_the_same_to_the_bit, Scales),
        (test_accelerator.test_a_second_video_is_not_affected_by_the_first, Remembers),
        (test_accelerator.test_several_work_as_one, Scales),
    ],
)
def test_accelerators(monkeypatch: pytest.MonkeyPatch, suite: Suite, mutant: Callable[[], Any]) -> None:
    monkeypatch.setattr(test_accelerator, "load", lambda group, name: mutant)
    with pytest.raises(AssertionError):
        suite("mutant")


class OddSize(Wrapped):
    """Forgets to crop."""

    def decode(self, latents: Tensor, *, reference: Any, num_frames: Any = None, size: Any = None) -> Tensor:
        frames: Tensor = self.part.decode(latents)
        return frames


class Doubles(Wrapped):
    """Returns another dtype than it was given."""

    def decode(self, latents: Tensor, **arguments: Any) -> Tensor:
        frames: Tensor = self.part.decode(latents, **arguments).double()
        return frames


class Noisy(Wrapped):
    """Samples without being given a generator."""

    def encode(self, frames: Tensor) -> Tensor:
        latents: Tensor = self.part.encode(frames)
        return latents + torch.randn_like(latents)


class Mixing(Wrapped):
    """Normalises over the batch."""

    def encode(self, frames: Tensor) -> Tensor:
        latents: Tensor = self.part.encode(frames)
        return latents - latents.mean(dim=0, keepdim=True)


class Unchecked(Wrapped):
    """Lets anything through."""

    def encode(self, frames: Tensor) -> Tensor:
        return frames


@pytest.mark.parametrize(
    ("suite", "mutant", "arguments"),
    [
        (test_autoencoder.test_any_size_in_and_the_same_size_out, OddSize, (7, 37, 29)),
        (test_autoencoder.test_any_size_in_and_the_same_size_out, Doubles, (5, 16, 48)),
        (test_autoencoder.test_without_a_generator_both_ways_are_functions, Noisy, ()),
        (test_autoencoder.test_videos_of_a_batch_do_not_mix, Mixing, ()),
        (test_autoencoder.test_frames_of_a_wrong_shape_are_refused_by_name, Unchecked, (torch.zeros(1, 4, 5, 32, 32),)),
    ],
)
def test_autoencoders(
    monkeypatch: pytest.MonkeyPatch, suite: Suite, mutant: type[Wrapped], arguments: tuple[Any, ...]
) -> None:
    monkeypatch.setattr(test_autoencoder, "tiny_autoencoder", lambda name: mutant(randomised(FSAE(AUTOENCODER))))
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        suite("mutant", *arguments)


class Transformer(Wrapped):
    """A transformer whose call can be changed."""

    def __call__(self, **arguments: Any) -> Tensor:
        velocity: Tensor = self.part(**self.change(arguments))
        return velocity

    def change(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return arguments


class KeepsItsAttention(Transformer):
    def change(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return arguments | {"attention": fastvid_dit.sdpa}


class KeepsItsPositions(Transformer):
    def change(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return arguments | {"positions": None}


class KeepsAllText(Transformer):
    def change(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return arguments | {"text_mask": None}


class CountsFromOne(Transformer):
    """Its default is another grid than that of integers, which other positions of the time axis make visible."""

    def change(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = arguments.get("positions")
        return arguments | {"positions": None if given is None else given * torch.tensor([1.1, 1, 1]).view(3, 1, 1, 1)}


class MarksEverything(Transformer):
    def first_frame_condition(self, image_latents: Tensor, num_latent_frames: int) -> Tensor:
        condition: Tensor = self.part.first_frame_condition(image_latents, num_latent_frames)
        return condition[:, :, :1].expand_as(condition)


@pytest.mark.parametrize(
    ("suite", "mutant"),
    [
        (test_transformer.test_attention_is_asked_once_a_block_and_its_answer_counts, KeepsItsAttention),
        (test_transformer.test_positions_are_the_integer_grid_by_default_and_matter, KeepsItsPositions),
        (test_transformer.test_positions_are_the_integer_grid_by_default_and_matter, CountsFromOne),
        (test_transformer.test_masked_text_does_not_count, KeepsAllText),
        (test_transformer.test_the_condition_marks_the_first_frame_only, MarksEverything),
    ],
)
def test_transformers(monkeypatch: pytest.MonkeyPatch, suite: Suite, mutant: type[Transformer]) -> None:
    monkeypatch.setattr(test_transformer, "tiny_transformer", lambda name: mutant(randomised(FSVideoDiT(TRANSFORMER))))
    with pytest.raises((AssertionError, IndexError)):
        suite("mutant")


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        ("velocity_target", lambda clean, noise: clean - noise),
        ("add_noise", lambda clean, noise, sigma: clean + sigma.view(-1, 1, 1, 1, 1) * noise),
        ("denoised_from_velocity", lambda latents, velocity, sigma: latents - (1 - sigma) * velocity),
    ],
)
@pytest.mark.parametrize("solver", solvers.METHODS)
def test_flow_and_solvers(
    monkeypatch: pytest.MonkeyPatch, solver: Any, name: str, mutant: Callable[..., Tensor]
) -> None:
    monkeypatch.setattr(test_flow, name, mutant)
    with pytest.raises(AssertionError):
        test_flow.test_a_perfect_velocity_leads_back_to_the_clean_latents(solver)
