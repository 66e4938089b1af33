"""Every name of TensorRT that the adapter touches is there in every version that it claims to know."""

import ast
import json
from importlib import import_module
from pathlib import Path

import pytest
from fastvid_export.backends import trt_api, trt_engine

from .record_trt_names import CLASSES, names

RECORDED: dict[str, dict[str, str]] = json.loads((Path(__file__).parent / "trt_names.json").read_text())

OWNERS = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "cache": "ITimingCache",
    "engine": "ICudaEngine",
    "_engine": "ICudaEngine",
    "context": "IExecutionContext",
    "runtime": "Runtime",
    "_runtime": "Runtime",
    "validity": "EngineValidity",
    "types": "DataType",
    "severity": "ILogger.Severity",
    "Severity": "ILogger.Severity",
    "trt": "",
    "_trt": "",
}
"""What the variables of the adapter hold."""

RTX_ONLY = {
    *("num_compute_capabilities", "set_compute_capability", "engine_header_size", "get_engine_validity"),
    *("INVALID", "ComputeCapability", "EngineValidity"),
}
"""Behind `has_targets` and `has_validity`."""

CLASSES_OF_MODULE = {path.split(".")[0] for path in CLASSES}


def touched(source: str) -> set[tuple[str, str]]:
    """Class and attribute of every access to TensorRT in a source text; no class where the module itself is asked."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and not node.attr.startswith("__"):
            owner = last_name(node.value)
            if owner in CLASSES_OF_MODULE:  # trt.BuilderFlag.TF32
                found.add((owner, node.attr))
            elif owner in OWNERS:
                found.add((OWNERS[owner], node.attr))
    return {(owner, name) for owner, name in found if name != "Severity"}


def last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


USED = {
    (owner, name)
    for module in (trt_api, trt_engine)
    for owner, name in touched(Path(module.__file__).read_text(encoding="utf-8"))
}


def missing(available: dict[str, str], *, rtx: bool) -> list[tuple[str, str]]:
    wanted = {(owner, name) for owner, name in USED if rtx or name not in RTX_ONLY}
    classes = {path for path, content in available.items() if content}
    return sorted(
        (owner, name)
        for owner, name in wanted
        if (name not in available.get(owner, "").split() if owner else name not in classes)
    )


def test_the_reader_of_the_source_sees_what_is_used() -> None:
    assert {
        ("Builder", "build_serialized_network"),
        ("IExecutionContext", "execute_async_v3"),
        ("BuilderFlag", "TF32"),
        ("DataType", "BF16"),
        ("ILogger.Severity", "INTERNAL_ERROR"),
        ("", "Runtime"),
        ("EngineValidity", "INVALID"),
    } <= USED
    assert len(USED) > 50


@pytest.mark.parametrize("version", RECORDED)
def test_every_name_is_there(version: str) -> None:
    assert missing(RECORDED[version], rtx=version.startswith("tensorrt_rtx")) == []


def test_versions_from_10_to_11_are_recorded() -> None:
    assert [version.rsplit(".", 2)[0] for version in RECORDED][:3] == [
        "tensorrt 10.16",
        "tensorrt 11.0",
        "tensorrt 11.4",
    ]


@pytest.mark.parametrize("version", RECORDED)
def test_a_name_that_is_gone_is_seen(version: str) -> None:
    spoilt = {**RECORDED[version], "IExecutionContext": "execute_async_v2"}
    assert ("IExecutionContext", "execute_async_v3") in missing(spoilt, rtx=version.startswith("tensorrt_rtx"))


def test_names_that_only_some_versions_have_stay_behind_their_flags() -> None:
    enterprise = next(RECORDED[version] for version in RECORDED if version.startswith("tensorrt 11"))
    assert {name for _, name in missing(enterprise, rtx=True)} == RTX_ONLY


def test_the_real_package_has_them_too() -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not there for this platform")
    assert missing(names(import_module("tensorrt_rtx")), rtx=True) == []
