"""The model that comes with fastvid-pipelines, as a user meets it first: no flags but the photo and the sentence."""

import json
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
from fastvid_pipelines.image_to_video import embedded_folder
from PIL import Image

PHOTO = Path(__file__).parents[2] / "examples" / "assets" / "dandelion.jpg"
SCRIPT = Path(sys.executable).with_name("fastvid-cli")
LARGEST = 24 * 2**20

pytestmark = pytest.mark.skipif(not embedded_folder().is_dir(), reason="the embedded model is not trained yet")


def test_it_is_as_small_as_promised() -> None:
    assert sum(file.stat().st_size for file in embedded_folder().rglob("*") if file.is_file()) <= LARGEST


def test_the_first_video_takes_less_than_a_minute_and_comes_out_the_same_twice(tmp_path: Path) -> None:
    records = []
    for name in ("first", "second"):
        output = tmp_path / f"{name}.mp4"
        command = [SCRIPT, "generate", PHOTO, "--prompt", "the camera slowly zooms in", "--output", output]
        started = time.monotonic()
        result = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        assert time.monotonic() - started < 60
        with av.open(str(output)) as container:
            stream = container.streams.video[0]
            assert (stream.frames, stream.height, stream.width) == (17, 128, 128)
            assert sum(1 for _ in container.decode(stream)) == 17
        with Image.open(output.with_suffix(".png")) as sheet:
            assert sheet.width > 3 * 128
        records.append(json.loads(output.with_suffix(".json").read_text(encoding="utf-8")))
    assert records[0]["output"]["frames_sha256"] == records[1]["output"]["frames_sha256"]
    assert records[0]["request"]["prompt"] == "the camera slowly zooms in"
