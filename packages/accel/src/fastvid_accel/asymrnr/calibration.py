"""Measure, in one video, how alike the tokens of a model are; and make a schedule of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from fastvid_accel.asymrnr.accelerator import AsymRnR
from fastvid_accel.asymrnr.budget import fit_budget
from fastvid_accel.asymrnr.config import AsymRnRConfig, Metric
from fastvid_accel.asymrnr.cost import Shape
from fastvid_accel.asymrnr.matching import match
from fastvid_accel.asymrnr.partition import Grid, drawing, partition
from fastvid_accel.asymrnr.place import Place, Reduced, Selection
from fastvid_accel.asymrnr.session import ReducingSession
from fastvid_accel.asymrnr.similarity import FEATURES, Feature, Similarities, SimilarityTable
from fastvid_accel.interfaces import AttentionOp, VideoCodec
from fastvid_accel.no_acceleration import check_num_steps


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrator:
    """An accelerator that reduces nothing and measures: its report is what `accelerator` makes a schedule of.

    At every block and step it notes how far a source is from its nearest destination, on average over sources, heads
    and rows of the batch, in units of the mean square of the tokens (from their mean, for `euclidean`).

    Attributes:
        stride, metric, window, seed: as in `AsymRnRConfig`; `random` measures nothing and is refused.
    Source: AsymRnR, section 3.4: one arbitrary video is enough. What exactly the paper measured is not published.
    """

    stride: Grid = (2, 2, 2)
    metric: Metric = "euclidean"
    window: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.metric == "random":
            raise ValueError("`metric` is 'random', which measures nothing; expected euclidean, cosine or dot")
        AsymRnRConfig(stride=self.stride, metric=self.metric, window=self.window, seed=self.seed)

    def start(
        self, *, num_steps: int, attention: AttentionOp | None = None, codec: VideoCodec | None = None
    ) -> ReducingSession:
        """Begin the video to measure.

        Raises:
            ValueError: `num_steps` below 1.
        """
        return ReducingSession(self.reducer(num_steps=num_steps), attention)

    def reducer(self, *, num_steps: int) -> "SimilarityProbe":
        """The same for integrations."""
        check_num_steps(num_steps)
        return SimilarityProbe(self, num_steps)

    def table(self, report: Mapping[str, Any], *, model: str) -> SimilarityTable:
        """What a video showed, as similarities: minus the distance, averaged over a window, stretched onto [0, 1].

        Each feature is stretched on its own, over all its blocks and windows.

        Args:
            report: of a session of this calibrator, after the whole video. Of two transformers that share its steps
                (Wan 2.2) it holds both, and each step counts where it ran.
            model: its name, which those who use the table compare with theirs.
        Raises:
            ValueError: blocks or steps were not run, or the grid changed on the way.
        """
        report = _whole(report)
        distances: Mapping[str, Sequence[Sequence[float | None]]] = report["distances"]
        rows: dict[Feature, Similarities] = {}
        for feature in FEATURES:
            measured = [[value for value in row if value is not None] for row in distances[feature]]
            if not measured or any(len(row) != report["num_steps"] for row in measured):
                raise ValueError(
                    f"`report` lacks some of {report['num_steps']} steps; measure a whole video, without a step cache"
                )
            rows[feature] = _stretched([_windows(row, self.window) for row in measured])
        return SimilarityTable(
            model=model,
            grid=(report["grid"][0], report["grid"][1], report["grid"][2]),
            stride=self.stride,
            metric=self.metric,
            num_steps=report["num_steps"],
            window=self.window,
            q=rows["q"],
            kv=rows["kv"],
            h=rows["h"],
        )

    def accelerator(
        self, report: Mapping[str, Any], *, model: str, saving: float, q_rate: float = 0.5, kv_rate: float = 0.3
    ) -> AsymRnR:
        """Settings that save this share of the transformer's operations, where tokens are most alike.

        Args:
            report, model: as in `table`.
            saving: in (0, 1).
            q_rate, kv_rate: of the cells that are reduced; 0 leaves a feature whole.
        Raises:
            ValueError: as `table` and `fit_budget`.
        """
        table = self.table(report, model=model)
        return fit_budget(
            table, Shape(**_whole(report)["shape"]), saving=saving, q_rate=q_rate, kv_rate=kv_rate, seed=self.seed
        )


class SimilarityProbe:
    """Keeps every token and writes down distances, `None` where nothing was run."""

    def __init__(self, settings: Calibrator, num_steps: int) -> None:
        self._settings = settings
        self._num_steps = num_steps
        self.reset()

    def reset(self) -> None:
        """Forget the video."""
        self._distances: dict[tuple[Feature, int, int], list[float]] = {}
        self._grid: Grid | None = None
        self._shape: Shape | None = None
        self._num_blocks = 0
        self._step = 0

    def begin_step(self, step: int, /) -> None:
        """A step before the last one means another video."""
        if step < self._step:
            self.reset()
        self._step = step

    def reduce(
        self,
        q: Float[Tensor, "b heads n e"],
        k: Float[Tensor, "b heads n e"],
        v: Float[Tensor, "b heads n e"],
        place: Place,
        /,
    ) -> Reduced:
        """The tensors themselves, after they were measured.

        Raises:
            ValueError: the grid changed, because another accelerator is at work.
        """
        if self._grid not in (None, place.grid):
            raise ValueError(
                f"the token grid changed from {self._grid} to {place.grid}; calibrate without an accelerator"
            )
        self._grid, self._num_blocks = place.grid, place.num_blocks
        self._shape = Shape(
            batch=q.shape[0], heads=q.shape[1], head_width=q.shape[3], num_tokens=q.shape[2], num_text=place.num_text
        )
        measured: dict[Feature, Tensor] = {"q": q, "kv": v, "h": k}
        for feature, tokens in measured.items():
            here = feature, place.block, place.step
            self._distances.setdefault(here, []).append(self._measure(feature, tokens, place))
        return Reduced(q=q, k=k, v=v, kept=None)

    def selections(self, shape: tuple[int, int, int, int], place: Place, /) -> dict[int, Selection] | None:
        """Nothing: it measures queries, keys and values, which only attention itself sees.

        Raises:
            ValueError: always.
        """
        raise ValueError("calibration measures inside attention, which an engine does not show; calibrate without one")

    def match(self, q: Tensor | None, v: Tensor | None, place: Place, /) -> None:
        """As `selections`."""
        self.selections((0, 0, 0, 0), place)

    def report(self) -> dict[str, Any]:
        """Distances by feature, block and step, averaged over branches; the grid and the shape of attention."""
        shape = self._shape
        return {
            "name": "asymrnr calibration",
            "num_steps": self._num_steps,
            "grid": None if self._grid is None else list(self._grid),
            "shape": None
            if shape is None
            else {name: getattr(shape, name) for name in ("batch", "heads", "head_width", "num_tokens", "num_text")},
            "distances": {
                feature: [
                    [_mean(self._distances.get((feature, block, step))) for step in range(self._num_steps)]
                    for block in range(self._num_blocks)
                ]
                for feature in FEATURES
            },
        }

    def _measure(self, feature: Feature, tokens: Tensor, place: Place) -> float:
        settings = self._settings
        generator = drawing(settings.seed, place.block, feature, place.step // settings.window, place.grid)
        parts = partition(place.grid, settings.stride, "random", generator=generator, device=tokens.device)
        similarity = match(tokens, parts, settings.metric, generator=generator).similarity.mean(dim=-1)
        if settings.metric == "cosine":
            return float((1 - similarity).mean())
        values = tokens.float()
        if settings.metric == "euclidean":
            values = values - values.mean(dim=2, keepdim=True)
        power = values.square().sum(-1).mean(-1).clamp(min=torch.finfo(torch.float32).tiny)
        return float((-similarity / power).mean())


def _whole(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The report of one transformer; of several, as if one had run all their steps."""
    if "transformers" not in report:
        return report
    parts = [part for part in report["transformers"] if part and part["grid"] is not None]
    if not parts:
        raise ValueError("`report` is of transformers that did not run; measure a whole video")
    first = parts[0]
    if any((part["grid"], part["shape"]) != (first["grid"], first["shape"]) for part in parts):
        raise ValueError("`report` is of transformers with other grids or sizes; their steps make no common table")
    distances = {
        feature: [
            [next((value for value in step if value is not None), None) for step in zip(*rows, strict=True)]
            for rows in zip(*(part["distances"][feature] for part in parts), strict=True)
        ]
        for feature in FEATURES
    }
    return dict(first, distances=distances)


def _windows(row: Sequence[float], window: int) -> list[float]:
    parts = [row[start : start + window] for start in range(0, len(row), window)]
    return [sum(part) / len(part) for part in parts]


def _stretched(distances: list[list[float]]) -> Similarities:
    """1 at the smallest distance, 0 at the largest; 1 everywhere where there is but one."""
    low, high = min(map(min, distances)), max(map(max, distances))
    span = (high - low) or 1.0
    return tuple(tuple((high - value) / span if high > low else 1.0 for value in row) for row in distances)


def _mean(values: list[float] | None) -> float | None:
    return None if values is None else sum(values) / len(values)
