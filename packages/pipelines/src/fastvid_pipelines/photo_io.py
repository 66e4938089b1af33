"""Pictures: any photo to an upright RGB frame of the wanted size; a contact sheet of a video."""

import logging
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from fastvid_pipelines.inputs import check_file
from fastvid_pipelines.types import SMALLEST_SIDE, ImageInput

logger = logging.getLogger(__name__)

DECODING_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, EOFError),  # what decoders raise on a damaged file
    *(struct.error, zlib.error),
)
SHEET_COLUMNS = 6
SHEET_GAP = 4
SHEET_FRAME_HEIGHT = 256  # at most


def load_photo(image: ImageInput) -> Image.Image:
    """An upright 8-bit RGB picture.

    EXIF rotation is applied, transparency is laid on white, 16 bits are scaled to 8, of an animation the first
    picture counts.

    Args:
        image: a path, a PIL image, bytes as `H W 3`, or floats in [-1, 1] as `3 H W`.
    Raises:
        ValueError: missing, no picture, damaged, too small or too large, or an array of another shape or range.
    """
    if isinstance(image, str | os.PathLike):
        picture = _open(os.fspath(image))
    elif isinstance(image, Image.Image):
        with _decoding("`image` is a picture of PIL"):
            picture = _decode(image)
    elif isinstance(image, np.ndarray):
        picture = _from_array(image)
    elif isinstance(image, Tensor):
        picture = _from_tensor(image)
    else:
        raise ValueError(
            f"`image` is of type {type(image).__name__}; expected a path, a PIL image, an array or a tensor"
        )
    if picture.mode != "RGB":
        picture = _from_deep(picture)
    if min(picture.size) < SMALLEST_SIDE:
        raise ValueError(
            f"`image` is {picture.width}x{picture.height} pixels; each side needs at least {SMALLEST_SIDE} "
            f"(nearest legal size: {max(picture.width, SMALLEST_SIDE)}x{max(picture.height, SMALLEST_SIDE)})"
        )
    return picture


def fit_photo(picture: Image.Image, height: int, width: int) -> Image.Image:
    """The centre of the picture, scaled to cover exactly `width` x `height`."""
    if picture.size == (width, height):
        return picture
    logger.info("photo of %dx%d scaled and cropped to %dx%d", *picture.size, width, height)
    return ImageOps.fit(picture, (width, height), method=Image.Resampling.LANCZOS)


def to_frame(picture: Image.Image) -> Float[Tensor, "1 3 H W"]:
    """Floats in [-1, 1]."""
    pixels = torch.from_numpy(np.array(picture))
    return rearrange(pixels, "h w c -> 1 c h w").float() / 127.5 - 1


def contact_sheet(frames: UInt8[np.ndarray, "T H W 3"]) -> Image.Image:
    """All frames on one white sheet, in reading order; of a long video as many, evenly spaced, as fill six rows.

    Large frames become at most 256 pixels high.
    """
    count = min(len(frames), SHEET_COLUMNS * SHEET_COLUMNS)
    chosen = frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]
    columns = min(SHEET_COLUMNS, count)
    rows = -(-count // columns)
    pictures = [Image.fromarray(frame) for frame in chosen]
    for picture in pictures:
        picture.thumbnail((picture.width, SHEET_FRAME_HEIGHT))
    width, height = pictures[0].width + SHEET_GAP, pictures[0].height + SHEET_GAP
    sheet = Image.new("RGB", (columns * width + SHEET_GAP, rows * height + SHEET_GAP), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (SHEET_GAP + index % columns * width, SHEET_GAP + index // columns * height))
    return sheet


def _open(path: str) -> Image.Image:
    check_file("image", path)
    with _decoding(f"`image` is {path!r}"), Image.open(path) as opened:
        return _decode(opened)


@contextmanager
def _decoding(what: str) -> Iterator[None]:
    """Turn all that decoders raise into one kind of error, which begins with `what`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except UnidentifiedImageError as error:
        raise ValueError(f"{what}, which is no picture that can be read (JPEG, PNG, WebP, ...)") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{what}, which has too many pixels: {error}") from error
    except DECODING_ERRORS as error:
        raise ValueError(f"{what}, which is damaged or cut off: {error}") from error


def _decode(picture: Image.Image) -> Image.Image:
    """Upright and without transparency; RGB, but for grey of more than 8 bits."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        return picture
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


def _from_deep(picture: Image.Image) -> Image.Image:
    """Grey of more than 8 bits; Pillow itself would cut everything above 255 off."""
    values = np.asarray(picture)
    if picture.mode == "F":
        raise ValueError("`image` holds floating-point grey, whose range is unknown; convert it to 8 or 16 bits")
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"`image` holds grey from {values.min()} to {values.max()}; expected 16 bits, 0 to 65535")
    return Image.fromarray((values.astype(np.float64) / 257).round().astype(np.uint8)).convert("RGB")


def _from_array(values: np.ndarray) -> Image.Image:
    if values.dtype != np.uint8 or values.ndim != 3 or values.shape[2] != 3 or 0 in values.shape:
        raise ValueError(f"`image` is an array of {values.dtype}, shape {values.shape}; expected uint8 `H W 3`")
    return Image.fromarray(np.ascontiguousarray(values))


def _from_tensor(values: Tensor) -> Image.Image:
    if not values.is_floating_point() or values.ndim != 3 or values.shape[0] != 3 or values.numel() == 0:
        raise ValueError(
            f"`image` is a tensor of {values.dtype}, shape {tuple(values.shape)}; expected floating point `3 H W`"
        )
    if values.is_meta:
        raise ValueError("`image` is a tensor on the meta device, which holds no numbers; expected cpu or cuda")
    values = values.detach().float().cpu()
    if not values.isfinite().all() or values.abs().max() > 1:
        raise ValueError(f"`image` is a tensor with values from {values.min():g} to {values.max():g}; expected [-1, 1]")
    pixels = values.add(1).mul(127.5).round().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(rearrange(pixels, "c h w -> h w c").numpy()))
