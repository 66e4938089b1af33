import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fastvid_pipelines import discovery
from fastvid_pipelines.errors import CheckpointError, MissingPackageError
from fastvid_pipelines.image_to_video import FSVideoPipeline

from .fakes import SAMPLING, FakeAutoencoder, build_pipeline


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "model_index.json"
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def test_read_back_it_makes_the_same_video(saved: Path, photo: Path) -> None:
    clips = [
        pipeline(image=photo, prompt="pan left", generator=torch.Generator().manual_seed(0)).frames
        for pipeline in (build_pipeline(), FSVideoPipeline.from_pretrained(saved))
    ]
    assert (clips[0] == clips[1]).all()


def test_the_layout_is_that_of_diffusers(saved: Path) -> None:
    index = json.loads((saved / "model_index.json").read_text())
    assert index["_class_name"] == "FSVideoPipeline"
    assert index["text_encoder"] == ["fastvid_pipelines", "ByteTextEncoder"]
    assert index["image_encoder"] == [None, None]
    assert index["sampling"]["num_frames"] == SAMPLING.num_frames
    assert sorted(path.name for path in saved.iterdir()) == ["model_index.json", "text_encoder", "transformer", "vae"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.pop("vae"), r"missing keys \['vae'\]"),
        (lambda index: index.update(scheduler=["diffusers", "X"]), r"unknown keys \['scheduler'\]"),
        (lambda index: index.update(_class_name="WanPipeline"), "describes 'WanPipeline'; expected"),
        (lambda index: index.update(vae=[None, None]), "`vae` is .*expected .library, class"),
        (lambda index: index.update(vae="FSAE"), "`vae` is 'FSAE'"),
        (lambda index: index.update(text_encoder=["os", "system"]), "text_encoder is os.system; expected"),
        (lambda index: index.update(image_encoder=["os", "system"]), "image_encoder is os.system; expected"),
        (lambda index: index["sampling"].pop("shift"), "sampling: shift: Field required"),
        (lambda index: index["sampling"].update(speed=2), "sampling: speed: Unexpected keyword"),
        (lambda index: index["sampling"].update(height=0), "`height` is 0; expected 16 to 8192"),
        (lambda index: index["sampling"].update(solver="heun"), "sampling: solver: Input should be"),
        (lambda index: index.update(sampling=None), "sampling: Input should be an object"),
    ],
)
def test_a_wrong_index_is_refused(saved: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit(saved, change)
    with pytest.raises(CheckpointError, match=message):
        FSVideoPipeline.from_pretrained(saved)


def test_a_folder_without_index_or_part_is_refused(saved: Path) -> None:
    shutil.rmtree(saved / "text_encoder")
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        FSVideoPipeline.from_pretrained(saved)
    (saved / "model_index.json").unlink()
    with pytest.raises(CheckpointError, match=r"holds no model_index\.json"):
        FSVideoPipeline.from_pretrained(saved)


@pytest.mark.parametrize("place", [None, b"x", 7, "", "no/such/folder", "x" * 300])
def test_what_is_no_folder_is_refused_by_name(place: Any) -> None:
    with pytest.raises(CheckpointError, match=f"`path_or_repo_id` is {place!r}[:;] "):
        FSVideoPipeline.from_pretrained(place)


def test_a_missing_package_is_named_with_its_install_line(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(discovery, "entry_points", lambda group: [])
    edit(saved, lambda index: index.update(vae=["fastvid_vae", "FSAE"]))
    with pytest.raises(MissingPackageError, match="pip install fastvid-vae"):
        FSVideoPipeline.from_pretrained(saved)


def test_a_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FakeAutoencoder, "save_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        build_pipeline().save_pretrained(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_pipeline_is_not_overwritten(saved: Path) -> None:
    with pytest.raises(ValueError, match=r"`directory` is .*name a new one"):
        build_pipeline().save_pretrained(saved)
    FSVideoPipeline.from_pretrained(saved)
