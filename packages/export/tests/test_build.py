import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastvid_export import BuildError, EngineError, Exportable, ParityError, build_engine, verify
from fastvid_export import build as building
from fastvid_export.backend import Cases, Prepared
from fastvid_export.backends import tensorrt
from fastvid_export.load import read_record
from fastvid_export.workshop import locked

from .engines import PROFILES, TextBackend, profile, small


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_with_the_engine_and_its_record(tmp_path: Path) -> None:
    record = build_engine(small(), tmp_path / "engine", backend=TextBackend(), profiles=PROFILES)
    assert set(names(tmp_path / "engine")) == {"engine.json", record.files[0].name}
    assert (tmp_path / "engine" / record.files[0].name).read_text() == "plan"
    assert read_record(tmp_path / "engine") == record
    assert (record.parity["passed"], record.parity_of, record.outputs) == (True, "graph", ("y",))
    assert (record.inputs[0].dtype, record.inputs[0].shape) == ("float32", ("b", "t", 4))
    assert record.results[0].dims == (None, None, 4)
    assert names(tmp_path) == [".engine.lock", "engine"]


def test_the_same_key_is_not_built_twice_and_another_replaces_it(tmp_path: Path) -> None:
    record = build_engine(small(), tmp_path / "e", backend=TextBackend(), profiles=PROFILES)
    never = TextBackend(fails=[AssertionError()])
    assert build_engine(small(), tmp_path / "e", backend=never, profiles=PROFILES[::-1]) == record
    other = build_engine(small(), tmp_path / "e", backend=TextBackend(word="other"), profiles=PROFILES)
    assert set(names(tmp_path / "e")) == {"engine.json", other.files[0].name}
    with pytest.raises(AssertionError):
        build_engine(small(), tmp_path / "e", backend=replace(never, word="other"), profiles=PROFILES, rebuild=True)


@pytest.mark.parametrize("content", ["plaN", "pla", "", "\0\0\0\0", None])
@pytest.mark.parametrize("of_sidecar", [False, True])
def test_a_damaged_engine_is_built_anew(tmp_path: Path, content: str | None, of_sidecar: bool) -> None:
    record = build_engine(small(), tmp_path / "e", backend=TextBackend(), profiles=PROFILES)
    damaged = tmp_path / "e" / ("engine.json" if of_sidecar else record.files[0].name)
    damaged.unlink()
    if content is not None:
        damaged.write_text(content)
    with pytest.raises(EngineError, match=r"engine.* (changed|bytes|missing|damaged|no engine)"):
        read_record(tmp_path / "e")
    again = build_engine(small(), tmp_path / "e", backend=TextBackend(), profiles=PROFILES)
    assert again.key == record.key
    assert read_record(tmp_path / "e") == again


def test_an_engine_of_another_version_is_built_anew(tmp_path: Path) -> None:
    class Newer(TextBackend):
        def version(self) -> str:
            return "2"

    old = build_engine(small(), tmp_path / "e", backend=TextBackend(), profiles=PROFILES)
    new = build_engine(small(), tmp_path / "e", backend=Newer(), profiles=PROFILES)
    assert (old.backend_version, new.backend_version) == ("1", "2")
    assert read_record(tmp_path / "e") == new


@pytest.mark.parametrize(
    "error", [BuildError("no kernel"), OSError(28, "No space left on device"), KeyboardInterrupt()]
)
def test_a_build_that_fails_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    record = build_engine(small(), tmp_path / "e", backend=TextBackend(), profiles=PROFILES)
    with pytest.raises(type(error)):
        build_engine(
            small(),
            tmp_path / "e",
            backend=TextBackend(word="other", fails=[error]),  # type: ignore[list-item]
            profiles=PROFILES,
        )
    assert read_record(tmp_path / "e") == record
    assert names(tmp_path) == [".e.lock", "e"]


def test_nothing_is_installed_where_the_engine_differs_from_eager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Runs(TextBackend):
        def runs_here(self) -> bool:
            return True

    monkeypatch.setattr(
        building, "load_raw", lambda record, folder, running: lambda inputs, profile: (inputs["x"] * 2,)
    )
    with pytest.raises(ParityError, match="comparisons with eager failed"):
        build_engine(small(), tmp_path / "e", backend=Runs(), profiles=PROFILES)
    assert not (tmp_path / "e").exists()
    monkeypatch.setattr(
        building,
        "load_raw",
        lambda record, folder, running: lambda inputs, profile: (small().module(inputs["x"]).detach(),),
    )
    record = build_engine(small(), tmp_path / "e", backend=Runs(), profiles=PROFILES)
    assert record.parity_of == "engine"
    sizes = [case["sizes"] for case in record.parity["cases"]]
    assert all(corner in sizes for p in PROFILES for corner in (p.minimum, p.example, p.maximum))


def test_nothing_is_installed_where_nothing_was_compared(tmp_path: Path) -> None:
    class Blind(TextBackend):
        def prepare(self, exportable: Exportable, folder: Path, cases: Cases | None) -> Prepared:
            return replace(super().prepare(exportable, folder, cases), parity=None)

    with pytest.raises(BuildError, match="nothing was compared with eager"):
        build_engine(small(), tmp_path / "e", backend=Blind(), profiles=PROFILES)
    assert not (tmp_path / "e").exists()


