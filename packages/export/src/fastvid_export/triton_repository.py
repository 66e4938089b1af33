"""An engine's folder -> a model of a Triton Inference Server.

Source of the fields: Triton's `model_config.proto`. Only plans of TensorRT: the other engines need code around them.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from fastvid_export.exportable import Size
from fastvid_export.load import read_record
from fastvid_export.record import EngineRecord
from fastvid_export.workshop import locked, workshop

DATA_TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "bfloat16": "TYPE_BF16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "bool": "TYPE_BOOL",
}


def write_triton_model(
    engine: str | os.PathLike[str], repository: str | os.PathLike[str], *, name: str, gpus: tuple[int, ...] = (0,)
) -> Path:
    """Write `repository/name/config.pbtxt` and `repository/name/1/model.plan`.

    The batch is an axis like the others, so Triton batches nothing itself; it picks the profile by the shapes. Memory
    is taken for the profile in use only, not for the largest.

    Args:
        engine: folder of a TensorRT engine.
        repository: folder of the server's models; made if it is not there.
        name: of the model; must not be there yet.
        gpus: on which an instance runs.
    Returns:
        The folder of the model.
    Raises:
        ValueError: the engine is none of TensorRT, the name is no plain word, or taken.
        EngineError: the engine's folder is damaged.
    """
    source, target = Path(engine), Path(repository) / name
    record = read_record(source)
    if record.backend != "tensorrt":
        raise ValueError(f"`engine` is one of {record.backend}; Triton's backend runs plans of tensorrt only")
    if not name.replace("-", "_").isidentifier():
        raise ValueError(f"`name` must be a plain word, got {name!r}; such as {record.name.replace(' ', '_')!r}")
    with locked(target, wait=-1), workshop(target) as shop:
        if target.exists():
            raise ValueError(f"`name` {name!r} is taken in {repository}; remove {target} first")
        model = shop / name
        (model / "1").mkdir(parents=True)
        shutil.copyfile(source / record.files[0].name, model / "1" / "model.plan")
        (model / "config.pbtxt").write_text(model_config(record, name=name, gpus=gpus), encoding="utf-8")
        model.replace(target)
    return target


def model_config(record: EngineRecord, *, name: str, gpus: tuple[int, ...]) -> str:
    """The text of `config.pbtxt`."""
    inputs = ",\n".join(
        f'  {{ name: "{tensor.name}", data_type: {DATA_TYPES[tensor.dtype]}, dims: {_dims(tensor.shape)} }}'
        for tensor in record.inputs
    )
    outputs = ",\n".join(
        f'  {{ name: "{result.name}", data_type: {DATA_TYPES[result.dtype]}, dims: {_dims(result.dims)} }}'
        for result in record.results
    )
    profiles = ", ".join(f'"{index}"' for index in range(len(record.profiles)))
    return f"""# Made from the engine {record.key}.
name: "{name}"
backend: "tensorrt"
max_batch_size: 0
input [
{inputs}
]
output [
{outputs}
]
instance_group [
  {{ kind: KIND_GPU, count: 1, gpus: [{", ".join(map(str, gpus))}], profile: [{profiles}] }}
]
parameters {{
  key: "execution_context_allocation_strategy"
  value {{ string_value: "ON_PROFILE_CHANGE" }}
}}
"""


def _dims(shape: Sequence[Size | None]) -> str:
    return f"[{', '.join(str(size) if isinstance(size, int) else '-1' for size in shape)}]"
