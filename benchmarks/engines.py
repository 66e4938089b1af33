"""How long do FSVideo's parts take as engines, beside eager and torch.compile? Random weights, on a GPU.

Parts: FSAE-Lite's decoder, the latent upsampler, and a few blocks of FSVideoDiT at full width, at the lengths of a
720x1280x121 video: the base, merged to half its latent frames, with tokens dropped, and the refiner's. One engine has
all the lengths of a part in its range; another has that length alone, so that the range has a price. Parity is the
largest difference to eager in the same precision over eager's largest value. What a backend cannot build is a row with
the reason.

    python benchmarks/engines.py --device cuda --output benchmarks/results/engines_h200_202611.json
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fastvid_dit import FSVIDEO_14B, FSVideoDiT
from fastvid_export import (
    AOTInductor,
    AxisRange,
    BuildError,
    EngineError,
    Exportable,
    ExportError,
    OnnxRuntime,
    ParityError,
    Profile,
    TensorRT,
    build_engine,
    decoder_exportable,
    load_engine,
    transformer_exportable,
    upsampler_exportable,
)
from fastvid_vae import FSAE, FSAE_LITE, LATENT_UPSAMPLER_2X, LatentUpsampler
from provenance import provenance
from report import publish
from timing import peak_gigabytes, timed
from torch import Tensor, nn

Sizes = dict[str, int]
REFUSALS = (
    BuildError,
    EngineError,
    ExportError,
    ParityError,
    ImportError,
    ValueError,
    MemoryError,
    torch.OutOfMemoryError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A module as a graph, and the lengths to run it at."""

    name: str
    exportable: Callable[[nn.Module], Exportable]
    model: Callable[[], nn.Module]
    lengths: Mapping[str, Sizes]


