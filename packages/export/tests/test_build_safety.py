"""What must not happen to engines: another model's settings, a neighbour's build, a comparison that comes too late."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fastvid_export import EngineError, EngineFolder, build_engine, decoder_exportable
from fastvid_export.backends import tensorrt_child
from fastvid_export.digest import weights_digest
from fastvid_export.workshop import workshop
from torch import Tensor, nn

from .engines import TextBackend, profile, small
from .serving.served import Autoencoder, loaded


@dataclass(frozen=True)
class Statistics:
    mean: float


class Normalised(nn.Module):
    def __init__(self, config: Statistics) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.config.mean) * self.weight


def test_settings_count_as_weights_do() -> None:
    """They become constants of the graph, so two models of equal weights are two."""
    one, same, other = (weights_digest(nn.Sequential(Normalised(Statistics(mean)))) for mean in (0.0, 0.0, 1.5))
    assert one == same
    assert one != other


def test_a_build_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    """Of a folder whose name begins alike, and of names that are patterns elsewhere."""
    with workshop(tmp_path / "dit-reduced") as other, workshop(tmp_path / "dit[0]") as pattern:
        left = tmp_path / ".dit-abcdefgh.building"
        left.mkdir()
        with workshop(tmp_path / "dit"):
            assert other.is_dir()
            assert pattern.is_dir()
            assert not left.exists()


class Watched(TextBackend):
    def runs_here(self) -> bool:
        return True

    def compile(self, *given: Any) -> Any:
        raise AssertionError("compiled before it was known what to compare")


def test_sizes_too_large_to_compare_are_told_before_anything_slow(tmp_path: Path) -> None:
    exportable = replace(small(), axes={axis: replace(b, maximum=2**24) for axis, b in small().axes.items()})
    large = profile(b=(2**12, 2**12, 2**12), t=(2**12, 2**12, 2**12))
    with pytest.raises(ValueError, match="`profiles` hold no size small enough to be compared on a CPU"):
        build_engine(exportable, tmp_path / "engine", backend=Watched(), profiles=[large])


def test_a_folder_of_another_role_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exportable = decoder_exportable(Autoencoder(), reference=False)
    record = replace(loaded(exportable).record, name="encoder")
    monkeypatch.setattr("fastvid_export.serving.opening.read_record", lambda place: record)
    with pytest.raises(EngineError, match="is of a encoder; expected one of a decoder or a decoder with reference"):
        EngineFolder(tmp_path).autoencoder(Autoencoder())


def test_a_timing_cache_is_replaced_whole_and_a_build_is_not_lost_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "times.bin"
    for measured in (b"one", b"two"):
        tensorrt_child.keep(cache, measured)
    assert cache.read_bytes() == b"two"
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")) == ["times.bin"]
    tensorrt_child.keep(cache / "below a file", b"three")
    assert "was not written" in caplog.text
