"""An exported graph, ready to run on the CPU: fast by onnxruntime, or operator by operator as ONNX defines them."""

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


@final
class ReferenceEngine:
    """An ONNX graph by onnx's own evaluator: slow, and the one that has bfloat16 on a CPU.

    Args:
        path: the .onnx file; its weights may lie in a file beside it.
    Raises:
        EngineError: the evaluator cannot load the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        from onnx.reference import ReferenceEvaluator

        try:
            self._evaluator = ReferenceEvaluator(os.fspath(path), new_ops=[_attention_in_float32()])
        except Exception as error:  # as above, of all kinds
            raise EngineError(f"onnx cannot load {Path(path).name}: {error}") from error
        self.inputs = tuple(self._evaluator.input_names)
        self.outputs = tuple(self._evaluator.output_names)

    def __call__(self, inputs: Mapping[str, Tensor], /) -> tuple[Tensor, ...]:
        """Run the graph.

        Args:
            inputs: by name, all of them and no others.
        Raises:
            EngineError: the evaluator fails on them.
        """
        try:
            outputs = self._evaluator.run(None, {name: _to_numpy(tensor) for name, tensor in inputs.items()})
        except Exception as error:  # as above
            raise EngineError(f"onnx's reference: {error}") from error
        return tuple(_to_torch(output) for output in outputs)


def _attention_in_float32() -> Any:
    """Attention as engines run it, rounded once: onnx's adds up in bfloat16, and is 2 % off over 256 tokens."""
    import ml_dtypes
    import numpy as np
    from onnx.reference.ops.op_attention import Attention as AttentionOfOnnx

    class Attention(AttentionOfOnnx):  # the name is the operator's
        op_domain = ""

        def _run(self, *inputs: Any, **attributes: Any) -> Any:
            narrow = np.dtype(ml_dtypes.bfloat16)
            if inputs[0].dtype != narrow:
                return super()._run(*inputs, **attributes)
            widened: list[Any] = [
                array.astype(np.float32) if array is not None and array.dtype == narrow else array for array in inputs
            ]
            results = super()._run(*widened, **attributes)
            return tuple(array if array is None else array.astype(narrow) for array in results)

    return Attention


def _to_numpy(tensor: Tensor) -> Any:
    import ml_dtypes  # a part of onnx's installation

    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:  # numpy's view of it comes from a package that torch does not know
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _to_torch(array: Any) -> Tensor:
    import numpy as np

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(np.ascontiguousarray(array).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.ascontiguousarray(array))


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
