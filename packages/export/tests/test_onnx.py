import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from fastvid_export import EngineError, ExportError, OnnxEngine, ParityError, export_onnx, translation
from fastvid_export.onnx import _install
from torch import Tensor

from .fakes import exportable_of


def guarded_division(x: Tensor) -> Tensor:
    positive = x.relu()
    return positive / (positive.sum(dim=-1, keepdim=True) + 1e-15) + (x - 1e-9) * 1.000001


def branch_on_a_size(x: Tensor) -> Tensor:
    return x * 2 if x.shape[1] > 1 else x


def groups_after_the_first(x: Tensor) -> Tensor:
    """Frame 0 alone, then pairs of frames as a batch of t - 1: 0 or 1 of them is special to torch."""
    doubled = x.repeat_interleave(2, dim=1)[:, 1:]
    pairs = doubled[:, 1:].unflatten(1, (-1, 2)).flatten(0, 1)
    return torch.cat(
        [doubled[:, :1], (pairs.sin() + pairs.mean(1, keepdim=True)).unflatten(0, (x.shape[0], -1)).flatten(1, 2)],
        dim=1,
    )


def wrong_for_two(x: Tensor) -> Tensor:
    """As above, but of two frames it makes something else."""
    y = groups_after_the_first(x)
    return y * 2 if x.shape[1] == 2 else y


def wide(x: Tensor) -> Tensor:
    """With a weight of 2 KiB, and a shape of 16 bytes that onnxruntime reads before it runs."""
    return (x.reshape(-1, 4) @ torch.linspace(-1, 1, 512).view(4, 128)).unflatten(0, x.shape[:2])


def names(folder: Path) -> list[str]:
    """Without locks, which stay so that a process that waits for one never waits for another file of its name."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one good export, of a module that divides by something that may be zero."""
    folder = tmp_path_factory.mktemp("export")
    report = export_onnx(exportable_of(guarded_division), folder / "good.onnx")
    assert report.passed
    assert report.worst < 1e-6
    return folder


def test_two_files_and_nothing_else(folder: Path) -> None:
    assert names(folder) == ["good.json", "good.onnx"]
    assert json.loads((folder / "good.json").read_text())["passed"] is True


def test_files_are_open_for_writing_when_they_are_synced_as_windows_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    monkeypatch.setattr("os.fsync", lambda file: modes.append(fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "model.onnx").write_bytes(b"graph")
    _install(tmp_path / "model.onnx", [tmp_path / "new" / "model.onnx"])
    assert modes == [os.O_RDWR]
    assert (tmp_path / "model.onnx").read_bytes() == b"graph"


def test_names_types_and_symbolic_sizes(folder: Path) -> None:
    graph = onnx.load(folder / "good.onnx").graph
    for value in (graph.input[0], graph.output[0]):
        sizes = [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        assert sizes == ["b", "t", 4]
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert ([value.name for value in graph.input], [value.name for value in graph.output]) == (["x"], ["y"])


def test_runs_at_a_size_never_seen(folder: Path) -> None:
    engine = OnnxEngine(folder / "good.onnx")
    exportable = exportable_of(guarded_division)
    inputs = exportable.draw_inputs({"b": 7, "t": 29}, seed=9)
    with torch.no_grad():
        torch.testing.assert_close(engine(inputs)[0], exportable.module(**inputs))


def test_rows_without_any_positive_value_stay_finite(folder: Path) -> None:
    x = -torch.ones(1, 3, 4)
    assert OnnxEngine(folder / "good.onnx")({"x": x})[0].isfinite().all()


def test_mutant_without_the_protection_of_small_numbers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translation, "protect_near_identities", lambda model: 0)
    with pytest.raises(ParityError, match="not finite"):
        export_onnx(exportable_of(guarded_division), tmp_path / "bad.onnx")
    assert names(tmp_path) == []


def test_a_baked_branch_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"the old one")
    with pytest.raises(ParityError, match=r"b=1 t=1: y \(1, 1, 4\): relative error 1\.0e\+00"):
        export_onnx(exportable_of(branch_on_a_size), target)
    assert names(tmp_path) == ["model.onnx"]
    assert target.read_bytes() == b"the old one"


def test_a_baked_branch_goes_through_where_it_cannot_matter(tmp_path: Path) -> None:
    assert export_onnx(exportable_of(branch_on_a_size, minimum=2), tmp_path / "model.onnx").passed


def test_sizes_that_the_trace_cannot_promise_are_compared_one_by_one(tmp_path: Path) -> None:
    exportable = exportable_of(groups_after_the_first)
    report = export_onnx(exportable, tmp_path / "model.onnx", cases=[exportable.example_sizes])
    assert [dict(case.sizes) for case in report.cases] == [{"b": 2, "t": t} for t in (6, 1, 2)]


