"""The verb `generate`: a photo to out.mp4, out.json and out.png."""

import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from fastvid_pipelines import discovery, pipeline_folder, provenance
from fastvid_pipelines.commands.arguments import named_as_typed, output_files, parse_dtype
from fastvid_pipelines.commands.progress import step_progress
from fastvid_pipelines.embedded import embedded_model
from fastvid_pipelines.image_to_video import FSVideoPipeline, read_defaults
from fastvid_pipelines.outputs import staged
from fastvid_pipelines.photo_io import contact_sheet, load_photo
from fastvid_pipelines.pipeline_folder import FSVIDEO
from fastvid_pipelines.placement import usable_device
from fastvid_pipelines.types import (
    LARGEST_SEED,
    LARGEST_SIDE,
    SMALLEST_SIDE,
    GenerationRequest,
    Refinement,
    Sampling,
    build_request,
    check_count,
)
from fastvid_pipelines.video_io import check_encoder, check_mp4_size, write_mp4

FLAGS = {
    "prompt": "--prompt",
    "output": "--output",
    "path_or_repo_id": "--model",
    "accelerator": "--accelerate",
    "seed": "--seed",
    "negative_prompt": "--negative-prompt",
    "num_frames": "--num-frames",
    "height": "--height",
    "width": "--width",
    "fps": "--fps",
    "num_inference_steps": "--steps",
    "guidance_scale": "--guidance-scale",
    "shift": "--shift",
    "solver": "--solver",
    "refiner_steps": "--refiner-steps",
    "device": "--device",
    "dtype": "--dtype",
}
"""The flag behind each argument of a call."""


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

    All flags are checked before the model is read, but for the length of the prompts, which their encoder knows.
    Nothing is left behind when a stage fails.
    """
    started = perf_counter()
    check_encoder()
    with named_as_typed(FLAGS):
        files = output_files(options.output, options.image)
        check_count("seed", options.seed, 0, LARGEST_SEED)
        photo = load_photo(options.image)
        torch_device, torch_dtype = usable_device(options.device), parse_dtype(options.dtype)
        name = options.accelerate
        accelerator = None if name is None else discovery.find(discovery.ACCELERATORS, name)()
        model = embedded_model() if options.model is None else options.model
        folder = pipeline_folder.find(model, revision=None, local_files_only=False)
    full_request = _completed(request, *read_defaults(pipeline_folder.open_folder(folder, FSVIDEO)))
    pipeline = FSVideoPipeline.from_pretrained(folder, dtype=torch_dtype, device=torch_device)
    loaded = perf_counter()
    with named_as_typed(FLAGS), step_progress() as on_step_end:
        clip = pipeline(
            image=photo,
            prompt=full_request.prompt,
            negative_prompt=full_request.negative_prompt,
            **asdict(full_request.sampling),
            refiner_steps=request["refiner_steps"],
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
            "command": _repeat(options, full_request, request["refiner_steps"]),
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


def _completed(request: dict[str, Any], defaults: Sampling, refinement: Refinement | None) -> GenerationRequest:
    height, width = (
        getattr(defaults, side) if request[side] is None else request[side] for side in ("height", "width")
    )
    with named_as_typed(FLAGS):
        check_mp4_size(height, width, least=SMALLEST_SIDE, most=LARGEST_SIDE)
        return build_request(defaults, refinement, **request)


def _flat(options: Options, request: GenerationRequest) -> dict[str, Any]:
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": options.seed,
        **asdict(request.sampling),
        "refinement": None if request.refinement is None else asdict(request.refinement),
    }


def _repeat(options: Options, request: GenerationRequest, refiner_steps: int | None) -> str:
    """The command line that makes this video again, with every default written out."""
    values: dict[str, Any] = {
        "prompt": request.prompt,
        "output": options.output,
        "path_or_repo_id": options.model,
        "accelerator": options.accelerate,
        "seed": options.seed,
        "negative_prompt": request.negative_prompt or None,
        **asdict(request.sampling),
        "refiner_steps": refiner_steps if request.refinement is None else request.refinement.num_inference_steps,
        "device": options.device,
        "dtype": options.dtype,
    }
    words = [word for name, value in values.items() if value is not None for word in (FLAGS[name], str(value))]
    return shlex.join(["fastvid-cli", "generate", str(options.image), *words])
