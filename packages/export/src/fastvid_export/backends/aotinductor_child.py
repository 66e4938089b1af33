"""A build by AOTInductor, alone: `python -m fastvid_export.backends.aotinductor_child ASKED ANSWERED`."""

import warnings
from typing import Any

from fastvid_export.child_process import serve
from fastvid_export.errors import BuildError


def build(request: dict[str, Any]) -> dict[str, Any]:
    """The package is written where the request says."""
    import torch._inductor

    program = torch.export.load(request["program"])
    options = {name: value for name, value in request["options"].items() if value}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside torch
            torch._inductor.aoti_compile_and_package(program, package_path=request["package"], inductor_configs=options)
    except Exception as error:  # of any class, from torch or from the C++ compiler it starts
        raise BuildError(f"aotinductor built no engine: {type(error).__name__}: {error}") from error
    return {"version": torch.__version__}


if __name__ == "__main__":
    serve(build)
