from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastvid_pipelines import embedded, pipeline_folder
from fastvid_pipelines.errors import GenerationCancelled, NonFiniteError
from fastvid_pipelines.image_to_video import FSVideoPipeline
from fastvid_pipelines.stages.decode import to_pixels
from fastvid_pipelines.types import Clip, LatentVideo
from PIL import Image

from .fakes import (
    SAMPLING,
    FakeAccelerator,
    FakeAutoencoder,
    FakeImageEncoder,
    FakeTransformer,
    FakeTransformerConfig,
    build_pipeline,
    build_text_encoder,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def make(pipeline: FSVideoPipeline, photo: Path) -> Callable[..., Clip]:
    def call(**changes: Any) -> Clip:
        return pipeline(**({"image": photo, "prompt": "pan left", "generator": seeded()} | changes))

    return call


def test_a_clip_of_the_pipelines_own_size(make: Callable[..., Clip]) -> None:
    clip = make()
    assert clip.frames.shape == (5, 32, 48, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.fps == 8.0
    assert clip.latent_frames == (2, 2, 2)
    assert list(clip.seconds) == ["load_photo", "encode_prompt", "encode_reference", "denoise", "decode"]
    assert all(seconds > 0 for seconds in clip.seconds.values())


@pytest.mark.parametrize(
    ("num_frames", "height", "width"), [(1, 16, 16), (2, 33, 17), (13, 41, 59), (17, 32, 40), (6, 127, 16)]
)
def test_any_size_and_frame_count_comes_out_exactly(
    make: Callable[..., Clip], num_frames: int, height: int, width: int
) -> None:
    assert make(num_frames=num_frames, height=height, width=width).frames.shape == (num_frames, height, width, 3)


def test_same_seed_same_bytes_and_other_seed_other_bytes(make: Callable[..., Clip]) -> None:
    assert (make().frames == make().frames).all()
    assert (make().frames != make(generator=seeded(1)).frames).any()


def test_every_input_moves_the_video(make: Callable[..., Clip]) -> None:
    plain = make().frames
    for change in (
        {"prompt": "pan right"},
        {"negative_prompt": "blur"},
        {"num_inference_steps": 4},
        {"guidance_scale": 3.0},
        {"shift": 1.0},
        {"solver": "unipc"},
        {"solver": "dpmsolver++"},
        {"image": Image.new("RGB", (60, 40), "red")},
    ):
        assert (make(**change).frames != plain).any(), change


def test_without_a_generator_no_two_videos_are_equal(make: Callable[..., Clip]) -> None:
    assert (make(generator=None).frames != make(generator=None).frames).any()


def test_the_global_random_state_is_neither_read_nor_moved(make: Callable[..., Clip]) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = make().frames
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert (make().frames == first).all()


def test_latents_instead_of_frames(make: Callable[..., Any]) -> None:
    video = make(output_type="latent")
    assert isinstance(video, LatentVideo)
    assert video.latents.shape == (1, 4, 2, 4, 6)


def test_floats_before_they_become_bytes(make: Callable[..., Any]) -> None:
    clip, floats = make(), make(output_type="pt")
    assert floats.frames.shape == (1, 3, 5, 32, 48)
    assert floats.frames.dtype == torch.float32
    assert (to_pixels(floats.frames[0]) == clip.frames).all()
    assert (floats.fps, floats.latent_frames) == (clip.fps, clip.latent_frames)


@pytest.mark.parametrize("keep", [None, 1])
def test_an_accelerator_lives_for_one_video(make: Callable[..., Clip], keep: int | None) -> None:
    accelerator = FakeAccelerator(keep)
    clip = make(accelerator=accelerator, num_frames=4)
    assert accelerator.log == ["start 3", *["begin", "attention", "end"] * 3, "finish"]
    assert clip.frames.shape[0] == 4
    assert clip.latent_frames == ((2,) * 3 if keep is None else (1,) * 3)
    if keep is None:
        assert (clip.frames == make(num_frames=4).frames).all()


def test_the_callback_may_cancel(make: Callable[..., Clip]) -> None:
    seen = []

    def watch(step: Any, video: LatentVideo) -> None:
        seen.append((step.index, video.latents.shape))
        if step.index == 1:
            raise GenerationCancelled

    with pytest.raises(GenerationCancelled):
        make(callback_on_step_end=watch)
    assert seen == [(0, (1, 4, 2, 4, 6)), (1, (1, 4, 2, 4, 6))]


BAD_CALLS: list[tuple[dict[str, Any], str]] = [
    *(
        ({name: value}, rf"`{name}` is {value}; expected {least} to .*nearest legal values: {least} and {least + 1}")
        for name, least in (("num_frames", 1), ("height", 16), ("width", 16), ("num_inference_steps", 1))
        for value in (0, -1)
    ),
    ({"height": 1}, "`height` is 1; expected 16 to 8192"),
    ({"num_frames": 2**31}, "`num_frames` is 2147483648; expected 1 to 4096"),
    ({"num_frames": 4.5}, r"`num_frames` is 4\.5; expected a whole number"),
    ({"guidance_scale": 0.5}, r"`guidance_scale` is 0\.5; expected 1 to 100"),
    ({"guidance_scale": float("nan")}, "`guidance_scale` is nan"),
    ({"shift": 0}, "`shift` is 0"),
    ({"fps": -8}, "`fps` is -8"),
    ({"solver": "heun"}, "`solver` is 'heun'"),
    ({"output_type": "gif"}, "`output_type` is 'gif'; expected one of np, pt, latent"),
    ({"prompt": None}, "`prompt` is of type NoneType"),
    ({"prompt": ["a", "b"]}, "`prompt` is of type list"),
    ({"prompt": "x" * 65}, "`prompt` 'x+'... has 65 bytes; this text encoder reads at most 64"),
    ({"prompt": "\ud800"}, "`prompt` holds"),
    ({"negative_prompt": "blur", "guidance_scale": 1}, "`negative_prompt` is 'blur', which has no effect"),
    ({"image": "nowhere.jpg"}, "`image` is 'nowhere.jpg': no such file"),
    ({"image": Image.new("RGB", (1, 1))}, "`image` is 1x1 pixels"),
    ({"image": torch.zeros(3, 32, 32, device="meta")}, "`image` is a tensor on the meta device"),
    ({"fps": 10**400}, "`fps` is a number of 1329 bits; expected a number from"),
    ({"generator": 42}, r"`generator` is 42; expected a torch\.Generator"),
    ({"callback_on_step_end": "x"}, "`callback_on_step_end` is 'x'; expected a function"),
    ({"accelerator": "none"}, "`accelerator` is 'none'; expected an object with a method `start`"),
    ({"accelerator": FakeAccelerator}, "`accelerator` is <class .*; expected an object with a method `start`"),
]


@pytest.mark.parametrize(("change", "message"), BAD_CALLS)
def test_bad_calls_are_refused_before_the_transformer_runs(
    pipeline: FSVideoPipeline, make: Callable[..., Clip], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(**change)
    assert pipeline.transformer.calls == []


def test_a_generator_elsewhere_is_refused(make: Callable[..., Clip]) -> None:
    class Elsewhere(torch.Generator):
        device = torch.device("cuda", 0)

    with pytest.raises(ValueError, match="`generator` is on cuda:0; expected one on the CPU"):
        make(generator=Elsewhere())


def test_damaged_weights_are_named_by_stage(make: Callable[..., Clip], pipeline: FSVideoPipeline) -> None:
    with torch.no_grad():
        pipeline.transformer.latents.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="stage `denoise`, step 0 of 3") as caught:
        make()
    assert caught.value.__notes__ == ["in stage `denoise`"]


def test_image_tokens_reach_a_transformer_that_wants_them(photo: Path) -> None:
    torch.manual_seed(0)
    transformer = FakeTransformer(FakeTransformerConfig(image_width=3))
    pipeline = FSVideoPipeline(
        autoencoder=FakeAutoencoder(),
        transformer=transformer,
        text_encoder=build_text_encoder(),
        image_encoder=FakeImageEncoder(),
        sampling=SAMPLING,
    )
    assert pipeline(image=photo, prompt="pan left", generator=seeded()).frames.shape == (5, 32, 48, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"autoencoder": FakeAutoencoder(6)}, "`autoencoder` has 6 latent channels and `transformer` 4"),
        ({"image_encoder": FakeImageEncoder()}, "`image_encoder` has no effect"),
        (
            {"transformer": FakeTransformer(FakeTransformerConfig(image_width=3))},
            "`image_encoder` is None; `transformer` needs image tokens 3 wide",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    parts = {
        "autoencoder": FakeAutoencoder(),
        "transformer": FakeTransformer(FakeTransformerConfig()),
        "text_encoder": build_text_encoder(),
    }
    with pytest.raises(ValueError, match=message):
        FSVideoPipeline(**(parts | change), sampling=SAMPLING)


def test_in_low_precision_the_video_stays_close(photo: Path) -> None:
    clips = []
    for dtype in (torch.float32, torch.bfloat16):
        full = build_pipeline()
        pipeline = FSVideoPipeline(
            autoencoder=full.autoencoder.to(dtype),
            transformer=full.transformer.to(dtype),
            text_encoder=full.text_encoder.to(dtype),
            sampling=replace(SAMPLING, guidance_scale=1.0),
            dtype=dtype,
        )
        clips.append(pipeline(image=photo, prompt="pan left", generator=seeded()).frames.astype(int))
    assert 0 < np.abs(clips[0] - clips[1]).mean() < 4


BAD_PLACES: list[tuple[dict[str, Any], str]] = [
    (
        {"dtype": torch.int32},
        r"`dtype` is torch\.int32; expected one of torch\.float32, torch\.bfloat16, torch\.float16",
    ),
    ({"dtype": torch.complex64}, "`dtype` is torch.complex64"),
    ({"dtype": torch.float8_e4m3fn}, "`dtype` is torch.float8_e4m3fn"),
    ({"dtype": torch.float64}, "`dtype` is torch.float64"),
    ({"dtype": "float16"}, "`dtype` is 'float16'"),
    ({"device": "tpu"}, "`device` is 'tpu', which cannot be used here; available: cpu"),
    ({"device": "hpu"}, "`device` is 'hpu'"),
    ({"device": 3.5}, "`device` is '3.5'"),
    ({"device": "meta"}, "`device` is 'meta', which holds no numbers"),
]


@pytest.mark.parametrize(("place", "message"), BAD_PLACES)
def test_what_cannot_be_computed_in_is_refused_before_anything_is_read(
    saved: Path, monkeypatch: pytest.MonkeyPatch, place: dict[str, Any], message: str
) -> None:
    monkeypatch.delattr(pipeline_folder.PipelineFolder, "load")
    with pytest.raises(ValueError, match=message):
        FSVideoPipeline.from_pretrained(saved, **place)
    monkeypatch.setattr(embedded, "embedded_folder", lambda: saved)
    with pytest.raises(ValueError, match=message):
        FSVideoPipeline.default(**place)
    parts = {
        "autoencoder": FakeAutoencoder(),
        "transformer": FakeTransformer(FakeTransformerConfig()),
        "text_encoder": build_text_encoder(),
    }
    with pytest.raises(ValueError, match=message):
        FSVideoPipeline(**parts, sampling=SAMPLING, **place)


def test_default_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "embedded_folder", lambda: tmp_path / "embedded")
    with pytest.raises(ValueError, match=r"no embedded model in this installation .*name the folder of another model"):
        FSVideoPipeline.default()
