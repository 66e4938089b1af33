"""A build by torch-tensorrt, alone: `python -m fastvid_export.backends.torch_tensorrt_child ASKED ANSWERED`."""

from typing import Any

import torch

from fastvid_export.backends.torch_tensorrt import import_torch_tensorrt
from fastvid_export.child_process import serve
from fastvid_export.errors import BuildError


def build(request: dict[str, Any]) -> dict[str, Any]:
    """The engine is written where the request says."""
    torch.cuda.set_device(request["gpu"])  # the one that the caller is on
    torch_tensorrt = import_torch_tensorrt()
    program = torch.export.load(request["program"])
    inputs = {
        given["name"]: torch_tensorrt.Input(
            min_shape=tuple(given["shapes"][0]),
            opt_shape=tuple(given["shapes"][1]),
            max_shape=tuple(given["shapes"][2]),
            dtype=getattr(torch, given["dtype"]),
            name=given["name"],
        )
        for given in request["inputs"]
    }
    try:
        module = torch_tensorrt.dynamo.compile(
            program,
            kwarg_inputs=inputs,
            arg_inputs=(),
            attn_bias_is_causal=False,  # by default it takes every mask for a causal one
            **request["options"],
        )
        torch_tensorrt.save(module, request["engine"], output_format="exported_program", retrace=False)
    except Exception as error:  # of any class
        raise BuildError(f"torch-tensorrt built no engine: {type(error).__name__}: {error}") from error
    return {"version": str(torch_tensorrt.__version__)}


if __name__ == "__main__":
    serve(build)
