"""What the READMEs and examples show runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..tiny_models import SAMPLING, tiny_pipeline
from ..tiny_reducio import tiny_reducio

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", *sorted((ROOT / "packages").glob("*/README.md"))]
ASSETS = ROOT / "examples" / "assets"


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(*command: str | Path, cwd: Path) -> str:
    result = subprocess.run(
        [sys.executable, *map(str, command)], check=False, cwd=cwd, capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reducio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for the folder `my_reducio` of a README: small, with random weights."""
    folder = tmp_path_factory.mktemp("models") / "reducio"
    tiny_reducio().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_python_in_a_readme_runs(readme: Path, reducio: Path, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "my_reducio").symlink_to(reducio)
    for index, block in enumerate(python_blocks(readme.read_text(encoding="utf-8"))):
        script = tmp_path / f"block_{index}.py"
        script.write_text(block, encoding="utf-8")
        run(script, cwd=tmp_path)


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_links_of_a_readme_lead_somewhere(readme: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", readme.read_text(encoding="utf-8"))
    assert [target for target in targets if not (readme.parent / target).exists()] == []


def test_examples_run_in_their_order(model: Path, tmp_path: Path) -> None:
    example = {path.name[:2]: path for path in (ROOT / "examples").glob("[0-9][0-9]_*.py")}
    assert sorted(example) == ["01", "02", "03", "04", "05", "06"]
    shared = ("--model", model, "--tiny")
    said = run(example["01"], ASSETS / "meadow.jpg", "the camera pans left", "made.mp4", *shared, cwd=tmp_path)
    assert f"({SAMPLING.num_frames}, {SAMPLING.height}, {SAMPLING.width}, 3)" in said
    said = run(example["02"], "made.mp4", "again.mp4", *shared, cwd=tmp_path)
    assert "PSNR" in said
    assert (tmp_path / "again.mp4").stat().st_size > 0
    said = run(example["03"], ASSETS / "periwinkle.jpg", "the camera zooms in", *shared, cwd=tmp_path)
    assert "every second key" in said
    said = run(example["05"], ASSETS / "meadow.jpg", "the camera pans left", *shared, cwd=tmp_path)
    assert "a quarter of all queries" in said
    said = run(
        example["06"], ASSETS / "meadow.jpg", "the camera holds still", "--output", "merged.mp4", *shared, cwd=tmp_path
    )
    assert "of 5 latent frames left" in said
    assert all((tmp_path / f"merged.{kind}").stat().st_size > 0 for kind in ("mp4", "json", "png"))
    said = run(example["04"], "decoder.onnx", *shared, cwd=tmp_path)
    assert "frames" in said
    assert (tmp_path / "decoder.onnx").stat().st_size > 0


def test_examples_are_short() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "examples").glob("*.py")}
    assert {name: length for name, length in lengths.items() if length >= 60} == {}


def test_the_blocks_are_found() -> None:
    assert python_blocks("text\n```python\na = 1\n```\n```bash\nls\n```\n```python\nb\n```\n") == ["a = 1\n", "b\n"]