def parts(toy: bool) -> list[Part]:
    """At full width, or as small as they get."""
    narrow: dict[str, Any] = {"encoder_widths": (4, 8, 8, 16), "decoder_widths": (4, 8, 8, 16)} if toy else {}
    if toy:
        narrow |= {
            "latent_channels": 4,
            "stage_kinds": ("conv", "conv", "conv", "attention"),
            "encoder_depths": (1, 1, 1, 1),
            "decoder_depths": (1, 1, 1, 1),
            "temporal_stages": (0, 1),
            "head_width": 8,
            "injection": (None, None, None, None),
            "injection_head_width": 8,
            "latent_mean": (0.0,) * 4,
            "latent_std": (1.0,) * 4,
        }
    small: dict[str, Any] = {"width": 24, "num_heads": 2, "ffn_width": 32, "text_width": 8, "frequency_width": 16}
    few = replace(FSVIDEO_14B, num_blocks=2, image_width=None, **(small if toy else {}))
    wide = replace(LATENT_UPSAMPLER_2X, latent_channels=4, width=8, num_blocks=1) if toy else LATENT_UPSAMPLER_2X
    words, video = {"b": 1, "l": 8 if toy else 512}, (5, 2, 3) if toy else (31, 12, 20)
    base = dict(zip("thw", video, strict=True))
    tokens = video[0] * video[1] * video[2]
    refined = {**base, "h": 2 * base["h"], "w": 2 * base["w"]}
    chunk = {"b": 1, **base, "t": 3 if toy else 5}
    kept = {axis: int(0.7 * tokens) for axis in ("q0", "k0", "q1", "k1")}
    return [
        Part(
            name="FSAE-Lite decoder",
            model=lambda: FSAE(replace(FSAE_LITE, **narrow)),
            exportable=lambda model: decoder_exportable(model, reference=False),  # type: ignore[arg-type]
            lengths={"17 frames": chunk},
        ),
        Part(
            name="upsampler",
            model=lambda: LatentUpsampler(wide),
            exportable=upsampler_exportable,  # type: ignore[arg-type]
            lengths={"121 frames": {"b": 1, **base}},
        ),
        Part(
            name="FSVideoDiT, 2 blocks",
            model=lambda: FSVideoDiT(few),
            exportable=lambda model: transformer_exportable(model, text_mask=False),  # type: ignore[arg-type]
            lengths={
                "base": words | base,
                "merged": words | base | {"t": (base["t"] + 1) // 2},
                "refiner": words | refined,
            },
        ),
        Part(
            name="FSVideoDiT, 2 blocks of fewer tokens",
            model=lambda: FSVideoDiT(few),
            exportable=lambda model: transformer_exportable(
                model,  # type: ignore[arg-type]
                text_mask=False,
                q_blocks=(0, 1),
                kv_blocks=(0, 1),
            ),
            lengths={"70 % of the tokens": words | base | kept},
        ),
    ]


def backends(device: str) -> dict[str, Any]:
    if device == "cpu":
        return {"AOTInductor": AOTInductor(), "ONNX Runtime": OnnxRuntime()}
    return {
        "AOTInductor": AOTInductor(device="cuda"),
        "ONNX Runtime CUDA": OnnxRuntime(provider="cuda"),
        "TensorRT": TensorRT(kind="tensorrt"),
    }


def around(lengths: Mapping[str, Sizes]) -> dict[str, AxisRange]:
    """From the smallest to the largest; tracers take 1, and an axis of 1 or 2, for a constant."""
    axes = {}
    for axis in next(iter(lengths.values())):
        sizes = [sizes[axis] for sizes in lengths.values()]
        axes[axis] = AxisRange(minimum=1, example=max(2, sizes[0]), maximum=max(4, *sizes))
    return axes


def measure(part: Part, device: str, dtype: torch.dtype, runs: int) -> list[dict[str, Any]]:
    """Every backend at every length."""
    torch.manual_seed(0)
    model = part.model().to(device).eval().requires_grad_(False)
    lower = getattr(model, "lower_precision", None)
    if lower is None:
        model.to(dtype)
    else:  # keeps its islands of float32
        lower(dtype)
    for parameter in model.parameters():  # a fresh head is zero, and nothing could be compared
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    exportable = replace(part.exportable(model), axes=around(part.lengths))
    compiled = torch.compile(exportable.module, dynamic=True)
    rows = []
    for length, sizes in part.lengths.items():
        inputs = exportable.draw_inputs(sizes)
        expected = exportable.module(**inputs)
        for name, call in (("eager", exportable.module), ("torch.compile", compiled)):
            rows.append(row(part, length, name, partial(call, **inputs), expected, device, runs))
    for name, backend in backends(device).items():
        rows += by_engine(part, exportable, name, backend, device, runs)
    return rows


def by_engine(
    part: Part, exportable: Exportable, name: str, backend: Any, device: str, runs: int
) -> list[dict[str, Any]]:
    """An engine for all lengths, and where there are several one for each."""
    rows = []
    ranges = {name: part.lengths}
    if len(part.lengths) > 1:
        ranges |= {f"{name}, {length} alone": {length: sizes} for length, sizes in part.lengths.items()}
    for case, lengths in ranges.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                bounded = replace(exportable, axes=around(lengths))
                profile = Profile(name="dense", axes=bounded.axes)
                cases = [next(iter(lengths.values()))]
                record = build_engine(bounded, folder, backend=backend, profiles=[profile], cases=cases)
                engine = load_engine(folder, expect=bounded).engine
            except REFUSALS as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                print(f"{part.name}: {case}: {reason}", file=sys.stderr)
                rows += [{"part": part.name, "length": length, "case": case, "refused": reason} for length in lengths]
                continue
            for length, sizes in lengths.items():
                inputs = exportable.draw_inputs(sizes)
                expected = exportable.module(**inputs)
                found = row(part, length, case, lambda: engine(inputs)[0], expected, device, runs)  # noqa: B023
                rows.append(found | {"build_seconds": record.seconds})
    return rows


def row(
    part: Part, length: str, case: str, call: Callable[[], Tensor], expected: Tensor, device: str, runs: int
) -> dict[str, Any]:
    """Latency after two calls that do not count, peak memory, and the difference to eager."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        got = call()
    difference = float((got.cpu().float() - expected.cpu().float()).abs().max() / expected.abs().max())
    return {
        "part": part.name,
        "length": length,
        "case": case,
        "seconds": statistics.median(timed(call, device) for _ in range(runs)),
        "peak_gigabytes": peak_gigabytes(device),
        "difference": difference,
    }


def table(facts: Mapping[str, Any]) -> str:
    """A row for each part, length and backend, as ratios to eager."""
    eager = {(r["part"], r["length"]): r["seconds"] for r in facts["results"] if r["case"] == "eager"}
    lines = [
        f"{facts['precision']}, random weights. Ratios above 1 are faster than eager.",
        "",
        "| part | length | backend | ms | of eager | peak GB | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in facts["results"]:
        head = f"| {r['part']} | {r['length']} | {r['case']} |"
        if "refused" in r:
            lines.append(f"{head} refused: {r['refused']} | | | |")
            continue
        ratio = eager[r["part"], r["length"]] / r["seconds"]
        lines.append(
            f"{head} {1000 * r['seconds']:.2f} | {ratio:.2f} | {r['peak_gigabytes']:.2f} | {r['difference']:.1e} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--toy", action="store_true", help="tiny parts in float32: only to see that it runs")
    parser.add_argument("--parts", nargs="+", help="names of parts; all without")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()

    dtype = torch.float32 if options.toy else torch.bfloat16
    results = []
    with torch.no_grad():
        for part in parts(options.toy):
            if options.parts is None or part.name in options.parts:
                results += measure(part, options.device, dtype, options.runs)
    facts = provenance("engines", ("torch", "fastvid-export", "fastvid-dit", "fastvid-vae"), options.device) | {
        "precision": str(dtype).removeprefix("torch."),
        "results": results,
    }
    publish(facts, table(facts), options.output)


if __name__ == "__main__":
    main()
