"""ReducioPipeline on small stand-ins with random weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from fastvid_pipelines import content_frame_to_video
from fastvid_pipelines.content_frame_to_video import ReducioPipeline
from fastvid_pipelines.errors import GenerationCancelled, NonFiniteError
from fastvid_pipelines.photo_io import load_photo, to_frame
from fastvid_pipelines.stages import denoise_content
from fastvid_pipelines.stages.decode import to_pixels
from fastvid_pipelines.types import Clip, LatentVideo
from PIL import Image
from torch import Tensor

from .fakes import FakeAccelerator, FakeAutoencoder
from .reducio_fakes import (
    REDUCIO_SAMPLING,
    FakeClipAutoencoder,
    FakeContentEncoder,
    FakeContentFrame,
    FakeContentTransformer,
    FakeContentTransformerConfig,
    build_reducio,
)

Make = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in diffusers


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pipe() -> ReducioPipeline:
    return build_reducio()


@pytest.fixture
def make(pipe: ReducioPipeline, photo: Path) -> Make:
    def call(**changes: Any) -> Clip:
        return pipe(**({"image": photo, "prompt": "pan left", "generator": seeded()} | changes))

    return call


def test_a_clip_of_the_pipelines_own_size(make: Make) -> None:
    clip = make()
    assert clip.frames.shape == (8, 32, 48, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.fps == 16.0
    assert clip.latent_frames == (2, 2, 2)
    assert list(clip.seconds) == ["load_frame", "encode_prompt", "encode_content", "denoise", "decode"]


@pytest.mark.parametrize(
    ("num_frames", "height", "width"), [(1, 16, 16), (2, 33, 17), (7, 41, 59), (8, 32, 40), (6, 127, 16)]
)
def test_any_size_and_frame_count_comes_out_exactly(make: Make, num_frames: int, height: int, width: int) -> None:
    assert make(num_frames=num_frames, height=height, width=width).frames.shape == (num_frames, height, width, 3)


def check_the_photo_is_the_middle_frame(make: Make) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    for num_frames in range(1, 9):
        frames = make(num_frames=num_frames, image=photo).frames
        equal = [index for index, frame in enumerate(frames) if (frame == photo).all()]
        assert equal == [(num_frames - 1) // 2]


def check_branches_differ_in_text_and_frame(make: Make, pipe: ReducioPipeline) -> None:
    make(negative_prompt="blur")
    (given,) = pipe.transformer.conditions
    texts = pipe.text_encoder.encode(["blur", "pan left"])
    torch.testing.assert_close(given["text"], texts.tokens)
    assert torch.equal(given["mask"], texts.mask)
    for name in ("semantic", "content"):
        assert not given[name][0].any()
        assert given[name][1].any()
    assert [len(call["timestep"]) for call in pipe.transformer.calls] == [2] * 3


def check_one_cache_serves_every_step(make: Make, pipe: ReducioPipeline) -> None:
    make()
    assert len(pipe.transformer.conditions) == 1
    assert len({id(call["cache"]) for call in pipe.transformer.calls}) == 1
    assert len(pipe.transformer.calls) == 3


def check_the_network_is_told_the_size(make: Make, pipe: ReducioPipeline) -> None:
    make(height=33, width=17)
    assert pipe.transformer.calls[0]["size"].tolist() == [[40, 24]] * 2


def by_diffusers(pipe: ReducioPipeline, photo: Path, num_steps: int, guidance_scale: float) -> tuple[Tensor, list[int]]:
    """The latents of the same request, by diffusers' scheduler and two calls of the network a step."""
    generator = seeded()
    frame = to_frame(load_photo(photo).resize((48, 32)))
    content = pipe.content_encoder.encode(frame, generator=generator)
    latents = torch.randn(1, 4, 2, 4, 6, generator=generator)
    semantic = pipe.image_encoder.encode(frame)
    texts = pipe.text_encoder.encode(["pan left", ""])
    caches = [
        pipe.transformer.condition_cache(
            texts.tokens[row : row + 1], texts.mask[row : row + 1], semantic=there * semantic, content=there * content
        )
        for row, there in ((0, 1), (1, 0))
    ]
    scheduler = DPMSolverMultistepScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    scheduler.set_timesteps(num_steps)
    for timestep in scheduler.timesteps:
        given = timestep.float()[None], torch.tensor([[32.0, 48.0]])
        yes, no = (pipe.transformer(latents, given[0], cache=cache, size=given[1]) for cache in caches)
        latents = scheduler.step(no + guidance_scale * (yes - no), timestep, latents).prev_sample
    return latents, scheduler.timesteps.tolist()


