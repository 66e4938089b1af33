"""The verb `reconstruct`: a video through the autoencoder and back."""

import json
import logging
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from fastvid_pipelines import pipeline_folder, provenance
from fastvid_pipelines.commands.arguments import named_as_typed, output_files, parse_dtype
from fastvid_pipelines.embedded import embedded_model
from fastvid_pipelines.interfaces import Autoencoder
from fastvid_pipelines.outputs import staged
from fastvid_pipelines.photo_io import contact_sheet
from fastvid_pipelines.pipeline_folder import REDUCIO
from fastvid_pipelines.placement import usable_device
from fastvid_pipelines.stages.decode import to_pixels
from fastvid_pipelines.stages.finite import check_finite
from fastvid_pipelines.video_io import check_encoder, read_video, write_mp4

logger = logging.getLogger(__name__)

SHEET_FRAMES = 6
FLAGS = {"path_or_repo_id": "--model", "max_frames": "--num-frames", "device": "--device", "dtype": "--dtype"}
"""The flag behind each argument of a call."""


def reconstruct(
    *, video: Path, output: Path, model: str | None, num_frames: int | None, device: str, dtype: str
) -> dict[str, Any]:
    """Encode, decode with the frames that the model wants, and write the result, a report and a comparison.

    These are the first frame of the video, or with a Reducio model the middle frame of every clip.
    In the report, `psnr` is the mean over frames in dB, `compression` numbers in the frames per number in the latents.
    """
    started = perf_counter()
    check_encoder()
    with named_as_typed(FLAGS):
        files = output_files(output, video)
        torch_device, torch_dtype = usable_device(device), parse_dtype(dtype)
        source = read_video(video, max_frames=num_frames)
        model_folder = embedded_model() if model is None else model
        folder = pipeline_folder.find(model_folder, revision=None, local_files_only=False)
    original = _even(source.frames)
    layout = pipeline_folder.find_layout(folder)
    autoencoder = pipeline_folder.open_folder(folder, layout).load("vae", dtype=torch_dtype, device=torch_device)
    seconds = {"load": perf_counter() - started}
    frames = torch.from_numpy(original).to(torch_device, torch_dtype) / 127.5 - 1
    video_frames = rearrange(frames, "t h w c -> 1 c t h w")
    reference = autoencoder.content_frames(video_frames) if layout == REDUCIO else video_frames[:, :, 0]
    decoded, num_latents = _there_and_back(autoencoder, video_frames, reference, seconds)
    result = to_pixels(decoded[0])
    with staged(*files) as (part, sidecar, sheet):
        writing = perf_counter()
        write_mp4(result, source.fps, part)
        contact_sheet(_side_by_side(original, result)).save(sheet, format="PNG")
        seconds |= {"write": perf_counter() - writing, "total": perf_counter() - started}
        record = {
            "video": {"path": str(video), "sha256": provenance.file_sha256(video), "fps": source.fps},
            "model": {"name": model or "embedded", "fingerprint": provenance.model_fingerprint(folder)},
            "output": provenance.output_record(files, result, source.fps),
            "psnr": _psnr(original, result),
            "compression": original.size / num_latents,
            "seconds": seconds,
            "peak_memory_bytes": provenance.peak_memory(device),
            "environment": provenance.environment(device, dtype),
        }
        sidecar.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


@torch.inference_mode()
def _there_and_back(
    autoencoder: Autoencoder, frames: Float[Tensor, "1 3 T H W"], reference: Tensor, seconds: dict[str, float]
) -> tuple[Float[Tensor, "1 3 T H W"], int]:
    """The decoded frames, and how many numbers the latents were."""
    started = perf_counter()
    latents = autoencoder.encode(frames)
    check_finite("encode", latents)
    encoded = perf_counter()
    _, _, num_frames, height, width = frames.shape
    given = reference if autoencoder.takes_reference else None
    decoded = autoencoder.decode(latents, reference=given, num_frames=num_frames, size=(height, width))
    check_finite("decode", decoded)
    seconds |= {"encode": encoded - started, "decode": perf_counter() - encoded}
    logger.info("encode: %.2f s", seconds["encode"])
    logger.info("decode: %.2f s", seconds["decode"])
    return decoded, latents.numel()


def _even(frames: UInt8[np.ndarray, "T H W 3"]) -> UInt8[np.ndarray, "T H2 W2 3"]:
    """Without the last row or column where their number is odd: the mp4 that is written cannot hold it."""
    _, height, width, _ = frames.shape
    if height % 2 or width % 2:
        logger.warning(
            "the video is %dx%d; an mp4 in yuv420p has even sides, so it is cropped to %dx%d",
            *(width, height, width // 2 * 2, height // 2 * 2),
        )
    return frames[:, : height // 2 * 2, : width // 2 * 2]


def _psnr(first: UInt8[np.ndarray, "T H W 3"], second: UInt8[np.ndarray, "T H W 3"]) -> float:
    """Mean over frames, in dB; at most 100."""
    errors = [((a.astype(np.float64) - b) ** 2).mean() for a, b in zip(first, second, strict=True)]
    return float(np.mean([10 * np.log10(255**2 / max(error, 255**2 / 1e10)) for error in errors]))


def _side_by_side(
    original: UInt8[np.ndarray, "T H W 3"], result: UInt8[np.ndarray, "T H W 3"]
) -> UInt8[np.ndarray, "T2 H W 3"]:
    """A row of frames, and below it the same frames reconstructed."""
    chosen = np.linspace(0, len(original) - 1, min(SHEET_FRAMES, len(original))).round().astype(int)
    return np.concatenate((original[chosen], result[chosen]))
