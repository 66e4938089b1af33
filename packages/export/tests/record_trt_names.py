"""Write the public names of TensorRT's classes as JSON; run by hand when a version is added to `trt_names.json`.

    python record_trt_names.py MODULE

MODULE is `tensorrt_rtx`, or `tensorrt_bindings` of the wheel `tensorrt-cu13-bindings`. The bindings load without the
vendor's libraries if libnvinfer, libnvinfer_plugin and libnvonnxparser are stubs that define the functions which
`nm -D --undefined-only` lists: createInferBuilder_INTERNAL, createInferRefitter_INTERNAL, createInferRuntime_INTERNAL,
createNvOnnxParser_INTERNAL, createNvOnnxParserRefitter_INTERNAL, getBuilderPluginRegistry, getNvOnnxParserVersion,
getPluginRegistry and initLibNvInferPlugins, each `void* f(void) { return 0; }`.
"""

import json
import sys
from functools import reduce
from importlib import import_module
from types import ModuleType

CLASSES = (
    *("Builder", "IBuilderConfig", "INetworkDefinition", "OnnxParser", "ParserError", "IOptimizationProfile"),
    *("ITimingCache", "ITensor", "ICudaEngine", "IExecutionContext", "Runtime", "ILogger", "IProgressMonitor"),
    *("ILogger.Severity", "BuilderFlag", "MemoryPoolType", "NetworkDefinitionCreationFlag"),
    *("ExecutionContextAllocationStrategy", "TensorIOMode", "DataType", "ComputeCapability", "EngineValidity"),
)


def names(module: ModuleType) -> dict[str, str]:
    """By class: its public names; empty where there is no such class."""
    found = {}
    for path in CLASSES:
        owner = reduce(lambda held, part: getattr(held, part, None), path.split("."), module)
        found[path] = "" if owner is None else " ".join(sorted(n for n in dir(owner) if not n.startswith("_")))
    return found


if __name__ == "__main__":
    rtx = sys.argv[1] == "tensorrt_rtx"
    module = import_module("tensorrt_rtx") if rtx else import_module("tensorrt_bindings")
    sys.stdout.write(json.dumps({module.__version__: names(module)}, indent=2))
