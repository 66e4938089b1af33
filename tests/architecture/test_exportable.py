"""Model code keeps to what torch.export and the engines behind it take: the part of it that syntax shows.

No complex numbers, no `chunk`, no shapes that depend on values, no sorting, no transposed convolutions, no remainder by
a tensor's size, and no branch or assertion on a tensor's size: the exporter keeps the branch that its example took,
without a word. A branch that ends in `raise` is a check of arguments and stays out of the graph.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from .workspace import calls, last_name, source_files

COMPLEX_DTYPES = {"complex32", "complex64", "complex128", "cfloat", "cdouble"}
COMPLEX_NAMES = COMPLEX_DTYPES | {"complex", "polar", "view_as_complex", "view_as_real", "fft"}
CHUNKS = {"chunk", "tensor_split"}
OF_VALUES = {"argwhere", "bincount", "item", "masked_select", "nonzero", "tolist", "unique", "unique_consecutive"}
SORTS = {"argsort", "kthvalue", "msort", "sort", "topk"}
TRANSPOSED = {"ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"} | {f"conv_transpose{n}d" for n in (1, 2, 3)}
REFUSED = {
    **dict.fromkeys(CHUNKS, "a sequence of tensors"),
    **dict.fromkeys(OF_VALUES, "what depends on values"),
    **dict.fromkeys(SORTS, "sorting, of which TensorRT takes 3840 at most"),
    **dict.fromkeys(TRANSPOSED, "a transposed convolution, which TensorRT lacks in bfloat16"),
}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def is_size(node: ast.AST, sizes: set[str]) -> bool:
    """Whether the expression reads a tensor's size, directly or by a name that holds one."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and part.attr == "shape":
            return True
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr in ("size", "numel"):
            return True
        if isinstance(part, ast.Name) and part.id in sizes:
            return True
    return False


def names_of_sizes(function: ast.FunctionDef) -> set[str]:
    """Local names that are assigned from a tensor's size."""
    sizes: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and is_size(node.value, set()):
            if isinstance(node.value, ast.Call) and last_name(node.value.func) not in ("size", "numel", "len"):
                continue  # a tensor made with that size, not the size
            sizes |= {part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return sizes - {"_"}


def only_raises(statement: ast.If) -> bool:
    return isinstance(statement.body[-1], ast.Raise) and not statement.orelse


def unexportable(source: str) -> list[str]:
    """Lines that an exporter refuses, or takes and gets wrong."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        name = last_name(node) if isinstance(node, ast.expr) else ""
        if name in COMPLEX_NAMES or (isinstance(node, ast.Constant) and isinstance(node.value, complex)):
            found.append(f"{node.lineno}: complex number")
    for call in calls(tree):
        name = last_name(call.func)
        if name in REFUSED:
            found.append(f"{call.lineno}: {name}: {REFUSED[name]}")
    found += [
        f"{node.lineno}: nearest-exact, a gather in every axis"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value == "nearest-exact"
    ]
    for function in functions(tree):
        sizes = names_of_sizes(function)
        for node in ast.walk(function):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) and is_size(node.right, sizes):
                found.append(f"{node.lineno}: remainder by a size")
            elif (isinstance(node, ast.IfExp) or (isinstance(node, ast.If) and not only_raises(node))) and is_size(
                node.test, sizes
            ):
                found.append(f"{node.lineno}: branch on a size")
            elif isinstance(node, ast.Assert) and is_size(node.test, sizes):
                found.append(f"{node.lineno}: assertion on a size, which no graph keeps")
    return found


def model_files() -> list[Path]:
    """The modules whose code an exporter traces; what cuts videos into chunks and tiles runs around the graph."""
    cutting = {"passes.py", "inputs.py", "memory.py", "tiling.py", "overhang.py", "latent_grid.py"}
    around = cutting | {"checkpoint.py", "metrics.py", "video_io.py"}
    outside = {"training", "conversion", "__main__.py", "cli.py", "reconstruct.py"} | around
    files = [*source_files("vae"), *source_files("dit")]
    return [file for file in files if not outside & set(file.parts)]


def test_model_code_is_exportable() -> None:
    files = model_files()
    assert files
    assert {str(file): found for file in files if (found := unexportable(file.read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "torch.polar(a, b)",
        "torch.view_as_complex(x)",
        "x.to(torch.complex64)",
        "y = x * 1j",
        "torch.fft.rfft(x)",
        "a, b = x.chunk(2, dim=1)",
        "a, b = torch.chunk(x, 2)",
        "y = x[mask.nonzero()]",
        "y = torch.masked_select(x, mask)",
        "k = lengths.max().item()",
        "y = x.topk(3).values",
        "y = torch.sort(x)",
        "self.up = nn.ConvTranspose3d(4, 4, 2)",
        "y = functional.conv_transpose3d(x, w)",
        "y = functional.interpolate(x, scale_factor=2.0, mode='nearest-exact')",
        "def f(x):\n    assert x.shape[3] % 2 == 0\n    return x",
        "def f(x):\n    return x % x.shape[0]",
        "def f(x):\n    n = x.size(0)\n    return x % n",
        "def f(x):\n    if x.shape[2] > 1:\n        x = x * 2\n    return x",
        "def f(x):\n    b, c, t, h, w = x.shape\n    return x if t == 1 else x * 2",
        "def f(x):\n    t = x.shape[2]\n    if t == 1:\n        return x\n    return x * 2",
        "def f(x):\n    if x.shape[2] < 1:\n        raise ValueError\n    else:\n        x = x + 1\n    return x",
    ],
)
def test_what_exporters_get_wrong_is_seen(source: str) -> None:
    assert unexportable(source)


@pytest.mark.parametrize(
    "source",
    [
        "a, b = x.unbind(1)",
        "y = functional.interpolate(x, scale_factor=2.0, mode='nearest')",
        "def f(config):\n    assert config.width % 2 == 0",
        "def f(x):\n    if x.shape[1] != 3:\n        raise ValueError('no')\n    return x",
        "def f(x, config):\n    return x if config.causal else x * 2",
        "def f(x):\n    t = x.shape[2]\n    return torch.arange(t) % 4",
    ],
)
def test_what_exports_passes(source: str) -> None:
    assert unexportable(source) == []
