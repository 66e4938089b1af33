"""An ONNX graph of more than 2 GiB, which one file cannot hold: how much memory and time does its export take?

FSVideo's 14B transformer with so many of its 40 blocks, random weights in float32 on the CPU. The weights go into a
file of their own without being asked to; then the graph is compared with eager at two sizes. Peak memory is that of
this process, from its start: model, graph, files and comparison.

    uv run python benchmarks/large_export.py --blocks 1 --output benchmarks/results/large_export_<machine>_<yyyymm>.json
    uv run python benchmarks/large_export.py --toy
"""

import argparse
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from fastvid_dit import FSVIDEO_14B, FSVideoDiT
from fastvid_export import export_onnx, transformer_exportable
from provenance import provenance
from report import publish
from torch import nn

TOY = {"width": 64, "num_heads": 2, "ffn_width": 128}
KIB = 1024 if sys.platform == "linux" else 1  # macOS counts bytes


def gibibytes(num_bytes: int) -> float:
    return round(num_bytes / 2**30, 2)


def peak() -> int:
    """Bytes of this process at its largest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


def build(num_blocks: int, *, toy: bool) -> nn.Module:
    """Every parameter random, so that the output is not zero."""
    model = FSVideoDiT(replace(FSVIDEO_14B, num_blocks=num_blocks, **(TOY if toy else {})))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3
            parameter.normal_(generator=generator).mul_(scale)
    return model.eval()


def measure(num_blocks: int, folder: Path, *, toy: bool) -> dict[str, Any]:
    model = build(num_blocks, toy=toy)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    before, started = peak(), time.perf_counter()
    exportable = transformer_exportable(model, text_mask=False)
    small = dict.fromkeys(exportable.axes, 1)
    report = export_onnx(
        exportable,
        folder / "model.onnx",
        cases=[small, exportable.example_sizes],
        external_weights=True if toy else None,
    )
    sizes = {path.suffix: path.stat().st_size for path in folder.iterdir()}
    return {
        "blocks": num_blocks,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "weights_gib": gibibytes(weights),
        "graph_file_bytes": sizes[".onnx"],
        "weights_file_gib": gibibytes(sizes[".weights"]),
        "seconds": round(time.perf_counter() - started, 1),
        "peak_gib_with_the_model": gibibytes(before),
        "peak_gib": gibibytes(peak()),
        "peak_over_weights": round(peak() / weights, 2),
        "largest_relative_error": report.worst,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--toy", action="store_true", help="narrow, to see that it runs")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(arguments.blocks, Path(folder), toy=arguments.toy)
    packages = ("torch", "onnx", "onnxscript", "onnxruntime", "fastvid-dit", "fastvid-export")
    facts = provenance("large_export", packages, "cpu") | {"toy": arguments.toy} | measured
    table = "".join(f"| {name.replace('_', ' ')} | {value} |\n" for name, value in measured.items())
    publish(facts, f"| quantity | value |\n|---|---|\n{table}", arguments.output)


if __name__ == "__main__":
    main()
