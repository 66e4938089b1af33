import io
import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from fastvid_pipelines import cli, embedded, exit_codes, pipeline_folder, video_io
from fastvid_pipelines.commands import progress
from fastvid_pipelines.errors import CheckpointError, MissingPackageError, NonFiniteError
from fastvid_pipelines.types import LatentVideo, Step
from fastvid_pipelines.video_io import read_video
from PIL import Image
from typer.testing import CliRunner

from .conftest import Outcome, largest_file
from .fakes import FakeTransformer

Run = Callable[..., Outcome]


def test_generate_writes_video_sidecar_and_sheet(generate: Run, tmp_path: Path) -> None:
    outcome = generate()
    assert outcome.code == 0, outcome.err
    assert outcome.new == ["out.json", "out.mp4", "out.png"]
    assert read_video(tmp_path / "out.mp4").frames.shape == (5, 32, 48, 3)
    with Image.open(tmp_path / "out.png") as sheet:
        assert sheet.format == "PNG"
    assert outcome.out.startswith(f"{tmp_path / 'out.mp4'}: 5 frames of 48x32, 8 a second, in ")


def test_the_sidecar_holds_what_is_needed_to_repeat_the_run(generate: Run, tmp_path: Path) -> None:
    printed = json.loads(generate("--seed", 3, "--steps", 2, "--json").out)
    sidecar = json.loads((tmp_path / "out.json").read_text())
    assert printed == sidecar
    assert sidecar["request"] == {
        "prompt": "pan left",
        "negative_prompt": "",
        "seed": 3,
        "num_frames": 5,
        "height": 32,
        "width": 48,
        "fps": 8.0,
        "num_inference_steps": 2,
        "guidance_scale": 2.0,
        "shift": 3.0,
        "solver": "euler",
        "refinement": None,
    }
    assert (sidecar["image"]["width"], sidecar["image"]["height"]) == (60, 40)
    assert len(sidecar["image"]["sha256"]) == len(sidecar["model"]["fingerprint"]) == 64
    stages = ["load_model", "load_photo", "encode_prompt", "encode_reference", "denoise", "decode", "write", "total"]
    assert list(sidecar["seconds"]) == stages
    assert sidecar["seconds"]["total"] >= sum(sidecar["seconds"][stage] for stage in stages[:-1])
    assert sidecar["peak_memory_bytes"]["host"] > 10**7
    assert sidecar["accelerator"] == {"name": None, "settings": [], "latent_frames": [2, 2], "report": {}}
    assert sidecar["environment"]["torch"] == torch.__version__


def test_its_command_makes_the_same_frames_again(generate: Run, tmp_path: Path) -> None:

    first = json.loads(generate("--seed", 3, "--solver", "unipc", "--json").out)
    words = shlex.split(first["command"])
    assert words[0] == "fastvid-cli"
    again = Outcome(tmp_path, *words[1:])
    assert again.code == 0, again.err
    assert (
        json.loads((tmp_path / "out.json").read_text())["output"]["frames_sha256"] == first["output"]["frames_sha256"]
    )


def test_same_seed_same_frames_and_other_seed_other_frames(generate: Run) -> None:
    runs = [json.loads(generate("--seed", seed, "--json").out) for seed in (0, 0, 1)]
    hashes = [run["output"]["frames_sha256"] for run in runs]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("num_frames", "height", "width", "fps"), [(1, 16, 16, 8), (13, 34, 58, 23.976), (17, 126, 22, 24)]
)
def test_the_file_has_exactly_the_wanted_form(
    generate: Run, tmp_path: Path, num_frames: int, height: int, width: int, fps: float
) -> None:
    flags = ("--num-frames", num_frames, "--height", height, "--width", width, "--fps", fps)
    assert generate(*flags).code == 0
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.frames, stream.height, stream.width) == (num_frames, height, width)
        assert float(stream.average_rate) == pytest.approx(fps, abs=1e-3)


