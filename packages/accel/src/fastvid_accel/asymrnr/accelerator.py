"""AsymRnR around the denoising loop."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast, final

import torch
from jaxtyping import Float
from torch import Tensor

from fastvid_accel.asymrnr.config import AsymRnRConfig
from fastvid_accel.asymrnr.reducer import Place, TokenReducer
from fastvid_accel.asymrnr.report import report
from fastvid_accel.asymrnr.similarity import FEATURES, SimilarityTable
from fastvid_accel.interfaces import AttentionOp, AttentionSite, Step
from fastvid_accel.no_acceleration import check_num_steps, full_attention

FORMAT = "fastvid-asymrnr/1"


@final
@dataclass(frozen=True, slots=True)
class AsymRnR:
    """Asymmetric reduction and restoration of tokens inside self-attention; training-free, after RoPE.

    Args:
        config: what is reduced, and by how much.
        table: how alike tokens are where; required where `config` has thresholds above 0.
    Raises:
        ValueError: thresholds without a table, or a table that was measured with another stride or metric, or lacks a
            feature that has rates.
    Source: AsymRnR (arXiv 2412.11706), section 3.
    """

    config: AsymRnRConfig = field(default_factory=AsymRnRConfig)
    table: SimilarityTable | None = None

    def __post_init__(self) -> None:
        config, table = self.config, self.table
        if table is None:
            if config.needs_table:
                raise ValueError("`config` has thresholds above 0 and `table` is None; give what calibration measured")
            return
        for name in ("stride", "metric"):
            if getattr(table, name) != getattr(config, name):
                raise ValueError(
                    f"`table` was measured with `{name}` {getattr(table, name)!r}, `config` has"
                    f" {getattr(config, name)!r}; take one for both, or calibrate again"
                )
        for feature in FEATURES:
            if getattr(config, feature) and table.of(feature) is None:
                raise ValueError(f"`config` has rates for `{feature}`, which `table` does not hold; calibrate it")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write settings and table as one JSON file.

        Raises:
            OSError: the file cannot be written.
        """
        table = None if self.table is None else self.table.to_json()
        facts = {"format": FORMAT, "settings": self.config.to_json(), "table": table}
        Path(path).write_text(json.dumps(facts) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, model: str | None = None) -> Self:
        """Read what `save` or calibration wrote.

        Args:
            model: the name of the model at hand; a table of another one is refused. None: the caller knows.
        Raises:
            ValueError: no such file, another format, settings that are out of range, or a table of another model.
        """
        file = Path(path)
        if not file.is_file():
            raise ValueError(
                f"`settings` is {str(path)!r}, which is no file; expected what `fastvid-cli calibrate` wrote"
            )
        return cls.parse(file.read_text(encoding="utf-8"), str(path), model=model)

    @classmethod
    def parse(cls, text: str, name: str, *, model: str | None = None) -> Self:
        """The same from the text of a file; `name` is for messages."""
        try:
            facts = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"`settings` {name!r} is no JSON: {error}") from error
        if not isinstance(facts, dict) or facts.keys() != {"format", "settings", "table"} or facts["format"] != FORMAT:
            raise ValueError(
                f"`settings` {name!r} is not of the format {FORMAT!r}; write it with `fastvid-cli calibrate`"
            )
        table = None if facts["table"] is None else SimilarityTable.from_json(facts["table"])
        if table is not None and model is not None and table.model != model:
            raise ValueError(
                f"`settings` {name!r} were calibrated for the model {table.model!r}, this one is {model!r};"
                " calibrate this one"
            )
        return cls(AsymRnRConfig.from_json(facts["settings"]), table)

    def start(self, *, num_steps: int, attention: AttentionOp = full_attention) -> "AsymRnRSession":
        """Begin a video.

        Args:
            num_steps: of the sampler, at least 1.
            attention: over the tokens that are left.
        Raises:
            ValueError: `num_steps` below 1.
        """
        check_num_steps(num_steps)
        return AsymRnRSession(TokenReducer(self.config, self.table, num_steps), attention)


@final
class AsymRnRSession:
    """One video. Both branches of guidance come in one batch."""

    def __init__(self, reducer: TokenReducer, attention: AttentionOp) -> None:
        self._reducer = reducer
        self._attention = attention
        self._step: int | None = None

    def begin_step(self, step: Step, /) -> None:
        """Remember where the sampler is; step 0 begins another video."""
        if step.index == 0:
            self._reducer.reset()
        self._reducer.begin_step(step.index)
        self._step = step.index

    def attention(
        self,
        q: Float[Tensor, "b heads n e"],
        k: Float[Tensor, "b heads n e"],
        v: Float[Tensor, "b heads n e"],
        site: AttentionSite,
        /,
    ) -> Float[Tensor, "b heads n e"]:
        """Attention of the tokens that stay, and its result for all.

        Compiled models call it as it is, between two graphs: it decides by the number of the step, and would otherwise
        be compiled for each.

        Raises:
            ValueError: before the first `begin_step`, or tokens that do not fill the grid.
        """
        if self._step is None:
            raise ValueError("`begin_step` has not been called; a session has to know the step before it reduces")
        place = Place(branch="", block=site.block, num_blocks=site.num_blocks, step=self._step, grid=site.grid)
        return _attend(self._reducer, self._attention, (q, k, v), place, site)

    def end_step(
        self,
        latents: Float[Tensor, "b c t h w"],
        denoised: Float[Tensor, "b c t h w"],
        positions: Float[Tensor, "3 t h w"],
        step: Step,
        /,
    ) -> tuple[Float[Tensor, "b c t h w"], Float[Tensor, "3 t h w"]]:
        """The latents and positions as they came."""
        return latents, positions

    def finish(self, frames: Float[Tensor, "b 3 T H W"], /) -> Float[Tensor, "b 3 T H W"]:
        """The frames as they came."""
        return frames

    def report(self) -> dict[str, Any]:
        """What was reduced and saved; see `fastvid_accel.asymrnr.report`."""
        return report(self._reducer)


def _attend_eagerly(
    reducer: TokenReducer, attention: AttentionOp, qkv: tuple[Tensor, Tensor, Tensor], place: Place, site: AttentionSite
) -> Tensor:
    reduced = reducer.reduce(*qkv, place)
    return reduced.restore(attention(reduced.q, reduced.k, reduced.v, site))


_attend = cast(Callable[..., Tensor], torch.compiler.disable(_attend_eagerly))
