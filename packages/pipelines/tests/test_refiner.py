"""The second stage in whole pipelines: when it runs, at what sizes, and what it refuses."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastvid_pipelines import image_to_video
from fastvid_pipelines.errors import CheckpointError
from fastvid_pipelines.image_to_video import FSVideoPipeline
from fastvid_pipelines.parts import Refiner
from fastvid_pipelines.stages.refine import halve_frame, pad_frame, refine
from fastvid_pipelines.types import Clip, LatentVideo, Refinement, build_request
from fastvid_pipelines.video_to_video import refine_video

from .fakes import SAMPLING, FakeTransformer, FakeTransformerConfig, FakeUpsampler, build_pipeline, build_refiner


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def refining() -> FSVideoPipeline:
    return build_pipeline(refining=True)


@pytest.fixture
def make(refining: FSVideoPipeline, photo: Path) -> Callable[..., Clip]:
    def call(**changes: Any) -> Clip:
        return refining(**({"image": photo, "prompt": "pan left", "generator": seeded()} | changes))

    return call


def base_and_refiner_calls(pipe: FSVideoPipeline) -> tuple[list[int], list[int]]:
    assert isinstance(pipe.transformer, FakeTransformer)
    assert pipe.refiner is not None
    assert isinstance(pipe.refiner.transformer, FakeTransformer)
    return pipe.transformer.calls, pipe.refiner.transformer.calls


def test_the_base_size_is_made_by_the_base_alone(make: Callable[..., Clip], refining: FSVideoPipeline) -> None:
    clip = make()
    assert base_and_refiner_calls(refining) == ([2, 2, 2], [])
    assert "refine" not in clip.seconds


def test_a_large_video_is_refined_without_guidance(make: Callable[..., Clip], refining: FSVideoPipeline) -> None:
    clip = make(height=64, width=96)
    assert clip.frames.shape == (5, 64, 96, 3)
    assert base_and_refiner_calls(refining) == ([2, 2, 2], [1, 1])
    assert list(clip.seconds)[-3:] == ["denoise", "refine", "decode"]


def test_steps_of_the_refiner_can_be_asked_for(make: Callable[..., Clip], refining: FSVideoPipeline) -> None:
    make(refiner_steps=3)
    assert base_and_refiner_calls(refining)[1] == [1, 1, 1]
    make(refiner_steps=0, height=64, width=96)
    assert base_and_refiner_calls(refining)[1] == [1, 1, 1]


@pytest.mark.parametrize(("height", "width"), [(64, 96), (63, 97), (65, 81), (17, 200)])
def test_any_size_comes_out_exactly(make: Callable[..., Clip], height: int, width: int) -> None:
    clip = make(height=height, width=width, refiner_steps=1, num_frames=6)
    assert clip.frames.shape == (6, height, width, 3)


def test_the_refiner_sees_the_large_photo_and_the_small_video(
    refining: FSVideoPipeline, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refining.refiner is not None
    seen = {}
    inner = FakeTransformer.refiner_condition

    def spy(self: FakeTransformer, upsampled: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        seen["latents"] = (upsampled, *rest)
        return inner(self, upsampled, *rest)

    encoded: list[torch.Tensor] = []
    encode = type(refining.autoencoder).encode

    def kept(self: Any, frames: torch.Tensor) -> torch.Tensor:
        encoded.append(encode(self, frames))
        return encoded[-1]

    monkeypatch.setattr(FakeTransformer, "refiner_condition", spy)
    monkeypatch.setattr(type(refining.autoencoder), "encode", kept)
    refining(image=photo, prompt="pan left", height=65, width=97, refiner_steps=1, generator=seeded())
    # 65 x 97 is padded to 80 x 112, whose half is 40 x 56: cells of 8 pixels.
    shapes = [tuple(latents.shape) for latents in seen["latents"]]
    assert shapes == [(1, 4, 2, 10, 14), (1, 4, 1, 10, 14), (1, 4, 1, 10, 14)]
    upsampled, _, first = seen["latents"]  # the true small first frame, not the first of the small video
    assert not torch.equal(first, upsampled[:, :, :1])
    assert [tuple(latents.shape) for latents in encoded] == [(1, 4, 1, 5, 7), (1, 4, 1, 10, 14)]
    assert torch.equal(first, refining.refiner.upsampler(encoded[0]))
    assert torch.equal(seen["latents"][1], encoded[1])


def test_every_part_of_the_second_stage_moves_the_video(make: Callable[..., Clip], refining: FSVideoPipeline) -> None:
    before = make(refiner_steps=2).frames
    assert refining.refiner is not None
    assert isinstance(refining.refiner.upsampler, FakeUpsampler)
    refining.refiner.upsampler.scale.data *= -2
    assert not (make(refiner_steps=2).frames == before).all()
    refining.refiner.upsampler.scale.data /= -2
    assert (make(refiner_steps=2).frames == before).all()
    refining.refiner = replace(
        refining.refiner, refinement=Refinement(num_inference_steps=2, shift=9.0, solver="euler")
    )
    assert not (make(refiner_steps=2).frames == before).all()


def test_the_refiner_sees_frames_at_the_times_of_the_small_video(
    make: Callable[..., Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An accelerator may have thinned it out."""
    before = make(refiner_steps=1).frames

    def thinned(refiner: Any, autoencoder: Any, video: LatentVideo, *rest: Any, **others: Any) -> LatentVideo:
        video = replace(video, positions=video.positions * torch.tensor([9.0, 1.0, 1.0]).view(3, 1, 1, 1))
        return refine(refiner, autoencoder, video, *rest, **others)

    monkeypatch.setattr(image_to_video, "refine", thinned)
    assert not (make(refiner_steps=1).frames == before).all()