BAD_FLAGS: list[tuple[tuple[object, ...], str]] = [
    (
        ("--height", 0),
        "`--height` is 0; an mp4 (H.264, yuv420p) has an even number of pixels on each side, here 16 to ",
    ),
    (("--height", 0), "(nearest legal values: 16 and 18)"),
    (("--width", -1), "`--width` is -1"),
    (("--height", 14), "(nearest legal values: 16 and 18)"),
    (("--height", 127), "(nearest legal values: 126 and 128)"),
    (("--width", 131), "`--width` is 131"),
    (("--width", 9001), "(nearest legal values: 8190 and 8192)"),
    (("--num-frames", 0), "`--num-frames` is 0"),
    (("--num-frames", -1), "`--num-frames` is -1"),
    (("--num-frames", 4096, "--height", 8192, "--width", 8192), "`--num-frames` x `--height` x `--width` is 4096 x "),
    (("--steps", 0), "`--steps` is 0; expected 1 to 1000"),
    (("--guidance-scale", "nan"), "`--guidance-scale` is nan"),
    (("--fps", 0), "`--fps` is 0"),
    (("--shift", -1), "`--shift` is -1"),
    (("--solver", "heun"), "`--solver` is 'heun'; expected one of euler, dpmsolver++, unipc"),
    (("--seed", -1), "`--seed` is -1"),
    (("--accelerate", ",none"), "`--accelerate` is ''; installed: "),
    (("--accelerate", "warp"), "`--accelerate` is 'warp'; installed: "),
    (("--device", "tpu7"), "`--device` is 'tpu7', which cannot be used here; available: cpu"),
    (("--device", "meta"), "`--device` is 'meta'"),
    (("--dtype", "int8"), "`--dtype` is 'int8'; expected one of float32, bfloat16, float16"),
    (("--negative-prompt", "x", "--guidance-scale", 1), "at `--guidance-scale` 1; raise `--guidance-scale` above 1"),
    (("--output", "out.avi"), "`--output` is 'out.avi'; expected a name that ends in .mp4"),
    (("--output", "x" * 252 + ".mp4"), "File name too long"),
    (("--model", "/nowhere"), "`--model` is '/nowhere': no such folder"),
    (("--model", ""), "`--model` is ''; expected a folder"),
    (("--model", "x" * 300), "no such folder"),
]


@pytest.mark.parametrize(("flags", "message"), BAD_FLAGS)
def test_bad_flags_exit_with_2_before_the_model_is_read_and_leave_no_file(
    generate: Run, monkeypatch: pytest.MonkeyPatch, flags: tuple[object, ...], message: str
) -> None:
    monkeypatch.setattr(pipeline_folder.PipelineFolder, "load", failing(AssertionError("the model was read")))
    monkeypatch.setattr(cli.discovery, "entry_points", lambda group: [EntryPoint("none", "a:b", group)])
    outcome = generate(*flags, "--json")
    assert outcome.code == exit_codes.USAGE
    assert message in outcome.err
    assert outcome.new == []
    answer = json.loads(outcome.out)
    assert message in answer["error"]
    assert answer["exit_code"] == 2


def test_a_prompt_too_long_is_named_as_it_was_typed(generate: Run) -> None:
    outcome = generate("--prompt", "x" * 65)
    assert outcome.code == exit_codes.USAGE
    assert "`--prompt` 'xxx" in outcome.err
    assert "has 65 bytes" in outcome.err
    assert outcome.new == []


@pytest.mark.parametrize("kind", ["missing", "text", "1x1", "cut", "long", "folder"])
def test_bad_photos_exit_with_2_and_leave_no_file(generate: Run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.jpg"
    if kind == "text":
        path.write_text("not a photo")
    elif kind == "1x1":
        Image.new("RGB", (1, 1)).save(path)
    elif kind == "cut":
        Image.effect_noise((99, 99), 50).save(path)
        path.write_bytes(path.read_bytes()[:700])
    elif kind == "long":
        path = tmp_path / ("x" * 300)
    elif kind == "folder":
        path = tmp_path
    outcome = generate(image=path)
    assert outcome.code == exit_codes.USAGE
    assert "`image` is" in outcome.err
    assert outcome.new == []


@pytest.mark.parametrize("kind", ["cmyk", "deep", "alpha", "turned"])
def test_unusual_photos_work(generate: Run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "unusual.tiff"
    picture, exif = Image.linear_gradient("L").resize((64, 48)).convert("RGB"), Image.Exif()
    exif[0x0112] = 6
    match kind:
        case "cmyk":
            picture.convert("CMYK").save(path)
        case "deep":
            picture.convert("I;16").save(path)
        case "alpha":
            picture.convert("RGBA").save(path)
        case "turned":
            picture.save(path, exif=exif)
    outcome = generate("--json", image=path)
    assert outcome.code == 0, outcome.err
    size = json.loads(outcome.out)["image"]
    assert (size["width"], size["height"]) == ((48, 64) if kind == "turned" else (64, 48))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("out.avi", "expected a name that ends in .mp4"),
        ("nowhere/out.mp4", "there is no folder"),
        ("photo.mp4", "photo.png would overwrite the input"),
    ],
)
def test_bad_outputs_exit_with_2(generate: Run, output: str, message: str) -> None:
    outcome = generate(output=output)
    assert outcome.code == exit_codes.USAGE
    assert message in outcome.err
    assert outcome.new == []


