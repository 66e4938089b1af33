"""Every transformer as a graph in both flavours and as a real engine of TensorRT-RTX with all its profiles.

Among them one of merged lengths, and one of fewer tokens, which takes their indices. A refiner is the first one again.

That shows that the graph computes what the model computes, that the parser takes it, that its shapes hold over each
profile, and that attention has kernels. It shows nothing of speed, memory, the engine's own numbers, or of an H100, for
which TensorRT-RTX does not build.
"""

from pathlib import Path

import pytest

from .building import build_and_compare
from .graphs import TRANSFORMERS

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is there for Linux only")


@pytest.mark.parametrize("kind", ["portable", "fused"])
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_verified_engine(name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_and_compare(TRANSFORMERS[name], kind, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if index else name for index, name in enumerate(TRANSFORMERS)]
)
def test_in_bfloat16(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_and_compare(TRANSFORMERS[name], "fused bfloat16", tmp_path, monkeypatch)
