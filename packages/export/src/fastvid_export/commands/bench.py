"""The verb `export bench`: how long an engine takes beside its model."""

import json
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer

from fastvid_export.commands.device import DeviceFlag, on_device
from fastvid_export.commands.failures import failures
from fastvid_export.commands.opened import EngineFolder, EnginePart, ModelFolder, Opened, open_both


def bench(
    folder: EngineFolder,
    model: ModelFolder,
    part: EnginePart = None,
    device: DeviceFlag = "cpu",
    cuda_graphs: Annotated[
        bool, typer.Option("--cuda-graphs", help="TensorRT: record its launches and replay them.")
    ] = False,
    repeats: Annotated[int, typer.Option(help="Calls of each that are timed; the median counts.", min=1)] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print the times as one JSON object.")] = False,
) -> None:
    """Time an engine and its model in turn, at the size that each profile is tuned for."""
    with failures(as_json), on_device(device) as place:
        opened = open_both(folder, model, part, place, cuda_graphs=cuda_graphs)
        rows = [time_profile(opened, index, repeats) for index in range(len(opened.loaded.record.profiles))]
    if as_json:
        print(json.dumps({"engine": opened.loaded.record.key, "torch": torch.__version__, "profiles": rows}))
        return
    for row in rows:
        sizes = " ".join(f"{axis}={size}" for axis, size in row["sizes"].items())
        print(
            f"{row['profile']} ({sizes}): engine {row['engine_ms']:.2f} ms, eager {row['eager_ms']:.2f} ms,"
            f" {row['eager_ms'] / row['engine_ms']:.2f} times as fast"
        )


def time_profile(opened: Opened, index: int, repeats: int) -> dict[str, Any]:
    """Median milliseconds of both, called in turn after one call each that does not count."""
    profile = opened.loaded.record.profiles[index]
    inputs = opened.exportable.draw_inputs(profile.example)
    times: dict[str, list[float]] = {"engine_ms": [], "eager_ms": []}
    with torch.no_grad():
        for _ in range(repeats + 1):
            times["engine_ms"].append(_milliseconds(lambda: opened.loaded.engine(inputs)))
            times["eager_ms"].append(_milliseconds(lambda: opened.exportable.module(**inputs)))
    medians = {name: statistics.median(found[1:]) for name, found in times.items()}
    return {"profile": profile.name, "sizes": profile.example, **medians}


def _milliseconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    if torch.cuda.is_available():  # where an engine runs does not show in the model
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - started)
