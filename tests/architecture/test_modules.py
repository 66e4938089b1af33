"""Files have the name of a concept and a size that can be read in one sitting."""

from pathlib import Path

import pytest

from .workspace import PACKAGES, ROOT, files_of_tests, source_files

LINES_AT_MOST = 500
NAMES_OF_NOTHING = {"utils", "util", "helpers", "helper", "common", "base", "misc", "manager"}
POSTPONED = "from __future__ import annotations"  # it would blind the run-time check of shapes


def faults(file: Path) -> list[str]:
    """Why this module would not pass a review at first sight."""
    lines = file.read_text(encoding="utf-8").splitlines()
    found = []
    if len(lines) > LINES_AT_MOST:
        found.append(f"{len(lines)} lines, at most {LINES_AT_MOST}")
    if NAMES_OF_NOTHING & {part.strip("_").lower() for part in (*file.stem.split("_"), file.parent.name)}:
        found.append(f"`{file.stem}` names no concept")
    if POSTPONED in lines:
        found.append(POSTPONED)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_of_a_package(package: str) -> None:
    files = source_files(package) + files_of_tests(package)
    assert {str(file): found for file in files if (found := faults(file))} == {}


@pytest.mark.parametrize("folder", ["tests", "examples", "benchmarks", "recipes", ".ci"])
def test_modules_beside_the_packages(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert {str(file): found for file in files if (found := faults(file))} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_folders_of_tests_are_no_packages(package: str) -> None:
    assert [file for file in files_of_tests(package) if file.name == "__init__.py"] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("long.py", "x = 1\n" * (LINES_AT_MOST + 1)),
        ("utils.py", ""),
        ("video_utils.py", ""),
        ("_helpers.py", ""),
        ("common/video.py", ""),
        ("future.py", f'"""Text."""\n\n{POSTPONED}\n'),
    ],
)
def test_faults_are_seen(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert len(faults(tmp_path / name)) == 1


def test_a_plain_module_passes(tmp_path: Path) -> None:
    (tmp_path / "baseline.py").write_text("x = 1\n" * LINES_AT_MOST, encoding="utf-8")
    assert faults(tmp_path / "baseline.py") == []
