"""How long a call takes, alone or in a process of its own, and how fast the device multiplies matrices."""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch


def timed(call: Callable[[], object], device: str) -> float:
    """Seconds of a call: by events on a GPU, by the clock elsewhere."""
    if device != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    first.record()
    call()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1000


def matmul_ceiling(device: str, dtype: torch.dtype) -> float:
    """Operations a second of a large square product in this data type."""
    side = 512 if device == "cpu" else 8192
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    seconds = statistics.median(timed(lambda: a @ b, device) for _ in range(10))
    return float(2 * side**3 / seconds)


def peak_gigabytes(device: str) -> float:
    """The most that this process ever held."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says there, a process inherits from the one that started it
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def measure_apart(script: str, name: str, setting: Any) -> dict[str, Any]:
    """What `script --case NAME --setting JSON` prints, in a process of its own; `setting` is a dataclass."""
    command = [sys.executable, script, "--case", name, "--setting", json.dumps(asdict(setting))]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return measured