def test_mutant_that_is_wrong_at_such_a_size_is_refused(tmp_path: Path) -> None:
    exportable = exportable_of(wrong_for_two)
    with pytest.raises(ParityError, match=r"1 of 3 comparisons .*\n  b=2 t=2"):
        export_onnx(exportable, tmp_path / "model.onnx", cases=[exportable.example_sizes])
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.reshape(x.shape[0], -1, 2, 4), "cannot trace fake for all the sizes that `axes` allow: .*t"),
        (lambda x: x[x > 0], "NonZero|data-dependent|cannot trace"),
    ],
)
def test_what_no_graph_can_hold(tmp_path: Path, function: object, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export_onnx(exportable_of(function), tmp_path / "model.onnx")  # type: ignore[arg-type]
    assert names(tmp_path) == []


def test_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    stale = tmp_path / f"model.{'0' * 16}.weights"
    other = tmp_path / f"other.{'0' * 16}.weights"
    stale.touch()
    other.touch()
    exportable = exportable_of(wide)
    assert export_onnx(exportable, target, external_weights=True).passed
    (weights,) = set(tmp_path.glob("model.*.weights"))
    assert weights != stale
    assert names(tmp_path) == sorted([weights.name, "model.json", "model.onnx", other.name])
    inputs = exportable.draw_inputs({"b": 3, "t": 3})
    torch.testing.assert_close(OnnxEngine(target)(inputs)[0], exportable.module(**inputs).detach())
    export_onnx(exportable, target, external_weights=False)
    assert names(tmp_path) == sorted(["model.json", "model.onnx", other.name])


def test_the_same_export_twice_is_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    export_onnx(exportable_of(guarded_division), tmp_path / "good.onnx")
    for name in ("good.onnx", "good.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_another_process_exports_the_same_bytes_and_leaves_nothing_when_it_is_killed(tmp_path: Path) -> None:
    """It writes one file whole; on the second, SIGKILL comes when the graph is half written."""
    fakes = exportable_of.__module__
    code = (
        "import os, signal, sys; import torch\n"
        "from fastvid_export import export_onnx, translation\n"
        f"from {fakes} import exportable_of\n"
        "def half(model, path, external):\n"
        "    path.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "export_onnx(exportable_of(torch.sin), sys.argv[1] + '/one.onnx')\n"
        "translation.save = half\n"
        "export_onnx(exportable_of(torch.sin), sys.argv[1] + '/two.onnx')\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    root = Path(__file__).parents[fakes.count(".")]
    assert subprocess.run(command, check=False, cwd=root).returncode == -signal.SIGKILL
    (left,) = set(names(tmp_path)) - {"one.json", "one.onnx"}
    assert (tmp_path / left / "two.onnx").read_bytes() == b"half"
    export_onnx(exportable_of(torch.sin), tmp_path / "two.onnx")
    assert names(tmp_path) == ["one.json", "one.onnx", "two.json", "two.onnx"]
    assert (tmp_path / "two.onnx").read_bytes() == (tmp_path / "one.onnx").read_bytes()
    assert b"fakes.py" not in (tmp_path / "one.onnx").read_bytes()  # where this repository lies is nobody's business


def test_nothing_is_left_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(model: object, path: Path, external: object) -> list[Path]:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(translation, "save", full)
    with pytest.raises(OSError, match="No space left"):
        export_onnx(exportable_of(torch.sin), tmp_path / "model.onnx")
    assert names(tmp_path) == []


def test_arguments_are_checked_before_any_work(tmp_path: Path) -> None:
    exportable = exportable_of(torch.sin)
    with pytest.raises(ValueError, match="`flavour` must be one of 'portable', 'fused', got 'quick'"):
        export_onnx(exportable, tmp_path / "model.onnx", flavour="quick")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`path` must end in \.onnx"):
        export_onnx(exportable, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="`path` must lie in a folder that exists"):
        export_onnx(exportable, tmp_path / "missing" / "model.onnx")


def test_without_onnxruntime_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r'pip install "fastvid-export\[ort\]"'):
        export_onnx(exportable_of(torch.sin), tmp_path / "model.onnx")
    assert names(tmp_path) == []


def test_an_engine_refuses_with_the_file_and_the_reason(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes((folder / "good.onnx").read_bytes()[:100])
    with pytest.raises(EngineError, match=r"cannot load broken\.onnx"):
        OnnxEngine(broken)
    with pytest.raises(EngineError, match="onnxruntime"):
        OnnxEngine(folder / "good.onnx")({"x": torch.zeros(1, 1, 5)})
