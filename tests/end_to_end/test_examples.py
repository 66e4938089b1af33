"""The examples run, in the order of their numbers, on a tiny pipeline."""

from pathlib import Path

import pytest

from ..tiny_models import SAMPLING, tiny_pipeline
from ..warm import printed_by

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "examples" / "assets"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


def test_examples_run_in_their_order(model: Path, tmp_path: Path) -> None:
    example = {path.name[:2]: path for path in (ROOT / "examples").glob("[0-9][0-9]_*.py")}
    assert sorted(example) == ["01", "02", "03", "04", "05", "06", "07"]
    shared = ("--model", model, "--tiny")
    said = printed_by(example["01"], ASSETS / "meadow.jpg", "the camera pans left", "made.mp4", *shared, cwd=tmp_path)
    assert f"({SAMPLING.num_frames}, {SAMPLING.height}, {SAMPLING.width}, 3)" in said
    said = printed_by(example["02"], "made.mp4", "again.mp4", *shared, cwd=tmp_path)
    assert "PSNR" in said
    assert (tmp_path / "again.mp4").stat().st_size > 0
    said = printed_by(example["03"], ASSETS / "periwinkle.jpg", "the camera zooms in", *shared, cwd=tmp_path)
    assert "every second key" in said
    said = printed_by(example["05"], ASSETS / "meadow.jpg", "the camera pans left", *shared, cwd=tmp_path)
    assert "a quarter of all queries" in said
    said = printed_by(
        example["06"], ASSETS / "meadow.jpg", "the camera holds still", "--output", "merged.mp4", *shared, cwd=tmp_path
    )
    assert "of 5 latent frames left" in said
    assert all((tmp_path / f"merged.{kind}").stat().st_size > 0 for kind in ("mp4", "json", "png"))
    said = printed_by(example["04"], "decoder.onnx", *shared, cwd=tmp_path)
    assert "frames" in said
    assert (tmp_path / "decoder.onnx").stat().st_size > 0
    said = printed_by(example["07"], ASSETS / "meadow.jpg", "the camera pans left", "engines", *shared, cwd=tmp_path)
    assert float(said.split(" dB between")[0].split()[-1]) > 100


def test_examples_are_short() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "examples").glob("*.py")}
    assert {name: length for name, length in lengths.items() if length >= 60} == {}
