import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fastvid_export import (
    ActivationMemory,
    AxisRange,
    EngineError,
    Exportable,
    LoadedEngine,
    OnnxRuntime,
    build_engine,
    load_engine,
)
from fastvid_export.install import install
from fastvid_export.load import read_record
from fastvid_export.record import EngineRecord, FileRecord
from torch import Tensor, nn

from .engines import PROFILES, small


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an engine of onnxruntime."""
    folder = tmp_path_factory.mktemp("engines") / "ort"
    build_engine(small(), folder, backend=OnnxRuntime(), profiles=PROFILES)
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    for file in built.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.fixture(scope="module")
def loaded(built: Path) -> LoadedEngine:
    return load_engine(built, expect=small())


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(1, 1, 4), (4, 32, 4), (2, 7, 4), (1, 64, 4)])
def test_it_computes_what_the_module_computes(loaded: LoadedEngine, shape: tuple[int, ...]) -> None:
    x = draw(*shape)
    torch.testing.assert_close(loaded.engine({"x": x})[0], small().module(x))
    torch.testing.assert_close(
        loaded.engine({"x": x.transpose(0, 1).contiguous().transpose(0, 1)})[0], small().module(x)
    )


def test_the_smallest_profile_that_holds_the_inputs(loaded: LoadedEngine) -> None:
    shapes = {(1, 1, 4): 0, (2, 4, 4): 1, (1, 40, 4): 2, (2, 32, 4): 0}
    assert {shape: loaded.engine.profile_of({"x": draw(*shape)}) for shape in shapes} == shapes


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": draw(2, 40, 4)}, r"not built for t = 40 \(1 to 32\) of its profile 'dense'; t = 40 \(2 to 8\)"),
        ({"x": draw(2, 6, 5)}, r"`x` has shape \(2, 6, 5\), expected \(b, t, 4\)"),
        ({"x": draw(6, 4)}, r"`x` has shape \(6, 4\), expected \(b, t, 4\)"),
        ({"x": draw(2, 6, 4).half()}, "`x` is float16, the fake engine was built for float32"),
        ({}, r"the fake engine takes x; unknown: \[\], missing: \['x'\]"),
        ({"x": draw(2, 6, 4), "z": draw(1)}, r"unknown: \['z'\]"),
    ],
)
def test_inputs_that_it_was_not_built_for(loaded: LoadedEngine, inputs: dict[str, Tensor], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        loaded.engine(inputs)


def flip(folder: Path) -> None:
    (engine,) = folder.glob("engine.*.onnx")
    content = bytearray(engine.read_bytes())
    content[len(content) // 2] ^= 1
    engine.write_bytes(content)


def truncate(folder: Path) -> None:
    (engine,) = folder.glob("engine.*.onnx")
    engine.write_bytes(engine.read_bytes()[:-1])


def remove(folder: Path) -> None:
    (engine,) = folder.glob("engine.*.onnx")
    engine.unlink()


def link(folder: Path) -> None:
    (engine,) = folder.glob("engine.*.onnx")
    engine.replace(folder / "elsewhere")
    engine.symlink_to(folder / "elsewhere")


def edit(folder: Path) -> None:
    sidecar = folder / "engine.json"
    sidecar.write_text(sidecar.read_text().replace('"b": [', '"b":  [').replace("float32", "float16"))


def lose(folder: Path) -> None:
    (folder / "engine.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (flip, "was changed after it was written"),
        (truncate, r"has \d+ bytes, \d+ were written"),
        (remove, "is missing"),
        (link, "does not lie in its folder"),
        (edit, "was changed after it was written: its digest does not fit"),
        (lose, "there is no engine in"),
    ],
)
def test_damage_is_refused(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(folder)
    with pytest.raises(EngineError, match=message):
        load_engine(folder)


def test_each_of_ten_thousand_flipped_bits_is_refused(folder: Path) -> None:
    (engine,) = folder.glob("engine.*.onnx")
    written, draw = engine.read_bytes(), random.Random(0)
    with engine.open("r+b", buffering=0) as file:
        for _ in range(10_000):
            place = draw.randrange(len(written))
            file.seek(place)
            file.write(bytes([written[place] ^ 1 << draw.randrange(8)]))
            with pytest.raises(EngineError, match="was changed after it was written"):
                load_engine(folder)
            file.seek(place)
            file.write(written[place : place + 1])
    load_engine(folder)


def rewrite(folder: Path, **changes: Any) -> EngineRecord:
    """A sidecar with another truth and a digest that fits it."""
    record = replace(read_record(folder), **changes)
    (folder / "engine.json").write_text(record.to_json())
    return record


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": ("cpu", "sparc")}, "was built for cpu sparc, this is cpu"),
        ({"backend": "pickle"}, "names the backend 'pickle', which this version does not have"),
        ({"options": {"provider": "quantum"}}, "wants the provider 'quantum' of onnxruntime"),
        ({"backend_version": "0.1"}, "was built for onnxruntime 0.1, installed is"),
        ({"files": ()}, "names no file"),
        ({"backend": "aotinductor"}, "was built by torch .*, installed is"),
        ({"backend": "aotinductor", "backend_version": torch.__version__, "target": ("sm90", "H100")}, "no GPU"),
    ],
)
def test_another_machine_version_or_backend(folder: Path, changes: dict[str, Any], message: str) -> None:
    rewrite(folder, **changes)
    with pytest.raises(EngineError, match=message):
        load_engine(folder)


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/passwd", "sub/engine.onnx", "..", ""])
def test_a_file_outside_the_folder_is_never_opened(folder: Path, name: str) -> None:
    rewrite(folder, files=(FileRecord(name=name, sha256="0" * 64, size=1),))
    with pytest.raises(EngineError, match="does not lie in its folder"):
        load_engine(folder)


class Swapped(nn.Module):
    """Of the same inputs and outputs, but another model."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((4,), 1.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def other_weights() -> Exportable:
    exportable = small()
    with torch.no_grad():
        next(exportable.module.parameters()).add_(1e-6)
    return exportable


