"""Digests of what an engine is made of: of files, of a module's weights, of a graph without them."""

import hashlib
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

WEIGHT_BYTES = 1024
"""A constant of a graph that is larger counts as a weight; smaller ones (shapes, factors) count as graph."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@final
class TensorDigests:
    """SHA-256 of the values of tensors, each of them read once: for as long as nothing writes to them."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Tensor, bytes]] = {}  # the tensor is held, so that no other gets its identity

    def of(self, tensor: Tensor) -> bytes:
        """Of this one."""
        if id(tensor) not in self._known:
            plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            array: Any = plain  # is a buffer, which its types do not say
            self._known[id(tensor)] = tensor, hashlib.sha256(array).digest()
        return self._known[id(tensor)][1]


def weights_digest(module: nn.Module, known: TensorDigests | None = None) -> str:
    """SHA-256 of all parameters and buffers with their names, types and shapes, and of the configurations.

    Numbers of a configuration, such as the mean of latents, become constants of the graph. The same on every device.

    Args:
        known: shared by calls for modules around one model, whose weights are then read once.
    """
    known = known or TensorDigests()
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        config = getattr(part, "config", None)
        if is_dataclass(config):
            digest.update(f"{name} {config!r}\n".encode())
    for name, tensor in sorted({**dict(module.named_parameters()), **dict(module.named_buffers())}.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(known.of(tensor))
    return digest.hexdigest()


def graph_digest(path: Path) -> str:
    """SHA-256 of an ONNX file without its weights, and without what only says where it was traced."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    for stray in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.functions):
        del stray.metadata_props[:]
        stray.doc_string = ""
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > WEIGHT_BYTES or tensor.external_data:
            tensor.ClearField("raw_data")
            tensor.ClearField("external_data")
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
