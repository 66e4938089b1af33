from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from fastvid_pipelines.errors import GenerationCancelled, NonFiniteError
from fastvid_pipelines.sampling.schedules import euler_sigmas, unipc_sigmas
from fastvid_pipelines.sampling.solvers import euler, unipc
from fastvid_pipelines.stages import denoise as module
from fastvid_pipelines.stages import walk
from fastvid_pipelines.stages.denoise import denoise, draw_noise
from fastvid_pipelines.types import Conditions, LatentVideo, Step, TextFeatures
from torch import Tensor

from ..fakes import FakeAccelerator, FakeTransformer, FakeTransformerConfig

pytestmark = pytest.mark.usefixtures("inference")


@pytest.fixture
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture
def transformer() -> FakeTransformer:
    torch.manual_seed(0)
    return FakeTransformer(FakeTransformerConfig())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conditions(*, guided: bool = True) -> Conditions:
    text = TextFeatures(tokens=torch.randn(1, 3, 8, generator=seeded(1)), mask=torch.tensor([[True, True, False]]))
    negative = TextFeatures(tokens=torch.randn(1, 3, 8, generator=seeded(2)), mask=torch.ones(1, 3, dtype=torch.bool))
    return Conditions(
        text=text,
        negative_text=negative if guided else None,
        image_latents=torch.randn(1, 4, 1, 2, 3, generator=seeded(3)),
        image_tokens=None,
    )


def noise(seed: int = 0) -> LatentVideo:
    return draw_noise(conditions(), 3, (1, 1, 1), seeded(seed))


def run(transformer: FakeTransformer, **changes) -> Tensor:
    guidance_scale = changes.pop("guidance_scale", 3.0)
    given = conditions(guided=guidance_scale != 1)
    return denoise(
        transformer, noise(), given, euler_sigmas(4, 3.0), euler, guidance_scale=guidance_scale, **changes
    ).latents


def test_noise_is_float32_of_the_generator_alone() -> None:
    video = noise()
    expected = torch.randn(1, 4, 3, 2, 3, generator=seeded())
    assert torch.equal(video.latents, expected)
    half = replace(conditions(), image_latents=conditions().image_latents.bfloat16())
    assert draw_noise(half, 3, (1, 1, 1), seeded()).latents.dtype == torch.float32


def test_positions_count_tokens_not_latents() -> None:
    positions = draw_noise(conditions(), 3, (1, 2, 2), seeded()).positions
    assert positions.shape == (3, 3, 1, 2)
    assert positions[:, 2, 0, 1].tolist() == [2, 0, 1]


def test_guidance_takes_one_call_a_step(transformer: FakeTransformer) -> None:
    run(transformer)
    assert transformer.calls == [2] * 4
    transformer.calls.clear()
    run(transformer, guidance_scale=1)
    assert transformer.calls == [1] * 4


def test_one_batch_equals_two_calls(transformer: FakeTransformer) -> None:
    given, video = conditions(), noise()
    assert given.negative_text is not None
    plain = replace(given, negative_text=None)
    inverse = replace(given, text=given.negative_text, negative_text=None)
    expected, condition = video.latents, transformer.first_frame_condition(given.image_latents, 3)
    sigmas = euler_sigmas(4, 3.0)
    for high, low in pairwise(sigmas):
        branches = []
        for branch in (inverse, plain):
            at = LatentVideo(latents=expected, positions=video.positions)
            step = Step(index=0, num_steps=1, sigma=high, next_sigma=low)
            branches.append(module._Velocity(transformer, at, branch, condition, step, None)(expected))
        expected = expected + (low - high) * (branches[0] + 3.0 * (branches[1] - branches[0]))
    torch.testing.assert_close(run(transformer), expected)


def test_the_mask_of_the_text_reaches_the_transformer(transformer: FakeTransformer) -> None:
    given = conditions(guided=False)
    hidden = given.text.tokens.clone()
    hidden[:, 2] += 5
    changed = replace(given, text=replace(given.text, tokens=hidden))
    results = [
        denoise(transformer, noise(), each, euler_sigmas(2, 1.0), euler, guidance_scale=1.0).latents
        for each in (given, changed)
    ]
    assert torch.equal(*results)


def test_an_accelerator_that_changes_nothing_changes_nothing(transformer: FakeTransformer) -> None:
    session = FakeAccelerator().start(num_steps=4)
    assert torch.equal(run(transformer, session=session), run(transformer))
    assert session.log == ["start 4", *["begin", "attention", "end"] * 4]


@pytest.mark.parametrize("solver", ["euler", "unipc"])
def test_an_accelerator_may_drop_latent_frames(transformer: FakeTransformer, solver: str) -> None:
    shapes = []
    sigmas, function = {"euler": (euler_sigmas(4, 3.0), euler), "unipc": (unipc_sigmas(4, 3.0), unipc)}[solver]
    video = denoise(
        transformer,
        noise(),
        conditions(),
        sigmas,
        function,
        guidance_scale=3.0,
        session=FakeAccelerator(keep=2).start(num_steps=4),
        on_step_end=lambda step, video: shapes.append(video.latents.shape[2]),
    )
    assert shapes == [2] * 4
    assert video.positions.shape == (3, 2, 2, 3)
    assert video.latents.isfinite().all()


def test_callback_sees_every_step_in_order(transformer: FakeTransformer) -> None:
    seen: list[Step] = []
    run(transformer, on_step_end=lambda step, video: seen.append(step))
    assert [step.index for step in seen] == [0, 1, 2, 3]
    assert seen[-1].next_sigma == 0


def test_what_the_callback_raises_ends_the_run(transformer: FakeTransformer) -> None:
    def cancel(step: Step, video: LatentVideo) -> None:
        if step.index == 1:
            raise GenerationCancelled("enough")

    with pytest.raises(GenerationCancelled, match="enough"):
        run(transformer, on_step_end=cancel)
    assert transformer.calls == [2, 2]


class Poisoned(FakeTransformer):
    """NaN from the third call on."""

    def forward(self, *inputs, **named) -> Tensor:
        velocity = super().forward(*inputs, **named)
        return velocity if len(self.calls) < 3 else velocity * float("nan")


def poisoned() -> Poisoned:
    torch.manual_seed(0)
    return Poisoned(FakeTransformerConfig())


def test_nan_is_reported_within_its_step() -> None:
    transformer = poisoned()
    with pytest.raises(NonFiniteError, match=r"stage `denoise`, step 2 of 4 \(sigma 0\.75.*72 of 72 values"):
        run(transformer)
    assert transformer.calls == [2] * 3


def test_without_the_guard_nan_would_come_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "check_finite", lambda *arguments: None)
    assert run(poisoned()).isnan().all()


def test_low_precision_models_work_on_float32_latents(transformer: FakeTransformer) -> None:
    given = conditions(guided=False)
    low = replace(
        given,
        image_latents=given.image_latents.bfloat16(),
        text=replace(given.text, tokens=given.text.tokens.bfloat16()),
    )
    latents = denoise(transformer.bfloat16(), noise(), low, euler_sigmas(4, 3.0), euler, guidance_scale=1.0).latents
    assert latents.dtype == torch.float32
    torch.testing.assert_close(latents, run(transformer.float(), guidance_scale=1), atol=0.2, rtol=0.2)