@torch.inference_mode()
def check_a_whole_run_equals_diffusers(make: Make, pipe: ReducioPipeline, photo: Path) -> None:
    Image.open(photo).resize((48, 32)).save(photo)
    for num_steps, scale in ((20, 2.5), (5, 4.0)):
        pipe.transformer.calls.clear()
        made = make(output_type="latent", num_inference_steps=num_steps, guidance_scale=scale).latents
        asked = [call["timestep"].tolist() for call in pipe.transformer.calls]
        expected, timesteps = by_diffusers(pipe, photo, num_steps, scale)
        assert asked == [[timestep] * 2 for timestep in timesteps]
        assert (made - expected).abs().max() <= 1e-4 * expected.abs().max()


CHECKS: dict[str, Callable[..., None]] = {
    "middle": lambda make, pipe, photo: check_the_photo_is_the_middle_frame(make),
    "branches": lambda make, pipe, photo: check_branches_differ_in_text_and_frame(make, pipe),
    "cache": lambda make, pipe, photo: check_one_cache_serves_every_step(make, pipe),
    "size": lambda make, pipe, photo: check_the_network_is_told_the_size(make, pipe),
    "diffusers": check_a_whole_run_equals_diffusers,
}


@pytest.mark.parametrize("check", CHECKS)
def test_what_reducio_promises(make: Make, pipe: ReducioPipeline, photo: Path, check: str) -> None:
    CHECKS[check](make, pipe, photo)


Mutant = Callable[[Any], Any]


def keeping_the_frame(original: Any) -> Any:
    """Guidance leads away from other words alone."""

    def join(conditions: Any) -> Any:
        semantic, content = conditions.semantic.repeat(2, 1, 1), conditions.content.repeat(2, 1, 1, 1)
        return replace(original(conditions), semantic=semantic, content=content)

    return join


def swapping_the_frames(original: Any) -> Any:
    """The frame is left out of the branch that it belongs to."""

    def join(conditions: Any) -> Any:
        joined = original(conditions)
        return replace(joined, semantic=joined.semantic.flip(0), content=joined.content.flip(0))

    return join


def remaking(original: Any) -> Any:
    """The condition is computed at every step."""

    def forward(self: FakeContentTransformer, *inputs: Any, **named: Any) -> Tensor:
        self.condition_cache(
            *(self.conditions[0][name] for name in ("text", "mask")),
            **{name: self.conditions[0][name] for name in ("semantic", "content")},
        )
        return original(self, *inputs, **named)

    return forward


MUTANTS: list[tuple[str, Any, str, Mutant]] = [
    ("branches", denoise_content, "join_content", keeping_the_frame),
    ("branches", denoise_content, "join_content", swapping_the_frames),
    ("diffusers", denoise_content, "join_content", keeping_the_frame),
    ("diffusers", denoise_content, "vp_alpha", lambda original: lambda sigma: 1 - sigma),
    ("diffusers", denoise_content, "vp_sigmas", lambda original: lambda n: (original(n)[0], range(n))),
    ("cache", FakeContentTransformer, "forward", remaking),
    (
        "size",
        ReducioPipeline,
        "_noise",
        lambda original: lambda self, asked, *rest: (original(self, asked, *rest)[0], (asked.height, asked.width)),
    ),
    ("middle", content_frame_to_video, "decode", lambda original: lambda *given: original(*given).roll(1, 2)),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant[0]}-{mutant[2]}")
def test_a_mutant_is_caught(
    make: Make,
    pipe: ReducioPipeline,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    mutant: tuple[str, Any, str, Mutant],
) -> None:
    check, owner, name, change = mutant
    monkeypatch.setattr(owner, name, change(getattr(owner, name)))
    with pytest.raises(AssertionError):
        CHECKS[check](make, pipe, photo)


def test_without_guidance_there_is_one_branch(make: Make, pipe: ReducioPipeline) -> None:
    make(guidance_scale=1)
    assert len(pipe.transformer.conditions[0]["text"]) == 1
    assert pipe.transformer.conditions[0]["semantic"].any()
    assert [len(call["timestep"]) for call in pipe.transformer.calls] == [1] * 3


def test_of_a_learned_variance_nothing_is_seen(make: Make, pipe: ReducioPipeline) -> None:
    torch.manual_seed(1)
    learned = FakeContentTransformer(FakeContentTransformerConfig(learn_sigma=True))
    plain = FakeContentTransformer(FakeContentTransformerConfig())
    plain.condition = learned.condition
    with torch.no_grad():
        plain.latents.weight.copy_(learned.latents.weight[:4])
        plain.latents.bias.copy_(learned.latents.bias[:4])
    clips = []
    for transformer in (learned, plain):
        pipe.transformer = transformer
        clips.append(make().frames)
    assert (clips[0] == clips[1]).all()