def test_fresh_noise_in_every_step_gives_another_video(make: Callable[..., Clip], refining: FSVideoPipeline) -> None:
    before = make(refiner_steps=2).frames
    assert refining.refiner is not None
    renoise = Refinement(num_inference_steps=2, shift=3.0, solver="renoise")
    refining.refiner = replace(refining.refiner, refinement=renoise)
    assert not (make(refiner_steps=2).frames == before).all()
    assert (make(refiner_steps=2).frames == make(refiner_steps=2).frames).all()


@pytest.mark.parametrize(
    ("size", "padded"), [((720, 1280), (768, 1280)), ((768, 1280), (768, 1280)), ((1, 129), (128, 256))]
)
def test_sizes_of_both_stages(size: tuple[int, int], padded: tuple[int, int]) -> None:
    frame = pad_frame(torch.rand(1, 3, *size), (4, 64, 64))
    assert tuple(frame.shape[2:]) == padded
    assert tuple(halve_frame(frame).shape[2:]) == (padded[0] // 2, padded[1] // 2)


def test_halving_averages_and_stays_in_range() -> None:
    checkers = 2.0 * (torch.arange(32) % 2).view(1, 1, 1, 32).expand(1, 3, 32, 32) - 1
    assert halve_frame(checkers)[..., 4:-4].abs().max() < 0.1
    assert halve_frame(torch.ones(1, 3, 32, 32)).max() <= 1


def test_a_video_that_is_there_already(refining: FSVideoPipeline) -> None:
    video = np.random.default_rng(0).integers(0, 256, (6, 33, 47, 3), dtype=np.uint8)
    clip = refine_video(refining, video, prompt="pan left", fps=12.5, generator=seeded())
    assert clip.frames.shape == (6, 66, 94, 3)
    assert clip.fps == 12.5
    assert base_and_refiner_calls(refining) == ([], [1, 1])
    again = refine_video(refining, video, prompt="pan left", fps=12.5, generator=seeded())
    assert (clip.frames == again.frames).all()
    with_image = refine_video(
        refining, video, prompt="pan left", fps=12.5, generator=seeded(), image=255 - clip.frames[0]
    )
    assert not (with_image.frames == clip.frames).all()
    other = refine_video(refining, 255 - video, prompt="pan left", fps=12.5, generator=seeded(), image=clip.frames[0])
    assert not (other.frames == clip.frames).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video": np.zeros((2, 32, 32, 3))}, "`video` is an array of float64"),
        ({"video": np.zeros((0, 32, 32, 3), np.uint8)}, r"shape \(0, 32, 32, 3\)"),
        ({"video": np.zeros((32, 32, 3), np.uint8)}, "expected uint8 `T H W 3`"),
        ({"refiner_steps": 0}, "`refiner_steps` is 0; expected at least 1"),
        ({"fps": 0.0}, "`fps` is 0"),
        ({"image": "missing.jpg"}, "`image` is 'missing.jpg': no such file"),
        ({"generator": 42}, "`generator` is 42; expected a torch.Generator"),
        ({"callback_on_step_end": "x"}, "`callback_on_step_end` is 'x'; expected a function"),
    ],
)
def test_a_video_that_cannot_be_refined(refining: FSVideoPipeline, changes: dict[str, Any], message: str) -> None:
    given = {"video": np.zeros((2, 32, 32, 3), np.uint8), "prompt": "pan left", "fps": 8.0} | changes
    with pytest.raises(ValueError, match=message):
        refine_video(refining, **given)
    assert base_and_refiner_calls(refining)[1] == []


