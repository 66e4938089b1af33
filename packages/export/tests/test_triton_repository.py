"""Triton's files are read back by protobuf's own parser, with the part of Triton's schema that they use."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastvid_export import EngineError, TensorRT, build_engine
from fastvid_export.load import read_record
from fastvid_export.triton_repository import model_config, write_triton_model
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from .engines import PROFILES, TextBackend, small

ENUMS = {
    "DataType": {"TYPE_BOOL": 1, "TYPE_INT32": 8, "TYPE_INT64": 9, "TYPE_FP16": 10, "TYPE_FP32": 11, "TYPE_BF16": 14},
    "Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3},
}
MESSAGES = {
    "Input": [("name", 1, "string"), ("data_type", 2, "DataType"), ("dims", 4, "int64*")],
    "Output": [("name", 1, "string"), ("data_type", 2, "DataType"), ("dims", 3, "int64*")],
    "Group": [("kind", 4, "Kind"), ("count", 2, "int32"), ("gpus", 3, "int32*"), ("profile", 5, "string*")],
    "Value": [("string_value", 1, "string")],
    "Parameter": [("key", 1, "string"), ("value", 2, "Value")],
    "ModelConfig": [
        ("name", 1, "string"),
        ("max_batch_size", 4, "int32"),
        ("input", 5, "Input*"),
        ("output", 6, "Output*"),
        ("instance_group", 7, "Group*"),
        ("parameters", 14, "Parameter*"),
        ("backend", 17, "string"),
    ],
}


def schema() -> Any:
    """The class of Triton's ModelConfig, as far as it is used."""
    file = descriptor_pb2.FileDescriptorProto(name="triton.proto", package="t", syntax="proto3")
    for enum, values in ENUMS.items():
        described = file.enum_type.add(name=enum)
        if 0 not in values.values():
            described.value.add(name=f"{enum}_NONE", number=0)
        for name, number in sorted(values.items(), key=lambda item: item[1]):
            described.value.add(name=name, number=number)
    for message, fields in MESSAGES.items():
        made = file.message_type.add(name=message)
        for name, number, kind in fields:
            plain = kind.rstrip("*")
            field = made.field.add(name=name, number=number, label=3 if kind.endswith("*") else 1)
            if plain in ENUMS or plain in MESSAGES:
                field.type, field.type_name = (14 if plain in ENUMS else 11), f".t.{plain}"
            else:
                field.type = {"string": 9, "int32": 5, "int64": 3}[plain]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.ModelConfig"))


def parse(text: str) -> Any:
    return text_format.Parse(text, schema()())


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """The folder of what says that it is a plan of TensorRT."""
    folder = tmp_path / "engine"
    build_engine(small(), folder, backend=TextBackend(name="tensorrt"), profiles=PROFILES)
    return folder


def test_a_model_of_the_repository(plan: Path, tmp_path: Path) -> None:
    model = write_triton_model(plan, tmp_path / "models", name="fake-engine", gpus=(0, 1))
    assert sorted(str(path.relative_to(tmp_path / "models")) for path in model.rglob("*") if path.is_file()) == [
        "fake-engine/1/model.plan",
        "fake-engine/config.pbtxt",
    ]
    assert (model / "1" / "model.plan").read_text() == "plan"
    config = parse((model / "config.pbtxt").read_text())
    assert (config.name, config.backend, config.max_batch_size) == ("fake-engine", "tensorrt", 0)
    (x,), (y,), (group,) = config.input, config.output, config.instance_group
    assert (x.name, x.data_type, list(x.dims)) == ("x", ENUMS["DataType"]["TYPE_FP32"], [-1, -1, 4])
    assert (y.name, y.data_type, list(y.dims)) == ("y", ENUMS["DataType"]["TYPE_FP32"], [-1, -1, 4])
    assert (group.kind, group.count, list(group.gpus), list(group.profile)) == (1, 1, [0, 1], ["0", "1", "2"])
    (parameter,) = config.parameters
    assert (parameter.key, parameter.value.string_value) == (
        "execution_context_allocation_strategy",
        "ON_PROFILE_CHANGE",
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "int64", "bool"])
def test_types(plan: Path, dtype: str) -> None:
    record = read_record(plan)
    (x,) = record.inputs
    text = model_config(replace(record, inputs=(replace(x, dtype=dtype),)), name="m", gpus=(0,))
    names = {number: name for name, number in ENUMS["DataType"].items()}
    short = {"float16": "FP16", "bfloat16": "BF16"}.get(dtype, dtype.upper())
    assert names[parse(text).input[0].data_type] == f"TYPE_{short}"


def test_the_parser_would_see_a_mistake(plan: Path) -> None:
    text = model_config(read_record(plan), name="m", gpus=(0,))
    with pytest.raises(text_format.ParseError):
        parse(text.replace("dims", "dimensions"))


def test_what_is_refused(plan: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    for name in ("", "../m", "a b", "m/1"):
        with pytest.raises(ValueError, match="`name` must be a plain word"):
            write_triton_model(plan, models, name=name)
    write_triton_model(plan, models, name="m")
    with pytest.raises(ValueError, match="`name` 'm' is taken"):
        write_triton_model(plan, models, name="m")
    build_engine(small(), tmp_path / "text", backend=TextBackend(), profiles=PROFILES)
    with pytest.raises(ValueError, match="`engine` is one of text; Triton's backend runs plans of tensorrt only"):
        write_triton_model(tmp_path / "text", models, name="other")
    (plan / "engine.json").unlink()
    with pytest.raises(EngineError, match="there is no engine"):
        write_triton_model(plan, models, name="other")
    assert [path.name for path in models.iterdir() if path.is_dir()] == ["m"]
    assert TensorRT(kind="tensorrt").name == "tensorrt"
