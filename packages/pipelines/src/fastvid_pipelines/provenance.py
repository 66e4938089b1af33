"""What is needed to repeat a run, and what it took."""

import hashlib
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

LARGEST_READ_WHOLE = 2**30
SAMPLE = 2**20
NUM_SAMPLES = 64
LIBRARIES = ("av", "diffusers", "numpy", "open_clip_torch", "pillow", "safetensors", "transformers")


def versions() -> dict[str, str]:
    """Of everything that can change a result."""
    named = {distribution.name.lower(): distribution.version for distribution in distributions()}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        **{name: named[name] for name in sorted(named) if name in LIBRARIES or name.startswith("fastvid-")},
    }


def environment(device: str, dtype: str) -> dict[str, Any]:
    """Versions, and where the run took place."""
    return {
        **versions(),
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if device.startswith("cuda") else cpu_name(),
        "dtype": dtype,
        "threads": torch.get_num_threads(),
    }


def peak_memory(device: str) -> dict[str, int | None]:
    """Bytes that this process held at most, on the host and on the device; None where nobody knows."""
    return {
        "host": _host_peak(),
        "device": torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else None,
    }


def model_fingerprint(folder: Path) -> str:
    """SHA-256 over name, size and content of each file; of files above a gibibyte, 64 evenly spaced mebibytes.

    The first of them holds the header of a safetensors file, the last one its end.
    """
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder).as_posix()} {file.stat().st_size}\n".encode())
        for piece in _pieces(file):
            digest.update(piece)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def cpu_name() -> str:
    """The processor's model, as far as the system tells."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


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


def _host_peak() -> int | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _pieces(file: Path) -> Iterator[bytes]:
    size = file.stat().st_size
    offsets: Sequence[int]
    if size <= LARGEST_READ_WHOLE:
        offsets = range(0, size, SAMPLE)
    else:
        offsets = [index * (size - SAMPLE) // (NUM_SAMPLES - 1) for index in range(NUM_SAMPLES)]
    with file.open("rb") as opened:
        for offset in offsets:
            opened.seek(offset)
            yield opened.read(SAMPLE)
