"""What a backend is: the way from an exportable to the files of an engine. Those there are stand in `backends/`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fastvid_export.exportable import Exportable
from fastvid_export.profile import Profile
from fastvid_export.record import TensorRecord
from fastvid_export.verify import ParityReport

Cases = Sequence[Mapping[str, int]]
"""Sizes of every axis at which something is compared with eager."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What an engine is made of, before anything slow happens.

    Attributes:
        files: the graph, and its weights where they lie beside it.
        graph: digest of the graph without weights.
        flavour: as `EngineRecord` has it.
        parity: of the graph with eager; None where only the engine can be compared.
        versions: of the packages that made it.
    """

    files: tuple[Path, ...]
    graph: str
    flavour: str
    parity: ParityReport | None
    versions: Mapping[str, str]


class Backend(Protocol):
    """Settings of one way to make engines."""

    @property
    def name(self) -> str:
        """As it stands in records, and on the command line."""
        ...

    @property
    def volume_limit(self) -> int | None:
        """Elements that a tensor of a convolution, matrix product or top-k may have; None: any number."""
        ...

    def version(self) -> str:
        """Of the package that builds, and runs what was built; an `ImportError` names the extra that is missing."""
        ...

    def target(self) -> tuple[str, ...]:
        """Where engines will run, as `EngineRecord` has it."""
        ...

    def options(self) -> Mapping[str, str | int | bool]:
        """All settings that change what is built."""
        ...

    def runs_here(self) -> bool:
        """Whether this machine can run what it builds, so that the engine itself is compared with eager."""
        ...

    def prepare(self, exportable: Exportable, folder: Path, cases: Cases | None) -> Prepared:
        """The graph, written into `folder`; where it can run, compared with eager at `cases`, None: its corners."""
        ...

    def compile(
        self, prepared: Prepared, inputs: Sequence[TensorRecord], profiles: Sequence[Profile], folder: Path
    ) -> tuple[Path, ...]:
        """The engine's files, in `folder`, the engine first; a `BuildError` says why there are none."""
        ...
