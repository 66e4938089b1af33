"""The verb `refine`: a video to one twice as high and wide."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from fastvid_pipelines import pipeline_folder, provenance
from fastvid_pipelines.commands.arguments import named_as_typed, output_files, parse_dtype
from fastvid_pipelines.commands.progress import step_progress
from fastvid_pipelines.embedded import embedded_model
from fastvid_pipelines.image_to_video import FSVideoPipeline
from fastvid_pipelines.outputs import staged
from fastvid_pipelines.photo_io import contact_sheet, load_photo
from fastvid_pipelines.placement import usable_device
from fastvid_pipelines.types import LARGEST_SEED, check_count
from fastvid_pipelines.video_io import check_encoder, read_video, write_mp4
from fastvid_pipelines.video_to_video import refine_video

FLAGS = {
    "path_or_repo_id": "--model",
    "max_frames": "--num-frames",
    "refiner_steps": "--steps",
    "seed": "--seed",
    "device": "--device",
    "dtype": "--dtype",
    "prompt": "--prompt",
    "image": "--image",
    "output": "--output",
    "pipe": "--model",
}
"""The flag behind each argument of a call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the flags say."""

    video: Path
    prompt: str
    output: Path
    image: Path | None
    num_frames: int | None
    steps: int | None
    seed: int
    model: str | None
    device: str
    dtype: str


def refine(options: Options) -> dict[str, Any]:
    """Read the video, refine it, and write mp4, sidecar and contact sheet; returns what the sidecar holds."""
    started = perf_counter()
    check_encoder()
    with named_as_typed(FLAGS):
        files = output_files(options.output, options.video)
        check_count("seed", options.seed, 0, LARGEST_SEED)
        device, dtype = usable_device(options.device), parse_dtype(options.dtype)
        source = read_video(options.video, max_frames=options.num_frames)
        image = None if options.image is None else load_photo(options.image)
        model = embedded_model() if options.model is None else options.model
        folder = pipeline_folder.find(model, revision=None, local_files_only=False)
        pipe = FSVideoPipeline.from_pretrained(folder, dtype=dtype, device=device)
        loaded = perf_counter()
        with step_progress() as on_step_end:
            clip = refine_video(
                pipe,
                source.frames,
                prompt=options.prompt,
                fps=source.fps,
                image=image,
                refiner_steps=options.steps,
                generator=torch.Generator().manual_seed(options.seed),
                callback_on_step_end=on_step_end,
            )
    with staged(*files) as (video, sidecar, sheet):
        writing = perf_counter()
        write_mp4(clip.frames, clip.fps, video)
        contact_sheet(clip.frames).save(sheet, format="PNG")
        now = perf_counter()
        record = {
            "video": {"path": str(options.video), "sha256": provenance.file_sha256(options.video), "fps": source.fps},
            "request": {name: value for name, value in asdict(options).items() if not isinstance(value, Path)},
            "model": {"name": options.model or "embedded", "fingerprint": provenance.model_fingerprint(folder)},
            "output": provenance.output_record(files, clip.frames, clip.fps),
            "seconds": {
                "load": loaded - started,
                **clip.seconds,
                "write": now - writing,
                "total": now - started,
            },
            "peak_memory_bytes": provenance.peak_memory(options.device),
            "environment": provenance.environment(options.device, options.dtype),
        }
        sidecar.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record
