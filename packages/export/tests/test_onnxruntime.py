from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fastvid_export import EngineError, OnnxRuntime, build_engine
from fastvid_export.backends import onnxruntime
from fastvid_export.backends.onnxruntime import provider_options

from .engines import PROFILES, small
from .test_record import RECORD


def test_tensorrt_inside_onnxruntime_is_told_every_profile(tmp_path: Path) -> None:
    record = replace(RECORD, profiles=PROFILES[:2], inputs=(replace(RECORD.inputs[0], shape=("b", "t", (2, "t"))),))
    options = provider_options("tensorrt", record, tmp_path, 1)
    assert options["device_id"] == "1"
    assert options["trt_profile_min_shapes"] == "x:1x1x2,x:1x2x4"
    assert options["trt_profile_opt_shapes"] == "x:2x6x12,x:2x4x8"
    assert options["trt_profile_max_shapes"] == "x:4x32x64,x:4x8x16"
    assert options["trt_engine_cache_path"] == str(tmp_path)
    assert (options["trt_fp16_enable"], options["trt_bf16_enable"]) == ("1", "0")
    assert provider_options("cpu", record, tmp_path, None) == {}


def test_providers_that_are_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="`provider` must be one of cpu, cuda, tensorrt; got 'npu'"):
        OnnxRuntime(provider="npu")  # type: ignore[arg-type]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="`provider` is 'cuda', and there is no GPU here; 'cpu' would run"):
        build_engine(small(), tmp_path / "e", backend=OnnxRuntime(provider="cuda"), profiles=PROFILES)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_falls_back_without_a_word_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = build_engine(small(), tmp_path / "e", backend=OnnxRuntime(), profiles=PROFILES)
    monkeypatch.setitem(onnxruntime.PROVIDERS, "cpu", "CUDAExecutionProvider")
    with pytest.raises(EngineError, match="onnxruntime cannot compute by CUDAExecutionProvider here"):
        onnxruntime.OnnxRuntimeEngine(record, tmp_path / "e" / record.files[0].name)


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r'pip install "fastvid-export\[ort\]"'):
        build_engine(small(), tmp_path / "e", backend=OnnxRuntime(), profiles=PROFILES)
    assert list(tmp_path.iterdir()) == []
