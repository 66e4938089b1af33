"""`python -m fastvid_vae`: flags in, exit codes out. Results go to stdout, everything else to stderr."""

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # PyAV, an extra, is behind them
    from fastvid_vae.file_codec import StreamingAutoencoder
    from fastvid_vae.latent_file import VideoFacts

RUN_TIME, USAGE, MISSING_DEPENDENCY, OUT_OF_MEMORY, INTERRUPTED = 1, 2, 3, 4, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code: 0, 1 run time, 2 usage, 3 missing dependency, 4 out of memory, 130 interrupted."""
    flags = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        flags.run(flags)
    except (KeyboardInterrupt, ImportError, MemoryError, ValueError, OSError, RuntimeError) as error:
        message, code = _explain(error)
        print(f"error: {message}", file=sys.stderr)
        return code
    return 0


def _explain(error: BaseException) -> tuple[str, int]:
    match error:
        case KeyboardInterrupt():
            return "interrupted; nothing was written", INTERRUPTED
        case ImportError():
            return str(error), MISSING_DEPENDENCY
        case ValueError():
            return str(error), USAGE
        case MemoryError() | RuntimeError() if _is_out_of_memory(error):
            return f"out of memory: {(str(error).splitlines() or [''])[0]}", OUT_OF_MEMORY  # the rest is a trace
        case _:
            return str(error), RUN_TIME


def _is_out_of_memory(error: BaseException) -> bool:
    """torch has a class for devices and, on the CPU, a plain RuntimeError with these words."""
    return type(error).__name__ in ("MemoryError", "OutOfMemoryError") or "DefaultCPUAllocator" in str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fastvid_vae", description="Video autoencoders.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("reconstruct", help="encode a video, decode it again, and say what was lost")
    verb.add_argument("source", type=Path, help="any video file")
    verb.add_argument("target", type=Path, help="the mp4 to write; a strip of frames (png) appears beside it")
    verb.set_defaults(run=_reconstruct)
    verb = verbs.add_parser("encode", help="a video of any length to its latents")
    verb.add_argument("source", type=Path, help="any video file")
    verb.add_argument("target", type=Path, help="the safetensors file to write")
    verb.set_defaults(run=_encode)
    verb = verbs.add_parser("decode", help="latents that `encode` wrote to the video")
    verb.add_argument("source", type=Path, help="the safetensors file")
    verb.add_argument("target", type=Path, help="the mp4 to write")
    verb.set_defaults(run=_decode)
    for verb in verbs.choices.values():
        verb.add_argument("--model", help="folder of an autoencoder (config.json, model.safetensors) or hub repository")
        verb.add_argument("--device", default="cpu", help="where to compute: cpu, cuda, cuda:1, ... (default: cpu)")
        verb.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return parser


def _reconstruct(flags: argparse.Namespace) -> None:
    from fastvid_vae.fsae.model import FSAE
    from fastvid_vae.reconstruct import reconstruct

    _check_model(flags)
    model = FSAE.from_pretrained(flags.model, device=flags.device)
    result = reconstruct(model, flags.source, flags.target, on_frames=_progress())
    if flags.json:
        print(json.dumps({"output": str(flags.target), **dataclasses.asdict(result)}))
        return
    ssim = "no SSIM (below 11 pixels)" if result.ssim is None else f"SSIM {result.ssim:.4f}"
    print(
        f"{result.num_frames} frames of {result.height} x {result.width} through {result.latent_elements} latent "
        f"elements: PSNR {result.psnr:.2f} dB, {ssim}, {result.seconds:.1f} s -> {flags.target}"
    )


def _encode(flags: argparse.Namespace) -> None:
    from fastvid_vae.file_codec import encode_file

    _check_model(flags)
    _report(flags, encode_file(_streaming_model(flags), flags.source, flags.target, on_frames=_progress()))


def _decode(flags: argparse.Namespace) -> None:
    from fastvid_vae.file_codec import decode_file

    _check_model(flags)
    _report(flags, decode_file(_streaming_model(flags), flags.source, flags.target, on_frames=_progress()))


def _check_model(flags: argparse.Namespace) -> None:
    if flags.model is None:
        raise ValueError(
            "`--model` is missing, and fastvid-vae ships no weights: give the folder of an autoencoder (config.json "
            "and model.safetensors, the `vae` folder of a pipeline for example) or a repository of the hub"
        )
    import torch

    try:
        torch.empty(0, device=flags.device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ValueError(f"`--device` is {flags.device!r}, which cannot be used here; cpu always can") from error


def _streaming_model(flags: argparse.Namespace) -> "StreamingAutoencoder":
    """The model in the folder, of one of the classes that encode a video in chunks."""
    from fastvid_vae import checkpoint
    from fastvid_vae.fsae.model import FSAE
    from fastvid_vae.odvae.model import ODVAE

    folder = checkpoint.find_folder(flags.model, subfolder=None, revision=None, local_files_only=False)
    classes: dict[str, type[FSAE] | type[ODVAE]] = {"FSAE": FSAE, "ODVAE": ODVAE}
    name = checkpoint.class_name(folder)
    if name not in classes:
        raise ValueError(f"`--model` is {flags.model!r}, a {name}; videos of any length take {' or '.join(classes)}")
    return classes[name].from_pretrained(folder, device=flags.device)


def _report(flags: argparse.Namespace, facts: "VideoFacts") -> None:
    if flags.json:
        described = dataclasses.asdict(facts) | {"rate": str(facts.rate)}
        print(json.dumps({"output": str(flags.target), **described}))
    else:
        print(f"{facts.num_frames} frames of {facts.height} x {facts.width} -> {flags.target}")


def _progress() -> Callable[[int], None] | None:
    return _show if sys.stderr.isatty() else None


def _show(num_frames: int) -> None:
    print(f"\r{num_frames} frames", end="", file=sys.stderr, flush=True)