def test_nor_where_the_graph_differs(tmp_path: Path) -> None:
    class Wrong(TextBackend):
        def prepare(self, exportable: Exportable, folder: Path, cases: Cases | None) -> Prepared:
            report = verify(exportable, lambda inputs: (inputs["x"],), cases=[exportable.example_sizes])
            raise ParityError(report)

    with pytest.raises(ParityError):
        build_engine(small(), tmp_path / "e", backend=Wrong(), profiles=PROFILES)
    assert not (tmp_path / "e").exists()


def test_profiles_are_checked_first(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="t from 1 to 65 in 'dense'; the graph holds for 1 to 64"):
        build_engine(small(), tmp_path / "e", backend=TextBackend(), profiles=[profile(t=(1, 6, 65))])
    with pytest.raises(ValueError, match="exceed 100 elements"):
        build_engine(small_linear(), tmp_path / "e", backend=TextBackend(volume_limit=100), profiles=PROFILES)
    assert names(tmp_path) == []


def small_linear() -> Exportable:
    import torch

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.linear(x)
            return y

    return replace(small(), module=Linear().eval())


def test_a_second_builder_is_refused_or_waits(tmp_path: Path) -> None:
    with locked(tmp_path / "e", wait=0), pytest.raises(BuildError, match="another process has been building"):
        build_engine(small(), tmp_path / "e", backend=TextBackend(), profiles=PROFILES)
    other = hold_lock(tmp_path / "e", seconds=0.5)
    record = build_engine(small(), tmp_path / "e", backend=TextBackend(), profiles=PROFILES, wait=60)
    other.wait()
    assert read_record(tmp_path / "e") == record


def hold_lock(folder: Path, *, seconds: float) -> subprocess.Popen[str]:
    """Another process that builds there; returns once it does."""
    code = (
        "import sys, time; from pathlib import Path; from fastvid_export.workshop import locked, workshop\n"
        "folder = Path(sys.argv[1])\n"
        "with locked(folder, wait=0), workshop(folder) as shop:\n"
        "    (shop / 'engine.plan').write_text('half'); print('locked', flush=True); time.sleep(float(sys.argv[2]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    process.stdout.close()
    return process


def test_a_killed_builder_frees_its_lock_and_leaves_nothing_that_counts(tmp_path: Path) -> None:
    builder = hold_lock(tmp_path / "e", seconds=600)
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    assert len(names(tmp_path)) == 2  # the lock and what it was building
    with pytest.raises(EngineError, match="there is no engine"):
        read_record(tmp_path / "e")
    record = build_engine(small(), tmp_path / "e", backend=TextBackend(), profiles=PROFILES)
    assert read_record(tmp_path / "e") == record
    assert names(tmp_path) == [".e.lock", "e"]


@pytest.mark.parametrize("moment", ["engine", "sidecar"])
def test_a_kill_while_installing_leaves_the_old_engine_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    old = build_engine(small(), tmp_path / "e", backend=TextBackend(), profiles=PROFILES)
    replace_file = Path.replace

    def dying(self: Path, target: Path) -> Path:
        if target.parent == tmp_path / "e" and (self.name == "engine.json") == (moment == "sidecar"):
            raise KeyboardInterrupt
        return replace_file(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            build_engine(small(), tmp_path / "e", backend=TextBackend(word="other"), profiles=PROFILES)
    assert read_record(tmp_path / "e") == old
    new = build_engine(small(), tmp_path / "e", backend=TextBackend(word="other"), profiles=PROFILES)
    assert set(names(tmp_path / "e")) == {"engine.json", new.files[0].name}


def test_files_and_folder_are_synced_before_the_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(Path(os.readlink(f"/proc/self/fd/{file}")).name))
    record = build_engine(small(), tmp_path / "e", backend=TextBackend(), profiles=PROFILES)
    assert synced == [record.files[0].name, "engine.json", "e", "e"]


def test_room_is_asked_for_in_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"0" * 10**6)
    tensorrt.check_room([graph], tmp_path)
    monkeypatch.setattr(tensorrt, "available_memory", lambda: 3 * 10**6)
    with pytest.raises(MemoryError, match=r"needs 0\.00 GB of memory, 0\.00 GB are available"):
        tensorrt.check_room([graph], tmp_path)
    monkeypatch.setattr(tensorrt.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**6))
    with pytest.raises(BuildError, match=r"has 0\.00 GB free, the engine needs 0\.00 GB"):
        tensorrt.check_room([graph], tmp_path)
    assert tensorrt.available_memory() is not None


def test_the_time_stands_in_the_record(tmp_path: Path) -> None:
    record = build_engine(small(), tmp_path / "e", backend=TextBackend(), profiles=PROFILES)
    assert record.created.startswith(time.strftime("%Y-", time.gmtime()))
    assert json.loads((tmp_path / "e" / "engine.json").read_text())["created"] == record.created
