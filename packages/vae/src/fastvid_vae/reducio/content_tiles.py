"""Tiles as the released code cuts them, with a content frame: its features are blended as pixels are."""

from collections.abc import Callable, Sequence

from torch import Tensor

from fastvid_vae import overhang
from fastvid_vae.tiling import Tiling


def decode_overhanging(
    run: Callable[[Tensor, Sequence[Tensor]], Tensor],
    features: Callable[[Tensor], list[Tensor]],
    latents: Tensor,
    picture: Tensor | None,
    tiling: Tiling,
    stride: int,
) -> Tensor:
    """Frames of a clip from its tiles; each has the features of its own part of the content frame."""
    axes = overhang.plan_axes(tiling, latents.shape[3:])
    tiles = overhang.cut(latents, axes, 1)
    content: list[list[list[Tensor]]] = [[[] for _ in row] for row in tiles]
    if picture is not None:
        content = blend_levels([[features(tile) for tile in row] for row in overhang.cut(picture, axes, stride)], axes)
    frames = [
        [run(tile, own) for tile, own in zip(row, own_row, strict=True)]
        for row, own_row in zip(tiles, content, strict=True)
    ]
    return overhang.join(overhang.blend(frames, axes), axes, stride)


def blend_levels(grid: list[list[list[Tensor]]], axes: tuple[overhang.Axis, overhang.Axis]) -> list[list[list[Tensor]]]:
    levels = [overhang.blend([[own[level] for own in row] for row in grid], axes) for level in range(len(grid[0][0]))]
    return [[[level[i][j] for level in levels] for j in range(len(row))] for i, row in enumerate(grid)]
