import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from fastvid_pipelines import photo_io
from fastvid_pipelines.photo_io import contact_sheet, fit_photo, load_photo, to_frame
from PIL import Image

from .conftest import picture


def difference(first: Image.Image, second: Image.Image) -> float:
    return float(np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int)).max())


def test_all_carriers_give_the_same_picture(photo: Path) -> None:
    source = picture()
    array = np.asarray(source)
    for carrier in (photo, str(photo), source, array, to_frame(source)[0]):
        assert difference(load_photo(carrier), source) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotated_photos_come_out_upright(tmp_path: Path, orientation: int) -> None:
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    source = picture()
    stored = source.transpose(turn[orientation]) if orientation in turn else source
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    assert difference(load_photo(tmp_path / "turned.png"), source) == 0


def test_a_loaded_photo_may_be_loaded_again(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif)
    once = load_photo(tmp_path / "turned.jpg")
    assert difference(load_photo(once), once) == 0
    assert once.size == picture().size


def test_without_the_exif_step_the_turned_photo_would_lie_on_its_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    monkeypatch.setattr(photo_io.ImageOps, "exif_transpose", lambda opened: opened)
    assert load_photo(tmp_path / "turned.png").size != picture().size


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    picture().convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98)
    loaded = load_photo(tmp_path / "cmyk.jpg")
    assert loaded.mode == "RGB"
    assert difference(loaded, picture()) < 12


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 32).round().astype(np.uint16).reshape(32, 64)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    values = np.asarray(load_photo(tmp_path / "deep.png"))
    assert np.abs(values[..., 0] - ramp / 257).max() <= 0.5
    assert (values[..., 0] == values[..., 2]).all()


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    source = picture().convert("RGBA")
    source.putalpha(Image.new("L", source.size, 0))
    source.save(tmp_path / "clear.png")
    assert np.asarray(load_photo(tmp_path / "clear.png")).min() == 255


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "YCbCr", "HSV", "LAB"])
def test_every_other_mode_becomes_rgb(mode: str) -> None:
    loaded = load_photo(picture().convert("RGB").convert("L").convert(mode) if mode == "LA" else convert(mode))
    assert loaded.mode == "RGB"
    assert loaded.size == (60, 40)


def convert(mode: str) -> Image.Image:
    return Image.new("LAB", (60, 40)) if mode == "LAB" else picture().convert(mode)


def test_of_an_animation_the_first_picture_counts(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "blue")
    first.save(tmp_path / "moving.gif", save_all=True, append_images=[second])
    assert load_photo(tmp_path / "moving.gif").getpixel((5, 5)) == (255, 0, 0)


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    text = folder / "text.jpg"
    text.write_text("not a picture")
    empty = folder / "empty.png"
    empty.write_bytes(b"")
    cut = folder / "cut.jpg"
    picture(200, 300).save(cut)
    cut.write_bytes(cut.read_bytes()[:900])
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    one = folder / "one.png"
    Image.new("RGB", (1, 1)).save(one)
    strip = folder / "strip.png"
    Image.new("RGB", (16000, 1)).save(strip)
    floating = folder / "floating.tiff"
    Image.new("F", (32, 32)).save(floating)
    exif = folder / "exif.png"
    picture().save(exif, exif=b"Exif\0\0II*\0")  # ends where its first offset should stand
    return {
        "missing": (folder / "nowhere.jpg", "no such file"),
        "folder": (folder, "which is a folder; expected a file"),
        "pipe": (pipe, "which is a pipe, a socket or a device; expected a file"),
        "below a file": (text / "photo.jpg", "no such file"),
        "too long": (folder / ("x" * 300), "File name too long"),
        "text": (text, "no picture that can be read"),
        "empty": (empty, "no picture that can be read"),
        "cut": (cut, "damaged or cut off"),
        "1x1": (one, r"`image` is 1x1 pixels; each side needs at least 16 \(nearest legal size: 16x16\)"),
        "strip": (strip, "16000x1 pixels"),
        "floating": (floating, "holds floating-point"),
        "exif": (exif, "damaged or cut off"),
    }


@pytest.mark.parametrize(
    "kind",
    [
        *("missing", "folder", "pipe", "below a file", "too long"),
        *("text", "empty", "cut", "1x1", "strip", "floating", "exif"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    path, message = bad_files(tmp_path)[kind]
    with pytest.raises(ValueError, match=f"^`image` .*{message}|^{message}"):
        load_photo(path)


def test_no_name_at_all_is_shown_as_it_was_given() -> None:
    with pytest.raises(ValueError, match="`image` is '': no such file"):
        load_photo("")


@pytest.mark.parametrize("kind", ["cut", "exif"])
def test_damage_in_a_picture_that_pil_opened_is_refused_alike(tmp_path: Path, kind: str) -> None:
    path, message = bad_files(tmp_path)[kind]
    with Image.open(path) as opened, pytest.raises(ValueError, match=f"`image` is a picture of PIL, .*{message}"):
        load_photo(opened)


@pytest.mark.parametrize("limit", [1000, 2000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(
    photo: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pytest makes errors of all warnings, a user's Python of none
        with pytest.raises(ValueError, match=r"`image` is .*too many pixels"):
            load_photo(photo)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((32, 32, 3)), r"array of float64, shape \(32, 32, 3\); expected uint8"),
        (np.zeros((32, 32), dtype=np.uint8), r"shape \(32, 32\)"),
        (np.zeros((0, 32, 3), dtype=np.uint8), r"shape \(0, 32, 3\)"),
        (torch.full((3, 32, 32), 255.0), r"values from 255 to 255; expected \[-1, 1\]"),
        (torch.full((3, 32, 32), float("nan")), "values from nan"),
        (torch.zeros(32, 32, 3), r"expected floating point `3 H W`"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), "torch.uint8"),
        (None, "of type NoneType"),
        (7, "of type int"),
    ],
)
def test_wrong_arrays_are_refused(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"`image` .*{message}"):
        load_photo(value)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (40, 60), (101, 53), (16, 200)])
def test_fitting_covers_exactly_the_wanted_size(height: int, width: int) -> None:
    frame = to_frame(fit_photo(picture(), height, width))
    assert frame.shape == (1, 3, height, width)
    assert -1 <= frame.min() <= frame.max() <= 1


def test_fitting_keeps_the_centre() -> None:
    source = Image.new("RGB", (90, 30), "black")
    source.paste("white", (30, 0, 60, 30))
    assert np.asarray(fit_photo(source, 30, 30)).mean() > 240


def test_sheet_shows_every_frame_once() -> None:
    frames = np.stack([np.full((8, 10, 3), index * 10, dtype=np.uint8) for index in range(17)])
    sheet = np.asarray(contact_sheet(frames))
    assert {int(value) for value in np.unique(sheet)} == {index * 10 for index in range(17)} | {255}
    assert sheet.shape == (3 * 12 + 4, 6 * 14 + 4, 3)


def test_large_frames_are_small_on_the_sheet() -> None:
    frames = np.broadcast_to(np.array([200, 100, 50], dtype=np.uint8), (2, 720, 1280, 3))
    sheet = contact_sheet(frames)
    assert sheet.size == (2 * (455 + 4) + 4, 256 + 8)
    assert sheet.getpixel((100, 100)) == (200, 100, 50)


def test_sheet_of_one_frame_and_of_many() -> None:
    assert contact_sheet(np.zeros((1, 8, 8, 3), dtype=np.uint8)).size == (16, 16)
    assert contact_sheet(np.zeros((500, 8, 8, 3), dtype=np.uint8)).size == (6 * 12 + 4, 6 * 12 + 4)
