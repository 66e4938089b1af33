"""What the READMEs show runs as it stands there."""

import re
from pathlib import Path

import pytest

from ..tiny_reducio import tiny_reducio
from ..warm import printed_by

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", *sorted((ROOT / "packages").glob("*/README.md"))]


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


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
        printed_by(script, cwd=tmp_path)


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_links_of_a_readme_lead_somewhere(readme: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", readme.read_text(encoding="utf-8"))
    assert [target for target in targets if not (readme.parent / target).exists()] == []


def test_the_blocks_are_found() -> None:
    assert python_blocks("text\n```python\na = 1\n```\n```bash\nls\n```\n```python\nb\n```\n") == ["a = 1\n", "b\n"]
