"""The verb `generate`: a photo, or a prompt alone, to out.mp4, out.json and out.png."""

import json
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from PIL import Image

from fastvid_pipelines import discovery, pipeline_folder, provenance
from fastvid_pipelines.commands import engines
from fastvid_pipelines.commands.arguments import named_as_typed, output_files, parse_dtype
from fastvid_pipelines.commands.progress import step_progress
from fastvid_pipelines.content_frame_to_video import ReducioPipeline
from fastvid_pipelines.embedded import embedded_model
from fastvid_pipelines.image_to_video import FSVideoPipeline
from fastvid_pipelines.interfaces import Accelerator, TextToImage
from fastvid_pipelines.outputs import staged
from fastvid_pipelines.photo_io import contact_sheet, load_photo
from fastvid_pipelines.pipeline_folder import FSVIDEO, fsvideo_defaults
from fastvid_pipelines.placement import usable_device
from fastvid_pipelines.reducio_types import ReducioRequest, ReducioSampling, build_reducio_request
from fastvid_pipelines.text_to_image import DiffusersTextToImage
from fastvid_pipelines.types import (
    LARGEST_SEED,
    LARGEST_SIDE,
    SMALLEST_SIDE,
    GenerationRequest,
    Sampling,
    build_request,
    check_count,
)
from fastvid_pipelines.video_io import check_encoder, check_mp4_size, write_mp4

