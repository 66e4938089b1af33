"""What is needed to judge the numbers of a benchmark, and to repeat them."""

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]


def provenance(question: str, packages: Sequence[str], device: str) -> dict[str, Any]:
    """Commit, versions of python and the packages, machine, and how busy it was; `device` is `cpu` or `cuda`."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain"], check=True, capture_output=True, text=True).stdout.strip()
    return {
        "question": question,
        "commit": commit,
        "uncommitted_changes": bool(changed),
        "versions": {"python": platform.python_version()} | {package: version(package) for package in packages},
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "weights": "random",
    }


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
