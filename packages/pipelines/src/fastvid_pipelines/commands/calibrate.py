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
        _check_shares(options)
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
    return {
        "output": str(options.output),
        "model": {"name": options.model or "embedded", "fingerprint": fingerprint},
        "saving": options.saving,
        "use": shlex.join(_use(options, image, video)),
        "seconds": perf_counter() - started,
    }


def _check_shares(options: Options) -> None:
    """Before the video, which takes long; what the rates can save shows only behind it."""
    if not 0 < options.saving < 1:
        raise ValueError(f"`saving` is {options.saving:g}; expected a share between 0 and 1, such as 0.05 or 0.1")
    for name, rate in (("q_rate", options.q_rate), ("kv_rate", options.kv_rate)):
        if not 0 <= rate < 1:
            raise ValueError(f"`{name}` is {rate:g}; expected a share in [0, 1), such as 0 or 0.5")


def _use(options: Options, image: Path, video: Mapping[str, Any]) -> list[str]:
    """A command that makes a video with the settings: of the size that was measured, which is the only one they fit."""
    named = [] if options.model is None else ["--model", options.model]
    size = [
        word
        for name in ("num_frames", "height", "width", "num_inference_steps")
        if video[name] is not None
        for word in (FLAGS[name], str(video[name]))
    ]
    settings = ["--accelerate", options.accelerator, "--accelerate-settings", str(options.output)]
    made = ["generate", str(image), "--prompt", video["prompt"], "--output", "out.mp4"]
    return ["fastvid-cli", *made, *named, *size, *settings]