def test_a_fault_of_the_model_folder_is_not_laid_on_the_flags(generate: Run, saved: Path) -> None:
    index = json.loads((saved / "model_index.json").read_text())
    index["sampling"]["num_inference_steps"] = 0
    (saved / "model_index.json").write_text(json.dumps(index))
    outcome = generate()
    assert outcome.code == exit_codes.USAGE
    assert "model_index.json: sampling: " in outcome.err
    assert "`num_inference_steps` is 0" in outcome.err


@pytest.mark.parametrize("verb", ["generate", "reconstruct"])
def test_without_an_encoder_nothing_begins(
    generate: Run, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr(video_io.av, "codecs_available", {"h264", "mpeg4"})
    monkeypatch.setattr(pipeline_folder, "find", failing(AssertionError("the model was looked for")))
    if verb == "generate":
        outcome = generate()
    else:
        outcome = Outcome(tmp_path, "reconstruct", tmp_path / "in.mp4", tmp_path / "out.mp4", "--model", saved)
    assert outcome.code == exit_codes.MISSING_DEPENDENCY
    assert "libx264" in outcome.err
    assert "pip install --force-reinstall av" in outcome.err
    assert outcome.new == []


def test_a_full_disk_exits_with_1_and_leaves_no_file(generate: Run) -> None:
    with largest_file(1500):
        outcome = generate()
    assert outcome.code == exit_codes.RUN_TIME
    assert outcome.new == []
    assert "error:" in outcome.err
    assert "Traceback" not in outcome.err


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted; nothing was written"),
        (MemoryError(), 4, "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), 4, "try fewer frames"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 4, "in stage `denoise`"),
        (ImportError("no fastvid_dit"), 3, "no fastvid_dit"),
        (NonFiniteError("stage"), 1, "stage"),
        (RuntimeError("shapes"), 1, "Traceback"),
        (OSError(5, "Input/output error"), 1, "Input/output error"),
    ],
)
def test_exit_codes_of_what_goes_wrong_inside(
    generate: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    monkeypatch.setattr(FakeTransformer, "forward", failing(error))
    outcome = generate()
    assert outcome.code == code
    assert message in outcome.err
    assert outcome.new == []


def test_nan_weights_exit_with_1_and_name_the_step(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeTransformer, "forward", lambda self, latents, *_, **__: latents * float("nan"))
    outcome = generate()
    assert outcome.code == exit_codes.RUN_TIME
    assert "step 0 of 3" in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.new == []


def test_exit_codes_by_kind() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert exit_codes.exit_code(caught.value) == exit_codes.OUT_OF_MEMORY
    assert exit_codes.exit_code(MissingPackageError()) == exit_codes.MISSING_DEPENDENCY
    assert exit_codes.exit_code(CheckpointError()) == exit_codes.USAGE
    assert exit_codes.exit_code(RuntimeError("other")) == exit_codes.RUN_TIME


@pytest.mark.parametrize("words", [(), ("generate",), ("generate", "a.jpg"), ("dance",), ("generate", "--steps", "x")])
def test_incomplete_command_lines_exit_with_2(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert Outcome(tmp_path, *words).code == exit_codes.USAGE


@pytest.mark.parametrize("verb", ["generate", "reconstruct", "doctor"])
def test_every_verb_explains_itself_and_takes_json(tmp_path: Path, verb: str) -> None:
    outcome = Outcome(tmp_path, verb, "--help")
    assert outcome.code == 0
    assert "--json" in outcome.out


@pytest.fixture
def source(tmp_path: Path, generate: Run) -> Path:
    assert generate("--num-frames", 9, output="source.mp4").code == 0
    return tmp_path / "source.mp4"


def test_reconstruct_reports_what_was_lost(source: Path, saved: Path, tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, "reconstruct", source, tmp_path / "again.mp4", "--model", saved, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.new == ["again.json", "again.mp4", "again.png"]
    report = json.loads(outcome.out)
    assert report == json.loads((tmp_path / "again.json").read_text())
    assert 5 < report["psnr"] < 60
    assert report["compression"] == pytest.approx(9 * 32 * 48 * 3 / (4 * 3 * 4 * 6))
    assert read_video(tmp_path / "again.mp4").frames.shape == (9, 32, 48, 3)


def test_reconstruct_takes_the_first_frames_and_crops_odd_sizes(
    saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "odd.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 33, 47, "yuv444p"
        for _ in range(6):
            container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (47, 33), "teal"))))
        container.mux(stream.encode())
    outcome = Outcome(tmp_path, "reconstruct", path, tmp_path / "o.mp4", "--model", saved, "--num-frames", 4)
    assert outcome.code == 0, outcome.err
    assert read_video(tmp_path / "o.mp4").frames.shape == (4, 32, 46, 3)
    assert "the video is 47x33; an mp4 in yuv420p has even sides, so it is cropped to 46x32" in caplog.text


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("missing.mp4", (), "no such file"),
        ("photo.png", ("--num-frames", 0), "`--num-frames` is 0"),
        ("photo.png", ("--dtype", "int8"), "`--dtype` is 'int8'"),
        ("model", (), "which is a folder; expected a file"),
        ("x" * 300, (), "`video` is"),
        ("photo.png", ("--model", ""), "`--model` is ''"),
    ],
)
def test_bad_videos_exit_with_2(
    saved: Path, photo: Path, tmp_path: Path, name: str, flags: tuple[object, ...], message: str
) -> None:
    outcome = Outcome(tmp_path, "reconstruct", tmp_path / name, tmp_path / "o.mp4", "--model", saved, *flags)
    assert outcome.code == exit_codes.USAGE
    assert message in outcome.err
    assert outcome.new == []


