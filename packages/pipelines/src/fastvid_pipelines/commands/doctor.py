"""The verb `doctor`: what is here, what is not, and the line that installs it."""

import platform
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from typing import Any

import av
import torch

from fastvid_pipelines import discovery
from fastvid_pipelines.embedded import embedded_folder
from fastvid_pipelines.video_io import CODEC

REQUIRED = ("fastvid-vae", "fastvid-dit")
OPTIONAL = {
    ("fastvid-accel",): "pip install fastvid-accel",
    ("fastvid-export",): "pip install fastvid-export",
    ("open_clip_torch",): "pip install 'fastvid-pipelines[reducio]'",
    ("diffusers",): "pip install 'fastvid-pipelines[reducio]'",
    ("onnxruntime", "onnxruntime-gpu"): "pip install 'fastvid-export[ort]', or for an NVIDIA GPU 'fastvid-export[gpu]'",
    ("tensorrt-rtx-cu13",): "pip install 'fastvid-export[rtx]'",
    ("tensorrt",): "pip install 'fastvid-export[tensorrt]'",
}
"""Packages of which one is enough, and the line that installs it."""
LIBRARIES = ("torch", "transformers", "huggingface-hub", "safetensors", "av", "pillow", "numpy")


def examine() -> dict[str, Any]:
    """Versions, devices, codecs and parts; `missing` says what the first video needs, `optional` what else there is."""
    names = ("fastvid-pipelines", *REQUIRED, *chain(*OPTIONAL), *LIBRARIES)
    versions = {name: found for name in names if (found := _version(name)) is not None}
    codecs = {"write h264": CODEC in av.codecs_available, "read h264": "h264" in av.codecs_available}
    missing = [f"{name}: pip install {name}" for name in REQUIRED if name not in versions]
    if not all(codecs.values()):
        missing.append("H.264: pip install --force-reinstall av  (its wheels bring x264; a build of your own may not)")
    if not (embedded_folder() / "model_index.json").is_file():
        missing.append("embedded model: pip install --force-reinstall fastvid-pipelines")
    groups = (
        discovery.AUTOENCODERS,
        discovery.TRANSFORMERS,
        discovery.ACCELERATORS,
        discovery.COMMANDS,
        discovery.CONVERSIONS,
    )
    return {
        "versions": {"python": platform.python_version(), **versions},
        "devices": {"cpu": f"{torch.get_num_threads()} threads", **_gpus()},
        "codecs": codecs,
        # Quoted, for one of them is named 'none'.
        "parts": {group: ", ".join(map(repr, discovery.installed(group))) or "nothing installed" for group in groups},
        "missing": missing,
        "optional": [
            f"{' or '.join(names)}: {line}" for names, line in OPTIONAL.items() if versions.keys().isdisjoint(names)
        ],
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _gpus() -> dict[str, str]:
    properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {f"cuda:{index}": f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for index, gpu in enumerate(properties)}
