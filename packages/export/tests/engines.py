"""A small module, its profiles, and a backend that makes text files of it, for the tests of what surrounds engines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from fastvid_export import AxisRange, Exportable, Profile, verify
from fastvid_export.backend import Cases, Prepared
from fastvid_export.record import TensorRecord
from torch import Tensor

from .fakes import exportable_of


def smooth(x: Tensor) -> Tensor:
    return x.sin() + x.mean(dim=1, keepdim=True)


def small(**changes: object) -> Exportable:
    """x (b, t, 4) -> y, with b to 8 and t to 64."""
    torch.manual_seed(0)
    return exportable_of(smooth)


def profile(
    name: str = "dense", *, b: tuple[int, int, int] = (1, 2, 4), t: tuple[int, int, int] = (1, 6, 32)
) -> Profile:
    ranges = {"b": b, "t": t}
    return Profile(
        name=name,
        axes={axis: AxisRange(minimum=low, example=mid, maximum=high) for axis, (low, mid, high) in ranges.items()},
    )


PROFILES = (profile("dense"), profile("merged", t=(2, 4, 8)), profile("reduced", b=(1, 1, 1), t=(8, 16, 64)))


@dataclass(frozen=True, kw_only=True)
class TextBackend:
    """Writes the word that it is given, and compares with nothing but the module itself."""

    word: str = "plan"
    fails: Sequence[Exception] = field(default=())
    name: str = "text"
    volume_limit: int | None = None

    def version(self) -> str:
        return "1"

    def target(self) -> tuple[str, ...]:
        return ("paper",)

    def options(self) -> Mapping[str, str | int | bool]:
        return {"word": self.word}

    def runs_here(self) -> bool:
        return False

    def prepare(self, exportable: Exportable, folder: Path, cases: Cases | None) -> Prepared:
        report = verify(
            exportable, lambda inputs: (exportable.module(**inputs).detach(),), cases=[exportable.example_sizes]
        )
        return Prepared(files=(), graph="0" * 64, flavour="portable", parity=report, versions={})

    def compile(
        self, prepared: Prepared, inputs: Sequence[TensorRecord], profiles: Sequence[Profile], folder: Path
    ) -> tuple[Path, ...]:
        (folder / "engine.plan").write_text(self.word)
        for error in self.fails:
            raise error
        return (folder / "engine.plan",)