CHILD = """
    import signal, importlib, sys, time
    sys.path.insert(0, {tests!r})
    import fakes
    from fastvid_pipelines import cli, discovery
    discovery.find_class = lambda group, library, class_name: getattr(fakes, class_name)
    forward = fakes.FakeTransformer.forward
    def slow(self, *inputs, **named):
        print("step", flush=True)
        time.sleep(0.2)
        return forward(self, *inputs, **named)
    fakes.FakeTransformer.forward = slow
    # A shell starts its background jobs deaf to interrupts; this child stands for one in the foreground.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_process_leaves_no_file(
    saved: Path, photo: Path, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    program = textwrap.dedent(CHILD).format(tests=str(Path(__file__).parent))
    words = ["generate", photo, "--prompt", "pan left", "-o", tmp_path / "out.mp4", "--model", saved]
    command = [sys.executable, "-c", program, *map(str, words), "--steps", "900"]
    before = sorted(tmp_path.iterdir())
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "step\n"
        process.send_signal(sent)
        started = time.monotonic()
        _, errors = process.communicate(timeout=60)
        assert time.monotonic() - started < 30
    assert process.returncode == code, errors
    assert sorted(tmp_path.iterdir()) == before
    assert "Traceback" not in errors
    assert "load_photo:" in errors  # one line a stage where there is no terminal


def test_a_bar_on_a_terminal_and_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        screen = io.StringIO()
        monkeypatch.setattr(progress.sys, "stderr", screen)
        monkeypatch.setattr(screen, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setenv("TERM", "xterm")
        with progress.step_progress() as on_step_end:
            for index in range(3):
                step = Step(index=index, num_steps=3, sigma=1.0, next_sigma=0.5)
                on_step_end(step, LatentVideo(latents=torch.zeros(1, 1, 1, 1, 1), positions=torch.zeros(3, 1, 1, 1)))
        assert ("steps" in screen.getvalue() and "3/3" in screen.getvalue()) == terminal


def test_without_an_embedded_model_generate_refuses_and_writes_nothing(
    tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "embedded_folder", lambda: tmp_path / "embedded")
    output = tmp_path / "out.mp4"
    result = CliRunner().invoke(cli.app, ["generate", str(photo), "--prompt", "zoom", "--output", str(output)])
    assert result.exit_code == 2
    assert "no embedded model in this installation" in result.output
    assert not list(tmp_path.glob("out.*"))
