"""A TensorRT build, in a process of its own: `python -m fastvid_export.backends.tensorrt_child ASKED ANSWERED`."""

import logging
import os
from pathlib import Path
from typing import Any

from filelock import FileLock

from fastvid_export.backends.trt_api import BuilderOptions, Ranges, load_api
from fastvid_export.child_process import serve

logger = logging.getLogger(__name__)


def build(request: dict[str, Any]) -> dict[str, Any]:
    """The plan, and the timing cache if one is kept, are written where the request says."""
    if request["gpu"] is not None:
        import torch

        torch.cuda.set_device(request["gpu"])  # the one that the caller is on
    api = load_api(request["kind"])
    options = dict(request["options"])
    options["compute_capabilities"] = tuple(options["compute_capabilities"])
    profiles: list[Ranges] = [
        {name: (tuple(s), tuple(b), tuple(g)) for name, (s, b, g) in ranges.items()} for ranges in request["profiles"]
    ]
    cache = None if request["timing_cache"] is None else Path(request["timing_cache"])
    measured = cache.read_bytes() if cache is not None and cache.is_file() else None
    plan, measured = api.build(Path(request["graph"]), profiles, BuilderOptions(**options), measured)
    Path(request["plan"]).write_bytes(plan)
    if cache is not None and measured is not None:
        keep(cache, measured)
    return {"version": api.version}


def keep(cache: Path, measured: bytes) -> None:
    """Replace the timing cache whole, one build at a time; a build is not lost for its cache."""
    unfinished = cache.with_name(f".{cache.name}.{os.getpid()}")
    try:
        with FileLock(cache.with_name(f".{cache.name}.lock")):
            unfinished.write_bytes(measured)
            unfinished.replace(cache)
    except OSError as error:
        logger.warning("the timing cache %s was not written: %s", cache, error)


if __name__ == "__main__":
    serve(build)
