"""A build by AOTInductor, alone: `python -m fastvid_export.backends.aotinductor_child ASKED ANSWERED`."""

import logging
import warnings
from typing import Any

import torch

from fastvid_export.child_process import serve
from fastvid_export.errors import BuildError

logger = logging.getLogger(__name__)

LOST_RANGE = "vr must not be None for symbol"
"""What torch 2.13 says where it folds the index of a repeated border into that of a shuffle, and loses a loop."""


def build(request: dict[str, Any]) -> dict[str, Any]:
    """The package is written where the request says."""
    options = {name: value for name, value in request["options"].items() if value}
    if request["gpu"] is not None:
        torch.cuda.set_device(request["gpu"])  # the one that the caller is on
    try:
        try:
            _compile(request, options)
        except Exception as error:  # of any class, from torch or from the C++ compiler it starts
            if LOST_RANGE not in str(error):
                raise
            logger.warning("torch cannot fold the indices of this graph; once more without")
            _compile(request, {**options, "constant_and_index_propagation": False})
    except Exception as error:
        raise BuildError(f"aotinductor built no engine: {type(error).__name__}: {error}") from error
    return {"version": torch.__version__}


def _compile(request: dict[str, Any], options: dict[str, Any]) -> None:
    import torch._inductor

    program = torch.export.load(request["program"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside torch
        torch._inductor.aoti_compile_and_package(program, package_path=request["package"], inductor_configs=options)


if __name__ == "__main__":
    serve(build)
