"""Reducio with real parts and random weights: saved, loaded, and run as a user does, with a picture and without one."""

import json
import shlex
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from diffusers import PixArtAlphaPipeline
from fastvid_accel import NoAcceleration
from fastvid_pipelines import REDUCIO_SAMPLING, CheckpointError, FSVideoPipeline, ReducioPipeline, cli, exit_codes
from fastvid_vae import ReducioVAE
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from ..tiny_models import tiny_pipeline
from ..tiny_reducio import tiny_pixart, tiny_reducio

PHOTO = Path(__file__).parents[2] / "examples" / "assets" / "dandelion.jpg"
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in diffusers


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "reducio"
    tiny_reducio().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "pixart"
    tiny_pixart().tiny_pixart().save_pretrained(folder)
    return folder


def call(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def generate(model: Path, output: Path, *words: object) -> Result:
    return call("generate", "--prompt", "the camera pans left", "--output", output, "--model", model, *words)


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_read_back_it_makes_the_same_video(model: Path) -> None:
    clips = [
        pipe(image=PHOTO, prompt="pans left", num_frames=7, height=30, width=42, generator=seeded())
        for pipe in (tiny_reducio(), ReducioPipeline.from_pretrained(model, local_files_only=True))
    ]
    assert clips[0].frames.shape == (7, 30, 42, 3)
    assert (clips[0].frames == clips[1].frames).all()


def test_the_folder_names_every_part(model: Path) -> None:
    index = json.loads((model / "model_index.json").read_text())
    assert index["_class_name"] == "ReducioPipeline"
    parts = {name: index[name] for name in ("vae", "transformer", "text_encoder", "image_encoder", "content_encoder")}
    assert parts == {
        "vae": ["fastvid_vae", "ReducioVAE"],
        "transformer": ["fastvid_dit", "ReducioDiT"],
        "text_encoder": ["fastvid_pipelines", "T5TextEncoder"],
        "image_encoder": ["fastvid_pipelines", "OpenCLIPImageEncoder"],
        "content_encoder": ["fastvid_pipelines", "SDContentEncoder"],
    }
    assert sorted(path.name for path in model.iterdir()) == sorted([*parts, "model_index.json"])


def test_an_accelerator_that_does_nothing_changes_nothing(model: Path) -> None:
    pipe = ReducioPipeline.from_pretrained(model)
    clips = [
        pipe(image=PHOTO, prompt="pans left", generator=seeded(), accelerator=accelerator).frames
        for accelerator in (None, NoAcceleration())
    ]
    assert (clips[0] == clips[1]).all()


def test_in_bfloat16_the_video_stays_close(model: Path) -> None:
    clips = [
        ReducioPipeline.from_pretrained(model, dtype=dtype)(image=PHOTO, prompt="pans left", generator=seeded()).frames
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert 0 < np.abs(clips[0].astype(int) - clips[1]).mean() < 8


def test_generate_with_a_picture(model: Path, tmp_path: Path) -> None:
    records = []
    for name in ("first.mp4", "second.mp4"):
        result = generate(model, tmp_path / name, PHOTO, "--json")
        assert result.exit_code == 0, result.output
        records.append(json.loads(result.stdout))
        assert frames_of(tmp_path / name).shape == (8, 32, 48, 3)
    assert records[0]["output"]["frames_sha256"] == records[1]["output"]["frames_sha256"]
    assert records[0]["text_to_image"] is None
    assert "shift" not in records[0]["request"]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".json", ".mp4", ".mp4", ".png", ".png"]


@pytest.mark.parametrize("kind", ["reducio", "fsvideo"])
def test_generate_from_words_alone(kind: str, model: Path, painter: Path, tmp_path: Path) -> None:
    if kind == "fsvideo":
        model = tmp_path / "model"
        tiny_pipeline().save_pretrained(model)
    output = tmp_path / "out.mp4"
    result = generate(model, output, "--text-to-image", painter, "--seed", 3, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["image"] is None
    assert record["text_to_image"]["name"] == str(painter)
    assert len(record["text_to_image"]["fingerprint"]) == 64
    assert f"--text-to-image {painter}" in record["command"]
    if kind == "fsvideo":
        return
    again = call(*shlex.split(record["command"])[1:], "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["output"]["frames_sha256"] == record["output"]["frames_sha256"]


BAD: list[tuple[tuple[object, ...], str]] = [
    ((), "no picture: give `image`, a file, or `--text-to-image`, a pipeline that makes one"),
    ((PHOTO, "--text-to-image", "some/model"), "`--text-to-image` is 'some/model' and `image` "),
    (("--text-to-image", "/nowhere"), "`--text-to-image` is '/nowhere'"),
    ((PHOTO, "--shift", 3), "`--shift` is 3.0, which has no effect: a Reducio model has one solver"),
    ((PHOTO, "--solver", "euler"), "`--solver` is 'euler', which has no effect"),
    ((PHOTO, "--refiner-steps", 0), "`--refiner-steps` is 0, which has no effect"),
    ((PHOTO, "--num-frames", 9), "`--num-frames` is 9; the autoencoder works in clips of 8 frames"),
    ((PHOTO, "--steps", 1000), "`--steps` is 1000; expected 1 to 999"),
    ((PHOTO, "--height", 33), "`--height` is 33"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_flags_are_usage_and_leave_nothing(
    model: Path, tmp_path: Path, words: tuple[object, ...], message: str
) -> None:
    result = generate(model, tmp_path / "out.mp4", *words)
    assert result.exit_code == exit_codes.USAGE, result.output
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_cannot_be_is_laid_on_text_to_image(
    model: Path, painter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PixArtAlphaPipeline, "__call__", lambda self, **_: [])
    result = generate(model, tmp_path / "out.mp4", "--text-to-image", painter)
    assert result.exit_code == exit_codes.USAGE, result.output
    assert "`--text-to-image` returned 0 items; expected one picture" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def video(model: Path, tmp_path: Path) -> Path:
    """Eleven frames: more than a clip, less than two."""
    path = tmp_path / "video.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (11, 32, 48, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for frame in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_reconstruct_gives_every_clip_its_middle_frame(
    model: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    decode = ReducioVAE.decode

    def watch(self: ReducioVAE, latents: torch.Tensor, **named: Any) -> torch.Tensor:
        seen.append(named["reference"])
        return decode(self, latents, **named)

    monkeypatch.setattr(ReducioVAE, "decode", watch)
    result = call("reconstruct", video, tmp_path / "again.mp4", "--model", model, "--json")
    assert result.exit_code == 0, result.output
    assert frames_of(tmp_path / "again.mp4").shape == (11, 32, 48, 3)
    frames = torch.from_numpy(frames_of(video)).permute(3, 0, 1, 2)[None] / 127.5 - 1
    torch.testing.assert_close(seen[0], frames[:, :, [3, 10]])


@pytest.mark.parametrize(
    ("part", "file"),
    [
        ("vae", "model.safetensors"),
        ("transformer", "model.safetensors"),
        ("text_encoder", "model/model.safetensors"),
        ("image_encoder", "model.safetensors"),
        ("content_encoder", "model/diffusion_pytorch_model.safetensors"),
    ],
)
@pytest.mark.parametrize("damage", ["missing", "NaN"])
def test_a_damaged_part_is_refused(tmp_path: Path, part: str, file: str, damage: str) -> None:
    tiny_reducio().save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / part / file
    state = load_file(path)
    name = min(name for name, tensor in state.items() if tensor.dim() > 1 and name != "shared.weight")
    if damage == "missing":
        del state[name]
    else:
        state[name].view(-1)[0] = float("nan")
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):  # each package has a CheckpointError of its own
        ReducioPipeline.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("image_encoder", ["os", "system"], "image_encoder is os.system; expected"),
        ("content_encoder", ["os", "system"], "content_encoder is os.system; expected"),
        ("content_encoder", [None, None], "`content_encoder` is .*expected .library, class"),
        ("sampling", {"shift": 3.0}, "sampling: .*Unexpected keyword"),
        ("refiner", [None, None], r"unknown keys \['refiner'\]"),
    ],
)
def test_a_wrong_index_is_refused(tmp_path: Path, model: Path, name: str, entry: Any, message: str) -> None:
    index = json.loads((model / "model_index.json").read_text()) | {name: entry}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    for part in ("vae", "transformer", "text_encoder", "image_encoder", "content_encoder"):
        (tmp_path / part).symlink_to(model / part)
    with pytest.raises(CheckpointError, match=message):
        ReducioPipeline.from_pretrained(tmp_path)


def test_a_folder_of_the_other_pipeline_is_told_so(model: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="describes 'ReducioPipeline'; expected `_class_name` 'FSVideoPipeline'"):
        FSVideoPipeline.from_pretrained(model)
    tiny_pipeline().save_pretrained(tmp_path / "fsvideo")
    with pytest.raises(CheckpointError, match="describes 'FSVideoPipeline'; expected `_class_name` 'ReducioPipeline'"):
        ReducioPipeline.from_pretrained(tmp_path / "fsvideo")
    (tmp_path / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    result = generate(tmp_path, tmp_path / "out.mp4", PHOTO)
    assert result.exit_code == exit_codes.USAGE
    assert "describes 'WanPipeline'; expected `_class_name` 'FSVideoPipeline' or 'ReducioPipeline'" in result.stderr


def test_a_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tiny_reducio()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(pipe.content_encoder), "save_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        pipe.save_pretrained(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_defaults_are_those_of_the_paper() -> None:
    paper = REDUCIO_SAMPLING
    assert (paper.num_frames, paper.fps, paper.num_inference_steps, paper.guidance_scale) == (16, 16.0, 20, 2.5)


def test_a_real_picture_in_the_middle(model: Path) -> None:
    """The photo is what the decoder is given, exactly as large as the video."""
    pipe, seen = ReducioPipeline.from_pretrained(model), []
    decode = pipe.autoencoder.decode
    pipe.autoencoder.decode = lambda latents, **named: (seen.append(named), decode(latents, **named))[1]  # type: ignore[method-assign]
    photo = Image.open(PHOTO).convert("RGB").resize((42, 30))
    pipe(image=photo, prompt="pans left", num_frames=3, height=30, width=42, generator=seeded())
    expected = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None] / 127.5 - 1
    torch.testing.assert_close(seen[0]["reference"], expected)
    assert seen[0]["size"] == (30, 42)