FLAGS = {
    "prompt": "--prompt",
    "text_to_image": "--text-to-image",
    "output": "--output",
    "path_or_repo_id": "--model",
    "accelerator": "--accelerate",
    "settings": "--accelerate-settings",
    "accelerator_settings": "--accelerate, with --accelerate-settings,",
    "engine": "--engine",
    "fallback": "--engine-fallback",
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

    image: Path | None
    text_to_image: str | None
    output: Path
    seed: int
    model: str | None
    accelerate: str | None
    accelerate_settings: tuple[str, ...]
    engine: Path | None
    engine_fallback: str
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
        photo = _photo(options)
        torch_device, torch_dtype = usable_device(options.device), parse_dtype(options.dtype)
        model = embedded_model() if options.model is None else options.model
        folder = pipeline_folder.find(model, revision=None, local_files_only=False)
        fingerprint = provenance.model_fingerprint(folder)
        accelerator = _accelerator(options, fingerprint)
        if options.engine is not None:
            engines.parts_in(options.engine)
    full_request = _completed(request, folder)
    with named_as_typed(FLAGS):
        text_to_image = _text_to_image(options, torch_dtype, torch_device)
    pipeline: FSVideoPipeline | ReducioPipeline
    own: dict[str, Any] = {}
    if isinstance(full_request, GenerationRequest):
        pipeline = FSVideoPipeline.from_pretrained(folder, dtype=torch_dtype, device=torch_device)
        own["refiner_steps"] = request["refiner_steps"]
    else:
        pipeline = ReducioPipeline.from_pretrained(folder, dtype=torch_dtype, device=torch_device)
    pipeline.text_to_image = text_to_image
    with named_as_typed(FLAGS):
        engine_keys = _engines(options, pipeline)
    loaded = perf_counter()
    with named_as_typed(FLAGS), step_progress() as on_step_end:
        clip = pipeline(
            image=photo,
            prompt=full_request.prompt,
            negative_prompt=full_request.negative_prompt,
            **asdict(full_request.sampling),
            **own,
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
            "image": _image_record(options.image, photo),
            "text_to_image": _maker_record(options.text_to_image),
            "request": _flat(options, full_request),
            "model": {"name": options.model or "embedded", "fingerprint": fingerprint},
            "accelerator": {
                "name": options.accelerate,
                "settings": list(options.accelerate_settings),
                "latent_frames": list(clip.latent_frames),
                "report": clip.acceleration,
            },
            "engines": engine_keys,
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


def _accelerator(options: Options, fingerprint: str) -> Accelerator | None:
    """Those that were named, as one; the settings of a file, which may know its model, go to the one that reads it."""
    if options.accelerate is None:
        if options.accelerate_settings:
            raise ValueError(
                f"`settings` is {options.accelerate_settings[0]!r}, which has no effect without `accelerator`; name one"
            )
        return None
    names = [name.strip() for name in options.accelerate.split(",")]
    files = _settings_files(names, options.accelerate_settings)
    built: list[Accelerator] = [
        discovery.find(discovery.ACCELERATOR_SETTINGS, name)(files[name], model=fingerprint)
        if name in files
        else discovery.find(discovery.ACCELERATORS, name)()
        for name in names
    ]
    if len(built) == 1:
        return built[0]
    composed: Accelerator = discovery.find(discovery.COMPOSITIONS, "compose")(*built)
    return composed


def _settings_files(names: list[str], given: tuple[str, ...]) -> dict[str, Path]:
    """Which file belongs to which accelerator: NAME=FILE says it, a file alone is for the only one that reads such."""
    files: dict[str, Path] = {}
    for value in given:
        name, found, file = value.partition("=")
        if not found or name not in names:
            name, file = _reader(names), value
        if name in files:
            raise ValueError(f"`settings` {value!r} is the second file for {name!r}; give it one")
        files[name] = Path(file)
    return files


def _reader(names: list[str]) -> str:
    """Of several accelerators the one that has settings files."""
    if len(names) == 1:
        return names[0]
    readers = [name for name in names if name in discovery.installed(discovery.ACCELERATOR_SETTINGS)]
    if len(readers) != 1:
        found = " and ".join(map(repr, readers)) or "none of them"
        raise ValueError(
            f"`accelerator` is {', '.join(names)!r}; `settings` are for one of them, {found} reads such: say which with"
            " NAME=FILE"
        )
    return readers[0]


def _engines(options: Options, pipeline: FSVideoPipeline | ReducioPipeline) -> dict[str, Any]:
    """Puts the engines that were named into the pipeline; returns what they are."""
    if options.engine is None:
        if options.engine_fallback != "error":
            raise ValueError(f"`fallback` is {options.engine_fallback!r}, which has no effect without `engine`")
        return {}
    if isinstance(pipeline, ReducioPipeline):
        raise ValueError("`engine` has no effect: the pipeline of a Reducio model runs eagerly only; leave it out")
    return engines.put_in(pipeline, options.engine, options.engine_fallback)


def _photo(options: Options) -> Image.Image | None:
    """The picture that was given; None where one is to be made."""
    if options.image is not None and options.text_to_image is not None:
        raise ValueError(
            f"`text_to_image` is {options.text_to_image!r} and `image` {str(options.image)!r}; give one of them"
        )
    if options.image is None:
        if options.text_to_image is None:
            raise ValueError("no picture: give `image`, a file, or `text_to_image`, a pipeline that makes one")
        return None
    return load_photo(options.image)


def _text_to_image(options: Options, dtype: torch.dtype, device: torch.device) -> TextToImage | None:
    name = options.text_to_image
    return None if name is None else DiffusersTextToImage.from_pretrained(name, dtype=dtype, device=device)


def _completed(request: dict[str, Any], path: Path) -> GenerationRequest | ReducioRequest:
    """The whole request, of the kind that the pipeline in the folder takes."""
    layout = pipeline_folder.find_layout(path)
    folder = pipeline_folder.open_folder(path, layout)
    defaults: Sampling | ReducioSampling
    build: Callable[..., GenerationRequest | ReducioRequest]
    if layout == FSVIDEO:
        defaults, refinement = fsvideo_defaults(folder)
        build = partial(build_request, defaults, refinement)
    else:
        defaults = folder.record("sampling", ReducioSampling)
        build = partial(build_reducio_request, defaults)
        request = _without_idle(request)
    height, width = (
        getattr(defaults, side) if request[side] is None else request[side] for side in ("height", "width")
    )
    with named_as_typed(FLAGS):
        check_mp4_size(height, width, least=SMALLEST_SIDE, most=LARGEST_SIDE)
        return build(**request)


def _without_idle(request: dict[str, Any]) -> dict[str, Any]:
    """The request without what Reducio does not know; none of it may have been given."""
    idle = ("shift", "solver", "refiner_steps")
    with named_as_typed(FLAGS):
        for name in idle:
            if request[name] is not None:
                raise ValueError(
                    f"`{name}` is {request[name]!r}, which has no effect: a Reducio model has one solver with one "
                    f"schedule, and no refiner; leave `{name}` out"
                )
    return {name: value for name, value in request.items() if name not in idle}


def _image_record(path: Path | None, photo: Image.Image | None) -> dict[str, Any] | None:
    if path is None or photo is None:
        return None
    size = {"width": photo.width, "height": photo.height}
    return {"path": str(path), "sha256": provenance.file_sha256(path), **size}


def _maker_record(name: str | None) -> dict[str, Any] | None:
    """The pipeline that made the picture; only of a folder there is a hash."""
    if name is None:
        return None
    folder = Path(name)
    return {"name": name, "fingerprint": provenance.model_fingerprint(folder) if folder.is_dir() else None}


def _flat(options: Options, request: GenerationRequest | ReducioRequest) -> dict[str, Any]:
    flat = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": options.seed,
        **asdict(request.sampling),
    }
    if isinstance(request, ReducioRequest):
        return flat
    return flat | {"refinement": None if request.refinement is None else asdict(request.refinement)}


def _repeat(options: Options, request: GenerationRequest | ReducioRequest, refiner_steps: int | None) -> str:
    """The command line that makes this video again, with every default written out."""
    if isinstance(request, GenerationRequest) and request.refinement is not None:
        refiner_steps = request.refinement.num_inference_steps
    values: dict[str, Any] = {
        "text_to_image": options.text_to_image,
        "prompt": request.prompt,
        "output": options.output,
        "path_or_repo_id": options.model,
        "accelerator": options.accelerate,
        "engine": options.engine,
        "fallback": None if options.engine is None else options.engine_fallback,
        "seed": options.seed,
        "negative_prompt": request.negative_prompt or None,
        **asdict(request.sampling),
        "refiner_steps": refiner_steps,
        "device": options.device,
        "dtype": options.dtype,
    }
    given = [(name, value) for name, value in values.items() if value is not None]
    given += [("settings", file) for file in options.accelerate_settings]
    words = [word for name, value in given for word in (FLAGS[name], str(value))]
    image = [] if options.image is None else [str(options.image)]
    return shlex.join(["fastvid-cli", "generate", *image, *words])
