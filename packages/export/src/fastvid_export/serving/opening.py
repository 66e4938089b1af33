"""A folder of engines -> parts of a pipeline. What `fastvid.engine` names, for `fastvid-cli generate --engine`."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, final

from fastvid_export.activation_memory import ActivationMemory
from fastvid_export.digest import TensorDigests
from fastvid_export.errors import EngineError
from fastvid_export.expected import expected_of
from fastvid_export.interfaces import LatentUpsampler, ServedAutoencoder, ServedTransformer
from fastvid_export.load import LAUNCHED_BY_US, LoadedEngine, Running, check_expected, load_record, read_record
from fastvid_export.serving.autoencoder import EngineAutoencoder
from fastvid_export.serving.engine_module import Fallback, check_fallback
from fastvid_export.serving.transformer import EngineTransformer
from fastvid_export.serving.upsampler import EngineUpsampler

logger = logging.getLogger(__name__)

Engine = TypeVar("Engine", EngineTransformer, EngineAutoencoder, EngineUpsampler)
Transformer = TypeVar("Transformer", bound=ServedTransformer)
Autoencoder = TypeVar("Autoencoder", bound=ServedAutoencoder)
Upsampler = TypeVar("Upsampler", bound=LatentUpsampler)
Eager = TypeVar("Eager")


@final
class EngineFolder:
    """The engines of one pipeline, to take the places of its parts.

    They run one after another, so those of TensorRT share their scratch memory. Each has to be built from the part that
    it is opened for.

    Args:
        folder: holds a folder for each engine: `transformer`, `refiner`, `upsampler`, `decoder`, and beside the first
            two, for token reduction, `transformer_reduced` and `transformer_match`, and likewise.
        fallback: for calls that an engine cannot take, and for engines that cannot be loaded; see `Fallback`.
        cuda_graphs, probe: as of `load_engine`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        fallback: Fallback = "error",
        cuda_graphs: bool = False,
        probe: bool = False,
    ) -> None:
        check_fallback(fallback)
        self._folder, self._cuda_graphs, self._probe = Path(folder), cuda_graphs, probe
        self._fallback: Fallback = fallback
        self._memory = ActivationMemory()
        self.records: dict[str, dict[str, Any]] = {}
        """Of each part that was opened the keys of its engines; or, as `eager`, why it has none."""

    def transformer(self, eager: Transformer, *, part: str = "transformer") -> EngineTransformer | Transformer:
        """The transformer by its engines: `part`, and where they are there `part`_reduced and `part`_match.

        Args:
            eager: what they have to be built from.
        Raises:
            EngineError: an engine is damaged, of another model, precision, GPU or version, and `fallback` is 'error'.
            ImportError: likewise, the package that runs it is not installed.
            ValueError: `cuda_graphs` for a backend that has none, or one of `part`_reduced and `part`_match alone.
        """
        reduced, matching = (self._folder / f"{part}_{kind}" for kind in ("reduced", "match"))

        def opened() -> EngineTransformer:
            known = TensorDigests()  # one model, so its weights are read once
            return EngineTransformer(
                eager,
                self._load(self._folder / part, eager, known, "transformer"),
                reduced=self._load(reduced, eager, known, "transformer of fewer tokens") if reduced.is_dir() else None,
                matching=self._load(matching, eager, known, "transformer that matches") if matching.is_dir() else None,
                fallback=self._fallback,
            )

        return self._or_eager(part, eager, opened)

    def refiner(self, eager: Transformer) -> EngineTransformer | Transformer:
        """The same for the second transformer of a pipeline."""
        return self.transformer(eager, part="refiner")

    def autoencoder(self, eager: Autoencoder) -> EngineAutoencoder | Autoencoder:
        """The autoencoder, decoding by the engine `decoder`. Argument and errors as of `transformer`."""

        def opened() -> EngineAutoencoder:
            loaded = self._load(self._folder / "decoder", eager, TensorDigests(), "decoder", "decoder with reference")
            return EngineAutoencoder(eager, loaded, fallback=self._fallback)

        return self._or_eager("decoder", eager, opened)

    def upsampler(self, eager: Upsampler) -> EngineUpsampler | Upsampler:
        """The upsampler by the engine `upsampler`. Argument and errors as of `transformer`."""

        def opened() -> EngineUpsampler:
            loaded = self._load(self._folder / "upsampler", eager, TensorDigests(), "upsampler")
            return EngineUpsampler(eager, loaded, fallback=self._fallback)

        return self._or_eager("upsampler", eager, opened)

    def _or_eager(self, part: str, eager: Eager, opened: Callable[[], Engine]) -> Engine | Eager:
        try:
            engine = opened()
        except (EngineError, ImportError) as error:
            if self._fallback == "error":
                raise
            logger.warning("the %s runs eagerly, as its engine cannot be loaded: %s", part, error)
            self.records[part] = {"eager": str(error)}
            return eager
        self.records[part] = engine.records
        return engine

    def _load(self, place: Path, eager: Any, known: TensorDigests, *kinds: str) -> LoadedEngine:
        record = read_record(place)
        if record.name not in kinds:
            raise EngineError(f"the engine in {place} is of a {record.name}; expected one of a {' or a '.join(kinds)}")
        check_expected(record, expected_of(record, eager), known)
        shared = self._memory if record.backend in LAUNCHED_BY_US else None
        running = Running(cuda_graphs=self._cuda_graphs, memory=shared)
        return load_record(record, place, running=running, probe=self._probe)