def test_without_a_refiner_nothing_can_be_refined(pipeline: FSVideoPipeline, photo: Path) -> None:
    with pytest.raises(ValueError, match="`pipe` has no refiner"):
        refine_video(pipeline, np.zeros((2, 32, 32, 3), np.uint8), prompt="pan left", fps=8.0)
    for steps in (0, 4):
        with pytest.raises(ValueError, match=f"`refiner_steps` is {steps}, which has no effect"):
            pipeline(image=photo, prompt="pan left", refiner_steps=steps)


def test_a_size_between_the_stages_goes_to_the_nearer_one() -> None:
    refinement = Refinement(num_inference_steps=2, shift=3.0, solver="euler")
    area = SAMPLING.height * SAMPLING.width
    for factor, refined in ((1.0, False), (2.0, False), (2.1, True), (4.0, True)):
        width = round(area * factor / SAMPLING.height)
        assert (build_request(SAMPLING, refinement, prompt="", width=width).refinement is not None) == refined


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_inference_steps": 0}, "`refiner_steps` is 0"),
        ({"shift": 0.0}, "`shift` is 0"),
        ({"solver": "unipc"}, "`solver` is 'unipc'"),
    ],
)
def test_a_refinement_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Refinement(**{"num_inference_steps": 2, "shift": 3.0, "solver": "euler", **changes})


@pytest.mark.usefixtures("discoverable")
def test_read_back_it_refines_the_same(refining: FSVideoPipeline, photo: Path, tmp_path: Path) -> None:
    refining.save_pretrained(tmp_path / "saved")
    again = FSVideoPipeline.from_pretrained(tmp_path / "saved")
    clips = [pipe(image=photo, prompt="pan left", refiner_steps=2, generator=seeded()) for pipe in (refining, again)]
    assert (clips[0].frames == clips[1].frames).all()


@pytest.mark.usefixtures("discoverable")
@pytest.mark.parametrize("name", ["upsampler", "refiner", "refinement"])
def test_half_a_second_stage_is_refused(refining: FSVideoPipeline, tmp_path: Path, name: str) -> None:
    refining.save_pretrained(tmp_path / "saved")
    file = tmp_path / "saved" / "model_index.json"
    index = json.loads(file.read_text())
    index[name] = None if name == "refinement" else [None, None]
    file.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=f"missing .*{name}"):
        FSVideoPipeline.from_pretrained(tmp_path / "saved")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"transformer": FakeTransformer(FakeTransformerConfig())}, "has no mask statistics"),
        ({"transformer": FakeTransformer(FakeTransformerConfig(latent_channels=5, refiner_mask=1.0))}, "5; they have"),
        ({"transformer": FakeTransformer(FakeTransformerConfig(image_width=3, refiner_mask=1.0))}, "image tokens 3"),
        ({"upsampler": FakeUpsampler(5)}, "`refiner.upsampler` 5"),
    ],
)
def test_parts_that_do_not_fit(part: dict[str, Any], message: str) -> None:
    pipe = build_pipeline()
    with pytest.raises(ValueError, match=message):
        FSVideoPipeline(
            autoencoder=pipe.autoencoder,
            transformer=pipe.transformer,
            text_encoder=pipe.text_encoder,
            refiner=replace(build_refiner(), **part),
            sampling=pipe.sampling,
        )


def test_a_sentence_alone_needs_something_that_makes_pictures(refining: FSVideoPipeline) -> None:
    with pytest.raises(ValueError, match="`image` is None and the pipeline has no `text_to_image`"):
        refining(prompt="a lake")
    asked = {}

    def text_to_image(prompt: str, /, *, height: int, width: int, generator: torch.Generator) -> np.ndarray:
        asked.update(prompt=prompt, height=height, width=width)
        pixels = torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8)
        return pixels.numpy()

    refining.text_to_image = text_to_image
    clips = [refining(prompt="a lake", generator=seeded()).frames for _ in range(2)]
    assert asked == {"prompt": "a lake", "height": SAMPLING.height, "width": SAMPLING.width}
    assert (clips[0] == clips[1]).all()


def test_the_refiner_record_is_public() -> None:
    import fastvid_pipelines

    assert fastvid_pipelines.Refiner is Refiner
    assert fastvid_pipelines.refine_video is refine_video
