"""The sizes that an engine is built for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from fastvid_export.exportable import AxisRange


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A range for each axis, and the size in it that the engine is tuned for.

    Attributes:
        name: such as `dense`, `merged` or `reduced`.
        axes: every axis of the exportable; `example` is the size to tune for.
    """

    name: str
    axes: Mapping[str, AxisRange]

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"`name` of a profile must be a word such as dense, merged or reduced; got {self.name!r}")

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether every axis lies in its range; sizes of other axes than the profile's are an error."""
        if set(sizes) != set(self.axes):
            raise ValueError(f"`sizes` must give every axis, {sorted(self.axes)}; got {sorted(sizes)}")
        return all(self.axes[axis].minimum <= size <= self.axes[axis].maximum for axis, size in sizes.items())

    def volume(self) -> int:
        """Product of the largest sizes: of two profiles that hold something, the smaller one is the better tuned."""
        return prod(bounds.maximum for bounds in self.axes.values())

    @property
    def minimum(self) -> dict[str, int]:
        """The smallest size of each axis."""
        return {axis: bounds.minimum for axis, bounds in self.axes.items()}

    @property
    def example(self) -> dict[str, int]:
        """The size of each axis that the engine is tuned for."""
        return {axis: bounds.example for axis, bounds in self.axes.items()}

    @property
    def maximum(self) -> dict[str, int]:
        """The largest size of each axis."""
        return {axis: bounds.maximum for axis, bounds in self.axes.items()}


def smallest_that_holds(profiles: Sequence[Profile], sizes: Mapping[str, int]) -> int | None:
    """Index of the profile of least volume that holds these sizes; None: no profile does."""
    holding = [index for index, profile in enumerate(profiles) if profile.holds(sizes)]
    return min(holding, key=lambda index: profiles[index].volume(), default=None)


def check_profiles(axes: Mapping[str, AxisRange], profiles: Sequence[Profile]) -> None:
    """Each profile ranges exactly these axes, inside the ranges that the graph was exported for.

    Raises:
        ValueError: no profile, two of one name, an axis too many or too few, or a range outside the graph's.
    """
    if not profiles:
        raise ValueError("`profiles` must hold at least one profile")
    names = [profile.name for profile in profiles]
    if len(set(names)) < len(names):
        raise ValueError(f"`profiles` must have names of their own, got {names}")
    for profile in profiles:
        if set(profile.axes) != set(axes):
            raise ValueError(
                f"`profiles` must range every axis of the graph, {sorted(axes)}; {profile.name!r} has"
                f" unknown {sorted(set(profile.axes) - set(axes))}, missing {sorted(set(axes) - set(profile.axes))}"
            )
        for axis, bounds in profile.axes.items():
            legal = axes[axis]
            if bounds.minimum < legal.minimum or bounds.maximum > legal.maximum:
                raise ValueError(
                    f"`profiles` has {axis} from {bounds.minimum} to {bounds.maximum} in {profile.name!r}; the graph"
                    f" holds for {legal.minimum} to {legal.maximum}"
                )
