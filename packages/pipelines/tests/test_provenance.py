import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from fastvid_pipelines import provenance
from fastvid_pipelines.provenance import cpu_name, environment, model_fingerprint, peak_memory


def write(folder: Path, content: bytes) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(content)
    return model_fingerprint(folder)


@pytest.mark.parametrize("place", [0, 2**20 + 7, 3 * 2**20 - 1])
def test_every_byte_of_a_file_counts(tmp_path: Path, place: int) -> None:
    content = bytearray(3 * 2**20)
    before = write(tmp_path / "model", content)
    assert write(tmp_path / "other", content) == before
    content[place] = 1
    assert write(tmp_path / "model", content) != before


@pytest.mark.parametrize(("place", "counts"), [(0, True), (2999, True), (1495, True), (12, False)])
def test_of_a_large_file_even_samples_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int, counts: bool
) -> None:
    monkeypatch.setattr(provenance, "LARGEST_READ_WHOLE", 2999)
    monkeypatch.setattr(provenance, "SAMPLE", 10)
    monkeypatch.setattr(provenance, "NUM_SAMPLES", 3)
    content = bytearray(3000)
    before = write(tmp_path / "model", content)
    content[place] = 1
    assert (write(tmp_path / "model", content) != before) == counts


def test_size_and_name_count(tmp_path: Path) -> None:
    before = write(tmp_path / "model", b"\0" * 9)
    assert write(tmp_path / "model", b"\0" * 10) != before
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "other.safetensors")
    assert write(tmp_path / "model", b"\0" * 9) != before


def test_the_environment_names_the_libraries_and_the_processor() -> None:
    said = environment("cpu", "float32")
    for library in ("av", "numpy", "pillow", "safetensors", "transformers"):
        assert said[library] == version(library)
    assert said["device_name"] == cpu_name()
    if sys.platform == "linux" and Path("/proc/cpuinfo").read_text().count("model name"):
        assert said["device_name"] in Path("/proc/cpuinfo").read_text()
        assert said["device_name"]


def test_where_the_system_does_not_count_memory_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (peak_memory("cpu")["host"] or 0) > 2**20
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory("cpu") == {"host": None, "device": None}
