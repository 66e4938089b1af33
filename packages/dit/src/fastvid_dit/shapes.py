"""Refusals of tensors that do not fit a model, by the name of the argument."""

from torch import Tensor


def require_size(name: str, tensor: Tensor, *, num_axes: int, axis: int, size: int) -> None:
    """Raise a `ValueError` unless the tensor has this many axes, and this size on one of them."""
    if tensor.dim() != num_axes:
        raise ValueError(f"`{name}` has {tensor.dim()} axes (shape {tuple(tensor.shape)}), need {num_axes}")
    if tensor.shape[axis] != size:
        raise ValueError(f"`{name}` has size {tensor.shape[axis]} on axis {axis}, need {size}")


def require_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Raise a `ValueError` unless the tensor has this shape, which follows from that of the latents."""
    if tuple(tensor.shape) != shape:
        raise ValueError(f"`{name}` has shape {tuple(tensor.shape)}, need {shape} to go with `latents`")


def require_whole_patches(latents: Tensor, patch_size: tuple[int, int, int]) -> None:
    """Raise a `ValueError` unless the latents can be cut into patches, at least one along each axis."""
    for name, size, patch in zip(("frames", "rows", "columns"), latents.shape[2:], patch_size, strict=True):
        if size < patch or size % patch:
            lower = max(size // patch, 1) * patch
            raise ValueError(
                f"`latents` have {size} {name}, need a multiple of {patch}; nearest: {lower}, {lower + patch}"
            )
