import json
import shutil
from pathlib import Path

import pytest

ASSETS = Path(__file__).parents[2] / "examples" / "assets"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A data folder with one photo to train on and one to validate with."""
    names = ("meadow.jpg", "periwinkle.jpg")
    folder = tmp_path / "data"
    (folder / "photos").mkdir(parents=True)
    for name in names:
        shutil.copy(ASSETS / name, folder / "photos")
    split = {"photos": {"train": [names[0]], "validation": [names[1]]}, "clips": {"train": [], "validation": []}}
    (folder / "split.json").write_text(json.dumps(split))
    return folder
