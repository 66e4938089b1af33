"""The verb `calibrate`: one video of a model to the settings of an accelerator for it."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import torch

from fastvid_pipelines import discovery, pipeline_folder, provenance
from fastvid_pipelines.commands.arguments import named_as_typed, parse_dtype
from fastvid_pipelines.commands.progress import step_progress
from fastvid_pipelines.content_frame_to_video import ReducioPipeline
from fastvid_pipelines.embedded import embedded_model
from fastvid_pipelines.image_to_video import FSVideoPipeline
from fastvid_pipelines.interfaces import Accelerator
from fastvid_pipelines.outputs import check_writable, staged
from fastvid_pipelines.photo_io import load_photo
from fastvid_pipelines.pipeline_folder import FSVIDEO
from fastvid_pipelines.placement import usable_device
from fastvid_pipelines.types import LARGEST_SEED, check_count

FLAGS = {
    "calibrator": "--accelerator",
    "path_or_repo_id": "--model",
    "output": "--output",
    "image": "IMAGE",
    "prompt": "--prompt",
    "saving": "--saving",
    "q_rate": "--q-rate",
    "kv_rate": "--kv-rate",
    "stride": "--stride",
    "window": "--window",
    "seed": "--seed",
    "num_frames": "--num-frames",
    "height": "--height",
    "width": "--width",
    "num_inference_steps": "--steps",
    "device": "--device",
    "dtype": "--dtype",
}
"""The flag behind each argument of a call."""


class Settings(Protocol):
    """What a calibration ends in."""

    def save(self, path: Path, /) -> None: ...


class Calibrator(Accelerator, Protocol):
    """An accelerator that changes nothing and measures; its report is what settings are made from."""

    def accelerator(
        self, report: Mapping[str, Any], /, *, model: str, saving: float, q_rate: float, kv_rate: float
    ) -> Settings: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the flags say, but for the video."""

    accelerator: str
    output: Path
    model: str | None
    saving: float
    q_rate: float
    kv_rate: float
    stride: tuple[int, int, int]
    window: int
    seed: int
    device: str
    dtype: str


def calibrate(options: Options, image: Path, video: dict[str, Any]) -> dict[str, Any]:
    """Make one video, measure, write the settings; nothing is written when a stage fails.

    Args:
        video: prompt, and whatever of the size, frames and steps is not the pipeline's own.
    """
    started = perf_counter()
    with named_as_typed(FLAGS):
        check_writable("output", options.output)
        check_count("seed", options.seed, 0, LARGEST_SEED)
        photo = load_photo(image)
        device, dtype = usable_device(options.device), parse_dtype(options.dtype)
        find = discovery.find(discovery.CALIBRATORS, options.accelerator)
        calibrator: Calibrator = find(stride=options.stride, window=options.window, seed=options.seed)
        model = embedded_model() if options.model is None else options.model
        folder = pipeline_folder.find(model, revision=None, local_files_only=False)
        is_fsvideo = pipeline_folder.find_layout(folder) == FSVIDEO
        pipeline = (FSVideoPipeline if is_fsvideo else ReducioPipeline).from_pretrained(
            folder, dtype=dtype, device=device
        )
        with step_progress() as on_step_end:
            clip = pipeline(
                image=photo,
                **video,
                generator=torch.Generator().manual_seed(options.seed),
                callback_on_step_end=on_step_end,
                accelerator=calibrator,
            )
        fingerprint = provenance.model_fingerprint(folder)
        settings = calibrator.accelerator(
            clip.acceleration,
            model=fingerprint,
            saving=options.saving,
            q_rate=options.q_rate,
            kv_rate=options.kv_rate,
        )
    with staged(options.output) as (part,):
        settings.save(part)
    named = [] if options.model is None else ["--model", options.model]
    use = ["--accelerate", options.accelerator, "--accelerate-settings", str(options.output)]
    return {
        "output": str(options.output),
        "model": {"name": options.model or "embedded", "fingerprint": fingerprint},
        "saving": options.saving,
        "use": shlex.join(["fastvid-cli", "generate", str(image), "--prompt", video["prompt"], *named, *use]),
        "seconds": perf_counter() - started,
    }