def test_a_transformer_without_size_embedding_is_told_none(photo: Path) -> None:
    pipe = build_reducio(transformer=FakeContentTransformer(FakeContentTransformerConfig(size_embedding=False)))
    pipe(image=photo, prompt="pan left", generator=seeded())
    assert {call["size"] for call in pipe.transformer.calls} == {None}


def test_content_is_padded_for_four_grids(photo: Path) -> None:
    frame = FakeContentFrame(content_step=4)
    pipe = build_reducio(transformer=FakeContentTransformer(FakeContentTransformerConfig(content_frame=frame)))
    pipe(image=photo, prompt="pan left", height=33, width=17, generator=seeded())
    assert pipe.transformer.conditions[0]["content"].shape == (2, 4, 8, 4)


def test_same_seed_same_bytes_and_other_seed_other_bytes(make: Make) -> None:
    assert (make().frames == make().frames).all()
    assert (make().frames != make(generator=seeded(1)).frames).any()
    assert (make(generator=None).frames != make(generator=None).frames).any()


def test_every_input_moves_the_video(make: Make) -> None:
    plain = make(output_type="latent").latents
    for change in (
        {"prompt": "pan right"},
        {"negative_prompt": "blur"},
        {"num_inference_steps": 4},
        {"guidance_scale": 3.0},
        {"image": Image.new("RGB", (60, 40), "red")},
    ):
        assert (make(output_type="latent", **change).latents != plain).any(), change


def test_the_global_random_state_is_neither_read_nor_moved(make: Make) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = make().frames
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert (make().frames == first).all()


def test_latents_and_floats_instead_of_bytes(make: Make) -> None:
    video = make(output_type="latent", num_frames=3)
    assert isinstance(video, LatentVideo)
    assert video.latents.shape == (1, 4, 2, 4, 6)
    assert video.latents.dtype == torch.float32
    clip, floats = make(num_frames=3), make(num_frames=3, output_type="pt")
    assert floats.frames.shape == (1, 3, 3, 32, 48)
    assert (to_pixels(floats.frames[0]) == clip.frames).all()


def test_an_accelerator_lives_for_one_video(make: Make) -> None:
    accelerator = FakeAccelerator()
    clip = make(accelerator=accelerator)
    assert accelerator.log == ["start 3", *["begin", "attention", "end"] * 3, "finish"]
    assert (clip.frames == make().frames).all()


def test_an_accelerator_that_drops_latent_frames_is_refused_at_once(make: Make, pipe: ReducioPipeline) -> None:
    with pytest.raises(ValueError, match="`accelerator` made 1 of 2 latent frames; clips are decoded whole"):
        make(accelerator=FakeAccelerator(keep=1))
    assert len(pipe.transformer.calls) == 1


def test_the_callback_may_cancel(make: Make) -> None:
    seen = []

    def watch(step: Any, video: LatentVideo) -> None:
        seen.append((step.index, video.latents.shape))
        if step.index == 1:
            raise GenerationCancelled

    with pytest.raises(GenerationCancelled):
        make(callback_on_step_end=watch)
    assert seen == [(0, (1, 4, 2, 4, 6)), (1, (1, 4, 2, 4, 6))]


def test_nan_is_reported_within_its_step(make: Make, pipe: ReducioPipeline) -> None:
    with torch.no_grad():
        pipe.transformer.latents.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="stage `denoise`, step 0 of 3") as caught:
        make()
    assert caught.value.__notes__ == ["in stage `denoise`"]


