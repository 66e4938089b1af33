"""Every encoder and decoder, whole and in chunks, and the upsampler; see `test_every_transformer`."""

from pathlib import Path

import pytest

from .building import build_and_compare
from .graphs import AUTOENCODERS, CHUNKS

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is there for Linux only")


@pytest.mark.parametrize("kind", ["portable", "fused"])
@pytest.mark.parametrize("name", AUTOENCODERS)
def test_a_verified_engine(name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_and_compare(AUTOENCODERS[name], kind, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=() if (name, kind) == ("decoder of later chunks", "fused") else pytest.mark.slow)
        for name in CHUNKS
        for kind in ("portable", "fused")
    ],
)
def test_a_verified_engine_of_chunks(name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_and_compare(CHUNKS[name], kind, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*AUTOENCODERS, *CHUNKS])
def test_in_bfloat16(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_and_compare({**AUTOENCODERS, **CHUNKS}[name], "fused bfloat16", tmp_path, monkeypatch)
