"""What is needed to repeat a run, and what it took."""

import hashlib
import platform
import resource
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

SAMPLE = 2**20


def environment(device: str, dtype: str) -> dict[str, Any]:
    """Versions, and where the run took place."""
    named = {distribution.name.lower(): distribution.version for distribution in distributions()}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        **{name: named[name] for name in sorted(named) if name.startswith("fastvid-")},
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor(),
        "dtype": dtype,
        "threads": torch.get_num_threads(),
    }


def peak_memory(device: str) -> dict[str, int | None]:
    """Bytes that this process held at most, on the host and on the device."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "host": peak if sys.platform == "darwin" else peak * 1024,
        "device": torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else None,
    }


def model_fingerprint(folder: Path) -> str:
    """SHA-256 over name, size and first mebibyte of each file: tells models apart without reading gigabytes."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder).as_posix()} {file.stat().st_size}\n".encode())
        with file.open("rb") as opened:
            digest.update(opened.read(SAMPLE))
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def output_record(files: tuple[Path, Path, Path], frames: UInt8[np.ndarray, "T H W 3"], fps: float) -> dict[str, Any]:
    """What was written. The hash is that of all frames' bytes: equal for two runs that made the same video."""
    return {
        "video": str(files[0]),
        "sidecar": str(files[1]),
        "contact_sheet": str(files[2]),
        "num_frames": len(frames),
        "height": frames.shape[1],
        "width": frames.shape[2],
        "fps": fps,
        "frames_sha256": hashlib.sha256(frames.tobytes()).hexdigest(),
    }
