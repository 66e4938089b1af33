"""Photos and folders that several tests use."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from fastvid_pipelines import cli, pipeline_folder
from fastvid_pipelines.image_to_video import FSVideoPipeline
from PIL import Image
from typer.testing import CliRunner

from . import fakes, reducio_fakes


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors only lose by more, and several people may share the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Outcome:
    """What a run printed, its exit code, and the files it left beside its input."""

    def __init__(self, folder: Path, *words: object) -> None:
        before = set(folder.iterdir())
        result = CliRunner().invoke(cli.app, [str(word) for word in words])
        self.code = result.exit_code
        self.out, self.err = result.stdout, result.stderr
        self.new = sorted(path.name for path in set(folder.iterdir()) - before)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: what a full disk is like, from the system itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def picture(height: int = 40, width: int = 60) -> Image.Image:
    """Smooth colours that differ in every corner."""
    down, right = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return Image.fromarray((np.stack((down, right, 1 - down), axis=-1) * 255).round().astype(np.uint8))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    picture().save(path)
    return path


@pytest.fixture
def pipeline() -> FSVideoPipeline:
    return fakes.build_pipeline()


@pytest.fixture
def discoverable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fakes stand where discovery finds classes of installed packages."""
    known = vars(fakes) | vars(reducio_fakes)
    monkeypatch.setattr(pipeline_folder.discovery, "find_class", lambda group, library, class_name: known[class_name])


@pytest.fixture
def saved(tmp_path: Path, discoverable: None) -> Path:
    """The folder of a saved pipeline."""
    folder = tmp_path / "model"
    fakes.build_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def generate(tmp_path: Path, saved: Path, photo: Path) -> Callable[..., Outcome]:
    def run(*extra: object, image: Path = photo, output: str = "out.mp4", model: Path = saved) -> Outcome:
        fixed = ("generate", image, "--prompt", "pan left", "--output", tmp_path / output, "--model", model)
        return Outcome(tmp_path, *fixed, *extra)

    return run
