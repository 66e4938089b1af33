"""AsymRnR around the denoising loop."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, final

from fastvid_accel.asymrnr.config import AsymRnRConfig
from fastvid_accel.asymrnr.reducer import TokenReducer
from fastvid_accel.asymrnr.session import ReducingSession
from fastvid_accel.asymrnr.similarity import FEATURES, SimilarityTable
from fastvid_accel.interfaces import AttentionOp, VideoCodec
from fastvid_accel.no_acceleration import check_num_steps

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
            ValueError: no such file, another format, settings of another type or out of range, or a table of another
                model.
        """
        file = Path(path)
        if not file.is_file():
            raise ValueError(
                f"`settings` is {str(path)!r}, which is no file; expected what `fastvid-cli calibrate` wrote"
            )
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"`settings` {str(path)!r} is no text: {error}") from error
        return cls.parse(text, str(path), model=model)

    @classmethod
    def parse(cls, text: str, name: str, *, model: str | None = None) -> Self:
        """The same from the text of a file; `name` is for messages."""
        try:
            facts = json.loads(text)
        except (ValueError, RecursionError) as error:
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

    def start(
        self, *, num_steps: int, attention: AttentionOp | None = None, codec: VideoCodec | None = None
    ) -> ReducingSession:
        """Begin a video.

        Args:
            num_steps: of the sampler, at least 1.
            attention: over the tokens that are left; None: full attention.
            codec: not looked at.
        Raises:
            ValueError: `num_steps` below 1.
        """
        return ReducingSession(self.reducer(num_steps=num_steps), attention)

    def reducer(self, *, num_steps: int) -> TokenReducer:
        """The same for whoever calls attention in another way than a session does, as integrations do."""
        check_num_steps(num_steps)
        return TokenReducer(self.config, self.table, num_steps)
