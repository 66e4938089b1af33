"""The embedded model's task: warps that are exact, prompts that mean one thing, a split that leaks no scene."""

import json
import random
import re
import sys
from pathlib import Path

import pytest
import torch

RECIPES = Path(__file__).parents[2] / "recipes" / "embedded"
sys.path.insert(0, str(RECIPES))

import camera_motion  # noqa: E402  # the recipes are scripts that import one another by their folder
from camera_motion import MOTIONS, STILL, Motion, Request, sample_request, sources, visible, warp  # noqa: E402

SIZE = 32
END = [0.0, 1.0]


def photo() -> torch.Tensor:
    return torch.rand(3, 3 * SIZE, 3 * SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def clip(motion: Motion) -> torch.Tensor:
    return warp(photo(), sources(motion, END, SIZE, SIZE), (SIZE, SIZE))


def test_the_first_frame_is_the_photo_and_holding_still_keeps_it() -> None:
    frame = photo()[:, SIZE : 2 * SIZE, SIZE : 2 * SIZE]
    for motion in MOTIONS.values():
        torch.testing.assert_close(clip(motion)[:, 0], frame, atol=1e-4, rtol=0)
    torch.testing.assert_close(clip(MOTIONS[STILL])[:, 1], frame, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("the camera pans left", -8, 0),
        ("the camera pans right", 8, 0),
        ("the camera tilts up", 0, -8),
        ("the camera tilts down", 0, 8),
    ],
)
def test_panning_moves_the_view_by_a_quarter(name: str, x: int, y: int) -> None:
    view = photo()[:, SIZE + y : 2 * SIZE + y, SIZE + x : 2 * SIZE + x]
    torch.testing.assert_close(clip(MOTIONS[name])[:, 1], view, atol=1e-4, rtol=0)


def test_zooming_scales_the_content_about_the_centre() -> None:
    centre = (SIZE - 1) / 2
    for name, scale in (("the camera zooms in", 1.4), ("the camera zooms out", 1 / 1.4)):
        corner = sources(MOTIONS[name], END, SIZE, SIZE)[1, 0, 0]
        torch.testing.assert_close(corner, torch.full((2,), centre - centre / scale))


def test_rolling_clockwise_brings_the_left_edge_up() -> None:
    # The pixel above the centre shows what lay to its left, and so further down the left side, before the turn.
    place = sources(MOTIONS["the camera rolls clockwise"], END, SIZE, SIZE)[1, 0, SIZE // 2]
    assert place[0] < SIZE / 2 - 3
    mirrored = sources(MOTIONS["the camera rolls counterclockwise"], END, SIZE, SIZE)[1, 0, SIZE // 2]
    assert mirrored[0] > SIZE / 2 + 3


def test_only_pixels_of_frame_0_are_visible() -> None:
    mask = visible(sources(MOTIONS["the camera pans right"], END, SIZE, SIZE), SIZE, SIZE)
    assert bool(mask[0].all())
    assert mask[1].float().mean() == pytest.approx(0.75)


def test_a_prompt_never_means_two_motions() -> None:
    meaning: dict[str, Motion] = {}
    for seed in range(5000):
        rng = random.Random(seed)
        request = sample_request(rng)
        prompt = request.prompt(rng).rstrip(".")
        assert meaning.setdefault(prompt, request.motion) == request.motion, prompt
    assert len(meaning) > 1000


def test_strength_and_pairs_add_up() -> None:
    request = Request(("the camera pans left", "the camera zooms in"), 0.5)
    assert request.motion == Motion(pan=-0.125, zoom=0.2)
    assert camera_motion.canonical("the camera pans left", 1.5) == "the camera quickly pans left"


def test_no_scene_is_on_both_sides_of_the_split() -> None:
    split = json.loads((RECIPES / "split.json").read_text())
    for kind in ("photos", "clips"):
        scenes = [
            {re.sub(r"(_?\d+[ab]?|_[ab]\d?)$", "", Path(name).stem) for name in split[kind][side]}
            for side in ("train", "validation")
        ]
        assert not scenes[0] & scenes[1]


def test_the_prompt_check_catches_a_verb_of_two_motions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(camera_motion._DIRECTIONS, "the camera zooms in", (camera_motion._ZOOM_OUT, [""]))
    with pytest.raises(AssertionError):
        test_a_prompt_never_means_two_motions()


def test_the_warp_check_catches_a_mirrored_pan(monkeypatch: pytest.MonkeyPatch) -> None:
    right = sources(MOTIONS["the camera pans right"], END, SIZE, SIZE)
    monkeypatch.setitem(globals(), "sources", lambda *_: right)
    with pytest.raises(AssertionError):
        test_panning_moves_the_view_by_a_quarter("the camera pans left", -8, 0)
