"""Workloads -> the profiles of an engine."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod

from fastvid_export.exportable import AxisRange, Exportable
from fastvid_export.lengths import Grid, exact, num_destinations, num_kept, num_latent_frames, num_merged
from fastvid_export.profile import Profile, check_profiles
from fastvid_export.workload import Workload

KEPT_AXIS = re.compile(r"([qk])\d+")
"""`q3`: queries kept in block 3; `k3`: keys and values."""

WIDEST = 4
"""How many times the tokens of the largest workload a profile may reach; it is tuned at one size only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How a video becomes the axes t, h and w of a part.

    Attributes:
        stride: pixels to latents, of the autoencoder.
        causal: whether the first frame has a latent frame of its own.
        patch_size: latents to tokens; (1, 1, 1) for parts that work on latents.
        cell: of tokens, each with one destination; what token reduction is set to.
    """

    stride: Grid
    causal: bool = True
    patch_size: Grid = (1, 1, 1)
    cell: Grid = (1, 2, 2)

    def grid(self, workload: Workload) -> Grid:
        """Tokens (or latents) of a workload, before frames are merged.

        Raises:
            ValueError: the size is no whole number of them; with the nearest that are.
        """
        _check("frames", workload.frames, self.stride[0], 1 if self.causal else 0)
        latent_frames = num_latent_frames(workload.frames, self.stride[0], causal=self.causal)
        if latent_frames % self.patch_size[0]:
            raise ValueError(
                f"`frames` of a workload is {workload.frames}, which gives {latent_frames} latent frames;"
                f" the part takes them {self.patch_size[0]} at a time"
            )
        rows, columns = (s * p for s, p in zip(self.stride[1:], self.patch_size[1:], strict=True))
        _check("height", workload.height, rows, 0)
        _check("width", workload.width, columns, 0)
        return latent_frames // self.patch_size[0], workload.height // rows, workload.width // columns


def profiles_of(exportable: Exportable, workloads: Sequence[Workload], geometry: Geometry) -> tuple[Profile, ...]:
    """The profiles that hold the workloads: `dense`, `merged` and, for a graph of fewer tokens, `reduced`.

    `dense` holds every workload with all its frames and tokens, tuned for the first one; `merged` from the fewest
    frames that are left to all, tuned halfway; a reduced graph has one profile, from the fewest tokens kept to all.
    Axes that no workload speaks of, such as the text, keep the range of the exportable, tuned for its end.

    Raises:
        ValueError: no workload, one that does not fit the geometry or the exportable, or workloads too far apart.
    """
    if not workloads:
        raise ValueError("`workloads` must hold at least one workload")
    kept_axes = [axis for axis in exportable.axes if KEPT_AXIS.fullmatch(axis)]
    if kept_axes:
        reducing = [workload for workload in workloads if workload.reduces]
        if not reducing:
            raise ValueError(
                f"`workloads` reduce nothing, and the {exportable.name} takes indices of kept tokens; set keep_q or"
                " keep_kv below 1 in one of them"
            )
        profiles = [_profile("reduced", exportable, reducing, geometry, merges=True)]
    else:
        profiles = [_profile("dense", exportable, workloads, geometry, merges=False)]
        if merging := [workload for workload in workloads if workload.merges]:
            profiles.append(_profile("merged", exportable, merging, geometry, merges=True))
    check_profiles(exportable.axes, profiles)
    return tuple(profiles)


def _profile(
    name: str, exportable: Exportable, workloads: Sequence[Workload], geometry: Geometry, *, merges: bool
) -> Profile:
    grids = [geometry.grid(workload) for workload in workloads]
    _check_together(workloads, grids)
    fewest = [
        num_merged(grid[0], exact(w.merged)) if merges else grid[0] for grid, w in zip(grids, workloads, strict=True)
    ]
    axes = {axis: replace(bounds, example=bounds.maximum) for axis, bounds in exportable.axes.items()}
    axes["b"] = _range(w.batch for w in workloads)
    axes["t"] = AxisRange(
        minimum=min(fewest), example=(fewest[0] + grids[0][0]) // 2, maximum=max(grid[0] for grid in grids)
    )
    axes["h"], axes["w"] = (_range(grid[axis] for grid in grids) for axis in (1, 2))
    smallest = [(t, h, w) for t, (_, h, w) in zip(fewest, grids, strict=True)]
    for axis in exportable.axes:
        if match := KEPT_AXIS.fullmatch(axis):
            shares = [exact(w.keep_q if match[1] == "q" else w.keep_kv) for w in workloads]
            kept = [
                num_kept(prod(grid), num_destinations(grid, geometry.cell), share)
                for grid, share in zip(smallest, shares, strict=True)
            ]
            tuned = (axes["t"].example, *grids[0][1:])
            axes[axis] = AxisRange(
                minimum=min(kept),
                example=num_kept(prod(tuned), num_destinations(tuned, geometry.cell), shares[0]),
                maximum=axes["t"].maximum * axes["h"].maximum * axes["w"].maximum,
            )
    return Profile(name=name, axes=axes)


def _range(sizes: Iterable[int]) -> AxisRange:
    listed = list(sizes)
    return AxisRange(minimum=min(listed), example=listed[0], maximum=max(listed))


def _check_together(workloads: Sequence[Workload], grids: Sequence[Grid]) -> None:
    reach = prod(max(grid[axis] for grid in grids) for axis in range(3))
    largest = max(map(prod, grids))
    if reach > WIDEST * largest:
        shown = ", ".join(f"{w.frames}x{w.height}x{w.width}" for w in workloads)
        raise ValueError(
            f"`workloads` {shown} do not fit together: a profile for all of them reaches {reach} tokens, and the"
            f" largest has {largest}; at most {WIDEST} times as many are worth it, so build an engine for each kind"
        )


def _check(name: str, value: int, step: int, first: int) -> None:
    if (value - first) % step:
        low = max((value - first) // step, 1 - first) * step + first
        form = f"{first} and a multiple of {step}" if first else f"a multiple of {step}"
        raise ValueError(
            f"`{name}` of a workload must be {form} here, got {value}; the nearest legal values are {low} and"
            f" {low + step}"
        )
