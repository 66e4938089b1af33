"""The verb `generate`: a photo to out.mp4, out.json and out.png."""

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fastvid_pipelines import discovery, pipeline_folder, provenance
from fastvid_pipelines.commands.arguments import output_files, parse_device, parse_dtype
from fastvid_pipelines.image_to_video import FSVideoPipeline, embedded_model
from fastvid_pipelines.outputs import staged
from fastvid_pipelines.photo_io import contact_sheet, load_photo
from fastvid_pipelines.stages.denoise import StepCallback
from fastvid_pipelines.types import GenerationRequest, LatentVideo, Step, check_count
from fastvid_pipelines.video_io import check_mp4_size, write_mp4

LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the flags say, but for the request itself."""

    image: Path
    output: Path
    seed: int
    model: str | None
    accelerate: str | None
    device: str
    dtype: str


def generate(options: Options, request: dict[str, Any]) -> dict[str, Any]:
    """Make the video and write the three files; returns what the sidecar holds.

    All arguments are checked before the first stage, and nothing is left behind when a stage fails.
    """
    started = perf_counter()
    files = output_files(options.output, options.image)
    check_count("seed", options.seed, 0, LARGEST_SEED)
    photo = load_photo(options.image)
    torch_device, torch_dtype = parse_device(options.device), parse_dtype(options.dtype)
    accelerator = None if options.accelerate is None else discovery.find(discovery.ACCELERATORS, options.accelerate)()
    folder = pipeline_folder.find(options.model or embedded_model(), revision=None, local_files_only=False)
    pipeline = FSVideoPipeline.from_pretrained(folder, dtype=torch_dtype, device=torch_device)
    full_request = pipeline.request(**request)
    check_mp4_size(full_request.sampling.height, full_request.sampling.width)
    loaded = perf_counter()
    with _progress() as on_step_end:
        clip = pipeline(
            image=photo,
            prompt=full_request.prompt,
            negative_prompt=full_request.negative_prompt,
            **asdict(full_request.sampling),
            generator=torch.Generator().manual_seed(options.seed),
            callback_on_step_end=on_step_end,
            accelerator=accelerator,
        )
    with staged(*files) as (video, sidecar, sheet):
        writing = perf_counter()
        write_mp4(clip.frames, clip.fps, video)
        contact_sheet(clip.frames).save(sheet, format="PNG")
        now = perf_counter()
        record = {
            "command": _repeat(options, full_request),
            "image": {
                "path": str(options.image),
                "sha256": provenance.file_sha256(options.image),
                "width": photo.width,
                "height": photo.height,
            },
            "request": _flat(options, full_request),
            "model": {"name": options.model or "embedded", "fingerprint": provenance.model_fingerprint(folder)},
            "accelerator": {"name": options.accelerate, "latent_frames": list(clip.latent_frames)},
            "output": provenance.output_record(files, clip.frames, clip.fps),
            "seconds": {
                "load_model": loaded - started,
                **clip.seconds,
                "write": now - writing,
                "total": now - started,
            },
            "peak_memory_bytes": provenance.peak_memory(options.device),
            "environment": provenance.environment(options.device, options.dtype),
        }
        sidecar.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


@contextmanager
def _progress() -> Iterator[StepCallback]:
    """A bar over the steps on a terminal; elsewhere the log's lines tell."""
    columns = (TextColumn("denoise"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("denoise", total=None)

        def on_step_end(step: Step, video: LatentVideo) -> None:
            progress.update(task, completed=step.index + 1, total=step.num_steps)

        yield on_step_end


def _flat(options: Options, request: GenerationRequest) -> dict[str, Any]:
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": options.seed,
        **asdict(request.sampling),
    }


def _repeat(options: Options, request: GenerationRequest) -> str:
    """The command line that makes this video again, with every default written out."""
    sampling = request.sampling
    flags: dict[str, Any] = {
        "--prompt": request.prompt,
        "--output": options.output,
        "--model": options.model,
        "--accelerate": options.accelerate,
        "--seed": options.seed,
        "--negative-prompt": request.negative_prompt or None,
        "--num-frames": sampling.num_frames,
        "--height": sampling.height,
        "--width": sampling.width,
        "--fps": sampling.fps,
        "--steps": sampling.num_inference_steps,
        "--guidance-scale": sampling.guidance_scale,
        "--shift": sampling.shift,
        "--solver": sampling.solver,
        "--device": options.device,
        "--dtype": options.dtype,
    }
    words = [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]
    return shlex.join(["fastvid-cli", "generate", str(options.image), *words])
