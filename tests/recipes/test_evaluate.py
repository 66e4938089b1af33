"""The scores of the embedded model are what they say: known videos get known scores."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "recipes" / "embedded"))

import data  # noqa: E402  # the recipes are scripts that import one another by their folder
import evaluate  # noqa: E402
from camera_motion import MOTIONS, STILL  # noqa: E402

MOVING = [name for name in MOTIONS if name != STILL]
Rows = dict[str, dict[str, float]]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> data.Photos:
    (tmp_path / "photos").mkdir()
    with Image.open(ROOT / "examples" / "assets" / "meadow.jpg") as image:
        image.convert("RGB").resize((320, 240)).save(tmp_path / "photos" / "one.png")
    monkeypatch.setattr(data, "SPLIT", {"photos": {"validation": ["one.png"], "train": []}})
    return data.Photos(tmp_path, "validation")


def truth_of(photos: data.Photos, name: str) -> tuple[Tensor, Tensor]:
    return photos.centred(0, MOTIONS[name], evaluate.TIMES, evaluate.SIZE)


def scores(photos: data.Photos, generate: Callable[[Tensor, str], Tensor]) -> Rows:
    return evaluate.video_scores(generate, photos, partial(evaluate.prompts_of, "plain"), 1)


def test_the_truth_scores_perfectly(photos: data.Photos) -> None:
    rows = scores(photos, lambda photo, prompt: truth_of(photos, prompt)[0])
    assert rows.keys() == MOTIONS.keys()
    assert all(row["psnr"] > 90 and row["accuracy"] == 100 for row in rows.values())
    assert all(rows[name]["gain"] > 60 for name in MOVING)


def test_a_static_video_gains_nothing_and_holds_still(photos: data.Photos) -> None:
    rows = scores(photos, lambda photo, prompt: photo[:, None].expand(-1, evaluate.NUM_FRAMES, -1, -1))
    assert all(rows[name]["gain"] == 0 and rows[name]["accuracy"] == 0 for name in MOVING)
    assert rows[STILL]["accuracy"] == 100
    assert rows[STILL].keys() == {"psnr", "accuracy"}


def test_the_wrong_motion_is_told_apart(photos: data.Photos) -> None:
    following = dict(zip(MOVING, [*MOVING[1:], MOVING[0]], strict=True)) | {STILL: MOVING[0]}
    rows = scores(photos, lambda photo, prompt: truth_of(photos, following[prompt])[0])
    assert all(row["accuracy"] == 0 and row["psnr"] < 30 for row in rows.values())


def test_what_enters_the_picture_does_not_count(photos: data.Photos) -> None:
    def unknown_outside(photo: Tensor, prompt: str) -> Tensor:
        frames, mask = truth_of(photos, prompt)
        return torch.where(mask, frames, -frames)

    rows = scores(photos, unknown_outside)
    assert all(row["psnr"] > 90 for row in rows.values())
    frames, mask = truth_of(photos, MOVING[0])
    assert (~mask).any()
    assert evaluate.masked_psnr(-frames, frames, mask) < 20


def test_a_row_with_the_still_prompt_has_no_gain(photos: data.Photos) -> None:
    rows = evaluate.video_scores(
        lambda photo, prompt: photo[:, None].expand(-1, evaluate.NUM_FRAMES, -1, -1),
        photos,
        partial(evaluate.prompts_of, "paraphrases"),
        1,
    )
    assert rows["paraphrases"].keys() == {"psnr", "accuracy"}
    assert "paraphrases" in evaluate.table({"reconstruction": {}, "video": rows})


def test_pairs_ask_for_both_motions_at_once() -> None:
    for name, prompt, motion in evaluate.prompts_of("pairs", 0):
        assert name == "pairs"
        assert " and " in prompt or " while " in prompt
        assert motion not in MOTIONS.values()


def test_only_the_validation_side_is_scored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def photos_of(folder: Path, split: str) -> None:
        asked.append(split)

    def clips_of(folder: Path, split: str, short_side: int) -> None:
        asked.append(split)
        raise RuntimeError("enough")

    monkeypatch.setattr(evaluate, "Photos", photos_of)
    monkeypatch.setattr(evaluate, "Clips", clips_of)
    monkeypatch.setattr(sys, "argv", ["evaluate", str(tmp_path)])
    with pytest.raises(RuntimeError, match="enough"):
        evaluate.main()
    assert asked == ["validation", "validation"]
