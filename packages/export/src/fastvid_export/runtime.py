"""An exported graph, ready to run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from fastvid_export.errors import EngineError


@final
class OnnxEngine:
    """An ONNX graph on the CPU, by onnxruntime.

    Args:
        path: the .onnx file; its weights may lie in a file beside it.
    Raises:
        ImportError: onnxruntime is not installed.
        EngineError: onnxruntime cannot load the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # failures are raised, with the same text
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            raise EngineError(f"onnxruntime cannot load {Path(path).name}: {error}") from error
        self.inputs = tuple(argument.name for argument in self._session.get_inputs())
        self.outputs = tuple(argument.name for argument in self._session.get_outputs())

    def __call__(self, inputs: Mapping[str, Tensor], /) -> tuple[Tensor, ...]:
        """Run the graph.

        Args:
            inputs: by name, all of them and no others.
        Raises:
            EngineError: onnxruntime refuses the inputs, or fails on them.
        """
        arrays = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in inputs.items()}
        try:
            outputs = self._session.run(None, arrays)
        except Exception as error:  # as above
            raise EngineError(f"onnxruntime: {error}") from error
        return tuple(torch.from_numpy(output) for output in outputs)


def import_onnxruntime() -> Any:  # the package has no types
    """The onnxruntime package.

    Raises:
        ImportError: with the line that installs it.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError('onnxruntime is not installed; run: pip install "fastvid-export[ort]"') from error
    return onnxruntime
