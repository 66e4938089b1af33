"""What `encode` and `decode` refuse. Values are not looked at: a NaN is the pipeline's to find."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastvid_vae.tiling import Tiling


def check_frames(frames: Tensor) -> None:
    """`frames` must be a non-empty floating-point video (b, 3, T, H, W)."""
    _check_tensor("frames", frames, "(b, 3, T, H, W)", channels=3)


def check_latents(latents: Tensor, *, channels: int) -> None:
    """`latents` must be non-empty, floating point, (b, channels, t, h, w)."""
    _check_tensor("latents", latents, f"(b, {channels}, t, h, w)", channels=channels)


def check_reference(reference: Tensor, latents: Tensor, *, stride: int, size: tuple[int, int] | None) -> None:
    """`reference` must be one picture per video, of the video's size."""
    if reference.dim() != 4:
        raise ValueError(f"`reference` has shape {tuple(reference.shape)}; expected (b, 3, H, W), the first frame")
    _check_tensor("reference", reference.unsqueeze(2), "(b, 3, H, W)", channels=3)
    if reference.shape[0] != latents.shape[0]:
        raise ValueError(f"`reference` holds {reference.shape[0]} pictures for {latents.shape[0]} videos")
    height, width = reference.shape[2:]
    if size is not None and (height, width) != tuple(size):
        raise ValueError(f"`reference` is {height} x {width} pixels; `size` is {size[0]} x {size[1]}")
    cells = (-(-height // stride), -(-width // stride))
    if cells != tuple(latents.shape[3:]):
        full = [cell * stride for cell in latents.shape[3:]]
        raise ValueError(
            f"`reference` is {height} x {width} pixels; these latents hold {full[0]} x {full[1]}, "
            f"of which at most {stride - 1} rows and columns may be missing"
        )


def check_same_size(name: str, shape: torch.Size, last: torch.Size | None) -> None:
    """Every chunk of one video has the batch and the size of the chunk before it."""
    if last is not None and (shape[0], shape[3:]) != (last[0], last[3:]):
        raise ValueError(f"`chunks` changes: `{name}` of shape {tuple(last)}, then of {tuple(shape)}")


def check_crop(
    num_frames: int | None, size: tuple[int, int] | None, cells: Sequence[int], *, strides: tuple[int, int, int]
) -> None:
    """`num_frames` and `size` must lie within what latents of so many `cells` (t, h, w) hold."""
    if num_frames is not None:
        _check_count("num_frames", num_frames, 1 + (cells[0] - 1) * strides[0])
    if size is not None:
        if len(size) != 2:
            raise ValueError(f"`size` is {size}; expected (height, width)")
        _check_count("size[0]", size[0], cells[1] * strides[1])
        _check_count("size[1]", size[1], cells[2] * strides[2])


def check_noise(mode: str, weight: float, generator: torch.Generator | None) -> None:
    """A noise setting that would change nothing is a mistake."""
    if mode not in ("off", "spatial", "full"):
        raise ValueError(f"`noise_mode` is {mode!r}; expected 'off', 'spatial' or 'full'")
    if mode != "off" and weight == 0:
        raise ValueError(f"`noise_mode` is {mode!r}, which has no effect: this model's `noise_weight` is 0; use 'off'")
    if mode == "off" and generator is not None:
        raise ValueError("`generator` has no effect while `noise_mode` is 'off'")


def tiling_of(
    spatial: int | tuple[int, int] | None, temporal: int | None, overlap: float, *, strides: tuple[int, int, int]
) -> Tiling:
    """Tile sizes in pixels and frames as latent cells."""
    sides = spatial if isinstance(spatial, tuple) else (spatial, spatial)
    if len(sides) != 2:
        raise ValueError(f"`spatial` is {spatial}; expected one number of pixels, (height, width), or None")
    height, width = (
        None if side is None else _whole("spatial", side, step=stride, offset=0)
        for side, stride in zip(sides, strides[1:], strict=True)
    )
    time = None if temporal is None else 1 + _whole("temporal", temporal, step=strides[0], offset=1)
    return Tiling(time=time, height=height, width=width, overlap=overlap)


def _whole(name: str, value: Any, *, step: int, offset: int) -> int:
    """(value - offset) / step, which must be whole and, without offset, at least 1."""
    least = offset or step
    number = _index(value)
    if number is None:
        raise ValueError(f"`{name}` is {value!r}; expected a whole number, {least} or {least + step} for example")
    if number < least or (number - offset) % step:
        below = max(least, number - (number - offset) % step)
        raise ValueError(
            f"`{name}` is {number}; expected {offset} + a multiple of {step} "
            f"(nearest legal values: {below} and {below + step})"
        )
    return (number - offset) // step


def _check_count(name: str, value: Any, most: int) -> None:
    number = _index(value)
    if number is None or not 1 <= number <= most:
        raise ValueError(f"`{name}` is {value!r}; these latents hold 1 to {most} (nearest legal values: 1 and {most})")


def _index(value: Any) -> int | None:
    """A whole number, of NumPy too, as Python's own; None for anything else, a bool among it."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _check_tensor(name: str, tensor: Tensor, expected: str, *, channels: int) -> None:
    shape = tuple(tensor.shape)
    if tensor.dim() != 5 or shape[1] != channels:
        raise ValueError(f"`{name}` has shape {shape}; expected {expected}")
    if min(shape) < 1:
        raise ValueError(f"`{name}` has shape {shape}, which is empty; every size must be at least 1")
    if not tensor.is_floating_point():
        raise ValueError(f"`{name}` is {tensor.dtype}; expected floating point (pixels in [-1, 1])")
