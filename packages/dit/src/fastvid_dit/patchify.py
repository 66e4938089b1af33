"""Latents to tokens and back; a patch is one token, its channels are the fastest axis."""

from einops import rearrange
from jaxtyping import Shaped
from torch import Tensor


def token_grid(size: tuple[int, int, int], patch_size: tuple[int, int, int]) -> tuple[int, int, int]:
    """Tokens along t, h, w of latents of this size; the size is a multiple of the patch."""
    return size[0] // patch_size[0], size[1] // patch_size[1], size[2] // patch_size[2]


def patchify(latents: Shaped[Tensor, "b c t h w"], patch_size: tuple[int, int, int]) -> Shaped[Tensor, "b n p"]:
    """Cut latents into patches, ordered t, h, w; each token lists its voxels, all channels of a voxel together."""
    pt, ph, pw = patch_size
    return rearrange(latents, "b c (t pt) (h ph) (w pw) -> b (t h w) (pt ph pw c)", pt=pt, ph=ph, pw=pw)


def unpatchify(
    tokens: Shaped[Tensor, "b n p"], grid: tuple[int, int, int], patch_size: tuple[int, int, int]
) -> Shaped[Tensor, "b c t h w"]:
    """The inverse of `patchify`; `grid` counts tokens along t, h, w."""
    (t, h, w), (pt, ph, pw) = grid, patch_size
    pattern = "b (t h w) (pt ph pw c) -> b c (t pt) (h ph) (w pw)"
    return rearrange(tokens, pattern, t=t, h=h, w=w, pt=pt, ph=ph, pw=pw)
