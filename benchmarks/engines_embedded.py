"""Does a whole video come out of engines as it comes out of eager, with accelerators at work? And how fast?

Transformer and decoder are built for each backend at the size of the video: dense, with what tokens are matched by, and
of fewer tokens. The same photo, prompt and seed then make the video eagerly and by engines: as it is, with AsymRnR,
with VGDFR and with both. PSNR is of frames in [-1, 1]. Seconds are of denoising and decoding, the second of two videos.

    python benchmarks/engines_embedded.py examples/assets/meadow.jpg --output results.json
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from fastvid_accel import VGDFR, AsymRnR, AsymRnRConfig, VGDFRConfig, compose
from fastvid_export import (
    AOTInductor,
    AxisRange,
    EngineFolder,
    Exportable,
    Geometry,
    OnnxRuntime,
    Workload,
    build_engine,
    decoder_exportable,
    matching_exportable,
    profiles_of,
    transformer_exportable,
)
from fastvid_pipelines import FSVideoPipeline, TensorClip
from provenance import provenance
from report import publish

BACKENDS: dict[str, Callable[[], Any]] = {"onnxruntime": OnnxRuntime, "aotinductor": AOTInductor}
WORDS = AxisRange(minimum=1, example=16, maximum=128)

# Engines know the tokens before they run, so eager follows the same rule.
REDUCING = AsymRnR(AsymRnRConfig(q=((0.0, 0.3),), window=3, dense_matching=True, min_gain=0.0))
MERGING = VGDFR(VGDFRConfig(threshold=0.5, start_step=1))
WAYS = {"as it is": None, "AsymRnR": REDUCING, "VGDFR": MERGING, "AsymRnR and VGDFR": compose(REDUCING, MERGING)}


def build(pipe: FSVideoPipeline, backend: Any, folder: Path, num_frames: int) -> dict[str, float]:
    """All engines of the pipeline; seconds that each took."""
    model, autoencoder, size = pipe.transformer, pipe.autoencoder, pipe.sampling
    blocks: dict[str, Any] = {name: range(model.config.num_blocks) for name in ("q_blocks", "kv_blocks")}
    video: dict[str, int] = {"frames": num_frames, "height": size.height, "width": size.width}
    guided = Workload(**video, batch=2, merged=0.5)
    patch_size = model.config.patch_size

    def one(part: str, exportable: Exportable, workload: Workload, patch_size: tuple[int, int, int]) -> float:
        if "l" in exportable.axes:
            exportable = replace(exportable, axes={**exportable.axes, "l": WORDS})
        geometry = Geometry(stride=autoencoder.stride, patch_size=patch_size, cell=REDUCING.config.stride)
        profiles = profiles_of(exportable, [workload], geometry)
        return build_engine(exportable, folder / part, backend=backend, profiles=profiles).seconds

    masked: dict[str, Any] = {"text_mask": True}
    return {
        "transformer": one("transformer", transformer_exportable(model, **masked), guided, patch_size),
        "transformer_match": one(
            "transformer_match", matching_exportable(model, **masked, **blocks), guided, patch_size
        ),
        "transformer_reduced": one(
            "transformer_reduced",
            transformer_exportable(model, **masked, **blocks),
            replace(guided, keep_q=0.7, keep_kv=0.7),
            patch_size,
        ),
        "decoder": one(
            "decoder",
            decoder_exportable(autoencoder, reference=autoencoder.takes_reference),
            replace(guided, batch=1),
            (1, 1, 1),
        ),
    }


def videos(pipe: FSVideoPipeline, photo: str, prompt: str, num_frames: int, steps: int) -> dict[str, TensorClip]:
    """The video in each way, the second time."""
    clips = {}
    for way, accelerator in WAYS.items():
        for _ in range(2):
            clips[way] = pipe(
                image=photo,
                prompt=prompt,
                num_frames=num_frames,
                num_inference_steps=steps,
                generator=torch.Generator().manual_seed(0),
                output_type="pt",
                accelerator=accelerator,
            )
    return clips


def compare(backend: str, eager: dict[str, TensorClip], served: dict[str, TensorClip]) -> list[dict[str, Any]]:
    rows = []
    for way, clip in served.items():
        error = (clip.frames - eager[way].frames).double().square().mean()
        rows.append(
            {
                "backend": backend,
                "way": way,
                "latent_frames": clip.latent_frames[-1],
                "psnr_to_eager": float(10 * torch.log10(4 / error)) if error else None,
                "psnr_of_acceleration": psnr_of(eager[way], eager["as it is"]),
                "seconds": clip.seconds["denoise"] + clip.seconds["decode"],
                "eager_seconds": eager[way].seconds["denoise"] + eager[way].seconds["decode"],
            }
        )
    return rows


def psnr_of(clip: TensorClip, exact: TensorClip) -> float | None:
    """What the accelerator itself changes: a small number beside `psnr_to_eager` says that it was at work."""
    error = (clip.frames - exact.frames).double().square().mean()
    return float(10 * torch.log10(4 / error)) if error else None


def table(facts: dict[str, Any]) -> str:
    lines = [
        f"{facts['setting']['num_frames']} frames, {facts['setting']['steps']} steps, float32.",
        "",
        "| backend | way | latents left | PSNR to eager, dB | of the accelerator to none | seconds | eager seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in facts["results"]:
        numbers = (
            "equal" if row[key] is None else f"{row[key]:.1f}" for key in ("psnr_to_eager", "psnr_of_acceleration")
        )
        times = f"{row['seconds']:.2f} | {row['eager_seconds']:.2f}"
        lines.append(f"| {row['backend']} | {row['way']} | {row['latent_frames']} | {' | '.join(numbers)} | {times} |")
    lines += ["", f"Seconds to build: {facts['build_seconds']}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo")
    parser.add_argument("--prompt", default="the camera holds still")
    parser.add_argument("--model", help="folder of another pipeline")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--num-frames", type=int, default=17)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()

    def load() -> FSVideoPipeline:
        return FSVideoPipeline.from_pretrained(options.model) if options.model else FSVideoPipeline.default()

    call = (options.photo, options.prompt, options.num_frames, options.steps)
    eager = videos(load(), *call)
    results, seconds = [], {}
    for backend in options.backends:
        with tempfile.TemporaryDirectory() as folder:
            pipe = load()
            seconds[backend] = build(pipe, BACKENDS[backend](), Path(folder), options.num_frames)
            engines = EngineFolder(folder)
            pipe.transformer = engines.transformer(pipe.transformer)  # type: ignore[type-var]
            pipe.autoencoder = engines.autoencoder(pipe.autoencoder)  # type: ignore[type-var]
            results += compare(backend, eager, videos(pipe, *call))
    packages = ("torch", "onnxruntime", "fastvid-export", "fastvid-accel", "fastvid-pipelines")
    facts = provenance("engines_embedded", packages, "cpu") | {
        "weights": "embedded" if options.model is None else "of --model",
        "setting": {"num_frames": options.num_frames, "steps": options.steps, "prompt": options.prompt},
        "build_seconds": seconds,
        "results": results,
    }
    publish(facts, table(facts), options.output)


if __name__ == "__main__":
    main()