def half() -> Exportable:
    exportable = small()
    return replace(exportable, module=exportable.module.half())


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        (lambda: replace(small(), name="decoder"), "is of a fake, not of a decoder"),
        (other_weights, "from other weights than the model has"),
        (half, "computes in float32, the model in float16"),
        (lambda: replace(small(), outputs=("z",)), "gives y, the model z"),
        (
            lambda: replace(
                small(),
                inputs={"x": replace(small().inputs["x"], shape=("b", "t", 5))},
                axes={axis: AxisRange(minimum=1, example=2, maximum=3) for axis in "bt"},
            ),
            r"input `x` is float32 \(b, t, 4\), the model's is float32 \(b, t, 5\)",
        ),
    ],
)
def test_an_engine_of_another_model_is_refused(built: Path, expect: Callable[[], Exportable], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        load_engine(built, expect=expect())


def test_the_engine_of_another_component_in_its_place(folder: Path, tmp_path: Path) -> None:
    """A whole and healthy folder, but of something else, is told by what is expected of it."""
    record = rewrite(folder, name="upsampler")
    assert load_engine(folder).record == record
    with pytest.raises(EngineError, match="is of a upsampler, not of a fake"):
        load_engine(folder, expect=small())


def test_only_text_of_a_sidecar_counts(folder: Path) -> None:
    (folder / "engine.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EngineError, match="is damaged"):
        load_engine(folder)
    (folder / "engine.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(EngineError, match="was changed"):
        load_engine(folder)


@pytest.mark.parametrize("setting", [{"cuda_graphs": True}, {"memory": ActivationMemory()}])
def test_what_a_backend_has_no_use_for_is_refused(built: Path, setting: dict[str, Any]) -> None:
    (name,) = setting
    with pytest.raises(
        ValueError, match=f"`{name}` has no effect on an engine of onnxruntime, which launches its work"
    ):
        load_engine(built, **setting)


def test_the_kernels_of_rtx_are_not_recorded(folder: Path) -> None:
    rewrite(folder, backend="tensorrt_rtx")
    with pytest.raises(ValueError, match="TensorRT-RTX compiles kernels for new shapes"):
        load_engine(folder, cuda_graphs=True)


def test_tensorrt_is_told_how_to_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr("fastvid_export.backends.tensorrt.load", lambda record, folder, **given: told.update(given))
    rewrite(folder, backend="tensorrt")
    memory = ActivationMemory()
    load_engine(folder, cuda_graphs=True, memory=memory)
    assert told == {"cuda_graphs": True, "memory": memory}


def test_an_engine_whose_load_kills_a_process_kills_another_one(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dying.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("fastvid_export.load.CHILD", "dying")
    with pytest.raises(EngineError, match=r"cannot be loaded, tried in a process of its own: .* was killed by SIGSEGV"):
        load_engine(built, probe=True)
    load_engine(built)


@pytest.mark.slow  # a process imports torch
def test_a_load_that_goes_well_and_one_that_does_not_in_a_process_of_its_own(folder: Path) -> None:
    assert load_engine(folder, probe=True).record == read_record(folder)
    rewrite(folder, target=("cpu", "sparc"))
    with pytest.raises(EngineError, match=r"in a process of its own: the engine was built for cpu sparc, this is cpu"):
        load_engine(folder, probe=True)


def test_installing_over_a_folder_keeps_what_is_not_of_an_engine(folder: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "engine.plan").write_text("new")
    record = replace(read_record(folder), files=(FileRecord(name="engine.plan", sha256="0" * 64, size=3),))
    install(record, shop, folder)
    assert sorted(file.name for file in folder.iterdir() if file.is_file()) == [
        "engine.json",
        "engine.plan",
        "notes.txt",
    ]
