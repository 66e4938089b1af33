"""A small PixArt-alpha of diffusers with random weights makes the picture."""

import builtins
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fastvid_pipelines.errors import CheckpointError, MissingPackageError
from fastvid_pipelines.text_to_image import DiffusersTextToImage
from PIL import Image

from .tiny_pixart import tiny_pixart

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in diffusers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "pixart"
    tiny_pixart().save_pretrained(path)
    return path


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_folder_of_diffusers_makes_one_picture_at_least_as_large(folder: Path) -> None:
    make = DiffusersTextToImage.from_pretrained(folder, local_files_only=True)
    pictures = [make("the camera", height=33, width=64, generator=seeded(seed)) for seed in (0, 0, 1)]
    assert pictures[0].size == (64, 64)
    arrays = [np.asarray(picture) for picture in pictures]
    assert (arrays[0] == arrays[1]).all()
    assert (arrays[0] != arrays[2]).any()


class Answers:
    """A pipeline of diffusers that returns what it is told to."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __call__(self, **_: Any) -> Any:
        return self.answer


PICTURE = Image.new("RGB", (32, 32))


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (SimpleNamespace(images=[PICTURE, PICTURE]), "2 items"),
        (SimpleNamespace(images=[]), "0 items"),
        (SimpleNamespace(images=[np.zeros((32, 32, 3))]), "1 items"),
        (SimpleNamespace(images=np.zeros((1, 32, 32, 3))), "ndarray"),
        (None, "NoneType"),
    ],
)
def test_what_is_not_one_picture_is_refused(answer: Any, found: str) -> None:
    with pytest.raises(ValueError, match=f"`text_to_image` returned {found}; expected one picture"):
        DiffusersTextToImage(Answers(answer))("a", height=32, width=32, generator=seeded())


@pytest.mark.parametrize("kind", ["missing", "empty", "video"])
def test_what_makes_no_pictures_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model"
    if kind != "missing":
        path.mkdir()
    if kind == "video":
        (path / "model_index.json").write_text('{"_class_name": "WanImageToVideoPipeline"}')
    with pytest.raises(CheckpointError, match=f"`text_to_image` is '{path}'"):
        DiffusersTextToImage.from_pretrained(path, local_files_only=True)


def test_without_diffusers_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("diffusers"):
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingPackageError, match=r"pip install 'fastvid-pipelines\[reducio\]'"):
        DiffusersTextToImage.from_pretrained("anything")
