"""What every autoencoder refuses. Values are not looked at: a NaN is the pipeline's to find."""

import operator
from typing import Any

import torch
from torch import Tensor


def check_frames(frames: Tensor) -> None:
    """`frames` must be a non-empty floating-point video (b, 3, T, H, W)."""
    check_tensor("frames", frames, "(b, 3, T, H, W)", channels=3)


def check_latents(latents: Tensor, *, channels: int) -> None:
    """`latents` must be non-empty, floating point, (b, channels, t, h, w)."""
    check_tensor("latents", latents, f"(b, {channels}, t, h, w)", channels=channels)


def check_tensor(name: str, tensor: Tensor, expected: str, *, channels: int) -> None:
    """`tensor` must have five axes, `channels` as the second of them, and be non-empty and floating point."""
    shape = tuple(tensor.shape)
    if tensor.dim() != 5 or shape[1] != channels:
        raise ValueError(f"`{name}` has shape {shape}; expected {expected}")
    if min(shape) < 1:
        raise ValueError(f"`{name}` has shape {shape}, which is empty; every size must be at least 1")
    if not tensor.is_floating_point():
        raise ValueError(f"`{name}` is {tensor.dtype}; expected floating point (pixels in [-1, 1])")


def check_range(name: str, value: Any, low: int, high: int, unit: str = "") -> None:
    """`value` must be a whole number from `low` to `high`."""
    if whole_number(value) is None:
        raise ValueError(f"`{name}` is {value!r}; expected a whole number")
    if not low <= value <= high:
        raise ValueError(f"`{name}` is {value}{unit and ' ' + unit}; expected {low} to {high}")


def check_count(name: str, value: Any, most: int) -> None:
    """`value` must be a whole number of what latents hold."""
    number = whole_number(value)
    if number is None or not 1 <= number <= most:
        raise ValueError(f"`{name}` is {value!r}; these latents hold 1 to {most} (nearest legal values: 1 and {most})")


def check_size(size: tuple[int, int], height: int, width: int) -> None:
    """`size` must be (height, width), at most these."""
    if len(size) != 2:
        raise ValueError(f"`size` is {size}; expected (height, width)")
    check_count("size[0]", size[0], height)
    check_count("size[1]", size[1], width)


def check_crop(num_frames: int | None, size: tuple[int, int] | None, held: tuple[int, int, int]) -> None:
    """`num_frames` and `size` must lie within the frames, rows and columns that latents hold; None is all of them."""
    if num_frames is not None:
        check_count("num_frames", num_frames, held[0])
    if size is not None:
        check_size(size, *held[1:])


def check_same_size(name: str, shape: torch.Size, last: torch.Size | None) -> None:
    """Every chunk of one video has the batch and the size of the chunk before it."""
    if last is not None and (shape[0], shape[3:]) != (last[0], last[3:]):
        raise ValueError(f"`chunks` changes: `{name}` of shape {tuple(last)}, then of {tuple(shape)}")


def cells_of(name: str, value: Any, *, step: int, offset: int) -> int:
    """(value - offset) / step, which must be whole and, without offset, at least 1."""
    least = offset or step
    number = whole_number(value)
    if number is None:
        raise ValueError(f"`{name}` is {value!r}; expected a whole number, {least} or {least + step} for example")
    if number < least or (number - offset) % step:
        below = max(least, number - (number - offset) % step)
        raise ValueError(
            f"`{name}` is {number}; expected {offset} + a multiple of {step} "
            f"(nearest legal values: {below} and {below + step})"
        )
    return (number - offset) // step


def tile_sides(spatial: int | tuple[int, int] | None, strides: tuple[int, int, int]) -> list[int | None]:
    """Height and width of a tile in latent cells, from pixels; None: whole."""
    sides = spatial if isinstance(spatial, tuple) else (spatial, spatial)
    if len(sides) != 2:
        raise ValueError(f"`spatial` is {spatial}; expected one number of pixels, (height, width), or None")
    return [
        None if side is None else cells_of("spatial", side, step=stride, offset=0)
        for side, stride in zip(sides, strides[1:], strict=True)
    ]


def whole_number(value: Any) -> int | None:
    """A whole number, of NumPy too, as Python's own; None for anything else, a bool among it."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