class Painter:
    """A text-to-image callable that writes down what it is asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    def __call__(self, prompt: str, /, *, height: int, width: int, generator: torch.Generator) -> Any:
        self.asked.append((prompt, height, width, isinstance(generator, torch.Generator)))
        return self.answer


def test_text_to_image_makes_the_content_frame_where_there_is_none(make: Make, pipe: ReducioPipeline) -> None:
    picture = Image.effect_noise((64, 64), 80).convert("RGB")
    pipe.text_to_image = Painter(picture)
    assert (make(image=None).frames == make(image=picture).frames).all()
    assert pipe.text_to_image.asked == [("pan left", 32, 48, True)]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([Image.new("RGB", (64, 64))], "of type list; expected a path"),
        (None, "of type NoneType"),
        (torch.zeros(1, 3, 64, 64), r"shape \(1, 3, 64, 64\); expected floating point `3 H W`"),
        (torch.full((3, 64, 64), 2.0), r"values from 2 to 2; expected \[-1, 1\]"),
        (np.zeros((64, 64, 3)), "array of float64"),
        ("nowhere.png", "no such file"),
        (Image.new("RGB", (4, 4)), "is 4x4 pixels"),
    ],
)
def test_what_is_no_picture_is_laid_on_text_to_image(
    make: Make, pipe: ReducioPipeline, answer: Any, message: str
) -> None:
    pipe.text_to_image = Painter(answer)
    with pytest.raises(ValueError, match=f"`text_to_image` returned something else than one picture: .*{message}"):
        make(image=None)
    assert pipe.transformer.calls == []


def test_a_name_is_no_text_to_image(make: Make, pipe: ReducioPipeline) -> None:
    pipe.text_to_image = "some/model"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="`text_to_image` is 'some/model'; expected a function of a prompt, or None"):
        make(image=None)


BAD_CALLS: list[tuple[dict[str, Any], str]] = [
    (
        {"num_frames": 9},
        r"`num_frames` is 9; the autoencoder works in clips of 8 frames .*expected 1 to 8 "
        r"\(nearest legal values: 7 and 8\)",
    ),
    ({"num_frames": 0}, r"`num_frames` is 0; expected 1 to 4096 \(nearest legal values: 1 and 2\)"),
    ({"num_inference_steps": 1000}, r"`num_inference_steps` is 1000; expected 1 to 999"),
    ({"num_inference_steps": 0}, "`num_inference_steps` is 0"),
    ({"height": 15}, "`height` is 15; expected 16 to 8192"),
    ({"guidance_scale": 0.5}, r"`guidance_scale` is 0\.5; expected 1 to 100"),
    ({"fps": 0}, "`fps` is 0"),
    ({"output_type": "gif"}, "`output_type` is 'gif'; expected one of np, pt, latent"),
    ({"prompt": None}, "`prompt` is of type NoneType"),
    ({"negative_prompt": "blur", "guidance_scale": 1}, "`negative_prompt` is 'blur', which has no effect"),
    ({"image": None}, "`image` is None and the pipeline has no `text_to_image`"),
    ({"image": "nowhere.jpg"}, "`image` is 'nowhere.jpg': no such file"),
    ({"image": torch.zeros(4, 32, 32)}, r"`image` is a tensor of torch\.float32, shape \(4, 32, 32\)"),
    ({"image": torch.full((3, 32, 32), 255.0)}, r"`image` is a tensor with values from 255 to 255; expected \[-1, 1\]"),
    ({"generator": 42}, "`generator` is 42"),
    ({"callback_on_step_end": "x"}, "`callback_on_step_end` is 'x'"),
    ({"accelerator": "none"}, "`accelerator` is 'none'; expected an object with a method `start`"),
]


@pytest.mark.parametrize(("change", "message"), BAD_CALLS)
def test_bad_calls_are_refused_before_the_transformer_runs(
    make: Make, pipe: ReducioPipeline, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(**change)
    assert pipe.transformer.calls == pipe.transformer.conditions == []


def content_transformer(**changes: Any) -> FakeContentTransformer:
    return FakeContentTransformer(FakeContentTransformerConfig(**changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"autoencoder": FakeClipAutoencoder(6)}, "`autoencoder` has 6 latent channels and `transformer` 4"),
        ({"autoencoder": FakeClipAutoencoder(fusion="none")}, "`autoencoder` decodes without a content frame"),
        ({"transformer": content_transformer(content_frame=None)}, "`transformer` is shown no content frame"),
        (
            {"content_encoder": FakeContentEncoder(3)},
            "`content_encoder` has 3 latent channels and `tran",
        ),
        ({"sampling": replace(REDUCIO_SAMPLING, num_frames=16)}, "`num_frames` is 16; .*clips of 8 frames"),
        ({"dtype": torch.int32}, r"`dtype` is torch\.int32"),
        ({"device": "tpu"}, "`device` is 'tpu'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_reducio(**change)


def test_in_low_precision_the_video_stays_close(photo: Path) -> None:
    clips = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        full = build_reducio(sampling=replace(REDUCIO_SAMPLING, guidance_scale=1.0))
        for part in (full.autoencoder, full.transformer, full.text_encoder):
            part.to(dtype)
        full.dtype = dtype
        clips.append(full(image=photo, prompt="pan left", generator=seeded()).frames.astype(int))
    assert 0 < np.abs(clips[0] - clips[1]).mean() < 4


def test_the_fake_works_in_clips() -> None:
    frames = torch.rand(1, 3, 11, 16, 16)
    model = FakeClipAutoencoder()
    assert torch.equal(model.content_frames(frames), frames[:, :, [3, 10]])
    assert not hasattr(FakeAutoencoder(), "content_frames")
