"""How long FSAE takes to encode and decode, and how much memory, against the autoencoders a user would pick instead.

Every model sees the same pixels, has random weights, and runs one direction in a process of its own, so that its peak
memory is its own. All widths are the published ones divided by `--narrow`: 4 by default, which a laptop can run; 1 is
full size. Random weights say nothing about quality: the latent elements stand beside the seconds instead.

    uv run python benchmarks/fsae_vs_diffusers.py --output benchmarks/results/fsae_vs_diffusers_<hardware>_<yyyymm>.json
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from provenance import provenance
from report import publish
from torch import Tensor, nn

OURS = "FSAE lite"  # what ratios are relative to
WARM_UP = 1
WIDTHS = (128, 256, 512, 512, 1024, 1024, 2048)  # of DC-AE at 64 x, and of FSAE, which inflates it


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What every model is given."""

    num_frames: int
    height: int
    width: int
    narrow: int
    runs: int
    device: str
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model, how it is called, and what is honest to say about it."""

    note: str
    build: Callable[[int], nn.Module]
    encode: Callable[[Any, Tensor], Tensor]
    decode: Callable[[Any, Tensor, Tensor], Tensor]  # model, latents, frames
    latent_shape: Callable[[Setting], tuple[int, ...]]


def build_fsae(narrow: int, *, lite: bool) -> nn.Module:
    from fastvid_vae import FSAE, FSAE_LITE, FSAE_STANDARD

    published = FSAE_LITE if lite else FSAE_STANDARD
    divided = {
        name: tuple(width // narrow for width in getattr(published, name))
        for name in ("encoder_widths", "decoder_widths")
    }
    return FSAE(replace(published, **divided))


def build_dc(narrow: int) -> nn.Module:
    from diffusers import AutoencoderDC

    kinds = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 4
    widths = tuple(width // narrow for width in WIDTHS)
    scales = ((),) * 3 + ((5,),) * 4
    return AutoencoderDC(
        latent_channels=128,
        encoder_block_types=kinds,
        decoder_block_types=kinds,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        encoder_layers_per_block=(2, 2, 2, 3, 3, 3, 3),
        decoder_layers_per_block=(3,) * 7,
        encoder_qkv_multiscales=scales,
        decoder_qkv_multiscales=scales,
        upsample_block_type="interpolate",
        downsample_block_type="Conv",
    )


def build_wan(narrow: int) -> nn.Module:
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(base_dim=96 // narrow)


def build_ltx(narrow: int) -> nn.Module:
    from diffusers import AutoencoderKLLTXVideo

    widths = tuple(width // narrow for width in (128, 256, 512, 512))
    return AutoencoderKLLTXVideo(block_out_channels=widths, decoder_block_out_channels=widths)


def grid(setting: Setting, channels: int, time_stride: int, space_stride: int) -> tuple[int, ...]:
    frames = (setting.num_frames - 1) // time_stride + 1
    return 1, channels, frames, setting.height // space_stride, setting.width // space_stride


def frames_as_batch(frames: Tensor) -> Tensor:
    return frames[0].transpose(0, 1)


def fsae_case(*, lite: bool) -> Case:
    mode = "group-causal" if lite else "centred"
    return Case(
        note=f"FSVideo, 4 x 64 x 64, 128 channels; {mode} decoder with the first frame as reference",
        build=lambda narrow: build_fsae(narrow, lite=lite),
        encode=lambda model, frames: model.encode(frames),
        decode=lambda model, latents, frames: model.decode(latents, reference=frames[:, :, 0]),
        latent_shape=lambda setting: grid(setting, 128, 4, 64),
    )


CASES = {
    OURS: fsae_case(lite=True),
    "FSAE standard": fsae_case(lite=False),
    "AutoencoderDC": Case(
        note="DC-AE, 1 x 64 x 64, 128 channels, depths of FSAE; an image model, the frames are its batch",
        build=build_dc,
        encode=lambda model, frames: model.encode(frames_as_batch(frames)).latent,
        decode=lambda model, latents, frames: model.decode(latents).sample,
        latent_shape=lambda s: (s.num_frames, 128, s.height // 64, s.width // 64),
    ),
    "AutoencoderKLWan": Case(
        note="Wan 2.1, 4 x 8 x 8, 16 channels; works in chunks of four frames by itself",
        build=build_wan,
        encode=lambda model, frames: model.encode(frames).latent_dist.mode(),
        decode=lambda model, latents, frames: model.decode(latents).sample,
        latent_shape=lambda setting: grid(setting, 16, 4, 8),
    ),
    "AutoencoderKLLTXVideo": Case(
        note="LTX-Video 0.9, 8 x 32 x 32, 128 channels",
        build=build_ltx,
        encode=lambda model, frames: model.encode(frames).latent_dist.mode(),
        decode=lambda model, latents, frames: model.decode(latents).sample,
        latent_shape=lambda setting: grid(setting, 128, 8, 32),
    ),
}


@torch.inference_mode()
def measure(name: str, direction: str, setting: Setting) -> dict[str, Any]:
    """One model in one direction, in this process."""
    case = CASES[name]
    device, dtype = torch.device(setting.device), getattr(torch, setting.dtype)
    torch.manual_seed(0)
    with device:
        model = case.build(setting.narrow).eval()
    if dtype != torch.float32:
        model = model.to(dtype)
    shape = (1, 3, setting.num_frames, setting.height, setting.width)
    frames = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(device, dtype)
    latents = torch.randn(case.latent_shape(setting), generator=torch.Generator().manual_seed(1)).to(device, dtype)
    loaded = memory_now(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # building in float32 is no part of the call

    def run() -> Tensor:
        return case.encode(model, frames) if direction == "encode" else case.decode(model, latents, frames)

    seconds = []
    for _ in range(WARM_UP + setting.runs):
        start = time.perf_counter()
        out = run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    expected = latents.shape if direction == "encode" else decoded_shape(name, shape)
    if out.shape != expected or not out.isfinite().all():
        raise RuntimeError(f"{name} {direction}: shape {tuple(out.shape)}, expected {tuple(expected)}, all finite")
    timed, peak = seconds[WARM_UP:], memory_peak(device)
    return {
        "model": name,
        "direction": direction,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds_median": statistics.median(timed),
        "seconds_min": min(timed),
        "seconds_max": max(timed),
        "memory_loaded_mib": loaded,
        "memory_peak_mib": peak,
        "memory_of_the_call_mib": max(0.0, peak - loaded),
        "latent_shape": list(latents.shape),
        "latent_elements": latents.numel(),
        "note": case.note,
    }


def decoded_shape(name: str, shape: tuple[int, ...]) -> torch.Size:
    _, channels, num_frames, height, width = shape
    return torch.Size((num_frames, channels, height, width) if name == "AutoencoderDC" else shape)


def memory_now(device: torch.device) -> float:
    """MiB in use: model, inputs and libraries."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated() / 2**20
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory_peak(device: torch.device) -> float:
    """The most MiB that this process ever held; on a CPU that counts its libraries and the building of the model."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # KiB on Linux


def measure_apart(name: str, direction: str, setting: Setting) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--case",
        name,
        "--direction",
        direction,
        "--setting",
        json.dumps(asdict(setting)),
    ]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return measured


def ratio_table(results: list[dict[str, Any]]) -> str:
    """Markdown: seconds, and the memory that the call adds to model and libraries; in brackets as multiples of ours."""
    found = {(result["model"], result["direction"]): result for result in results}
    lines = [
        "| model | parameters | latent elements | encode s | encode MiB | decode s | decode MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(result["model"] for result in results):
        cells = [name, f"{found[name, 'encode']['parameters'] / 1e6:.1f} M"]
        cells.append(with_ratio(found, name, "encode", "latent_elements", ",.0f"))
        for direction in ("encode", "decode"):
            cells.append(with_ratio(found, name, direction, "seconds_median", ".3f"))
            cells.append(with_ratio(found, name, direction, "memory_of_the_call_mib", ",.0f"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_ratio(found: dict[tuple[str, str], dict[str, Any]], name: str, direction: str, field: str, form: str) -> str:
    value, ours = found[name, direction][field], found[OURS, direction][field]
    return f"{value:{form}}" + (f" ({value / ours:.2f}x)" if ours else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-frames", type=int, default=17, help="1 + 8k, which all of them take")
    parser.add_argument("--height", type=int, default=256, help="a multiple of 64")
    parser.add_argument("--width", type=int, default=256, help="a multiple of 64")
    parser.add_argument("--narrow", type=int, default=4, choices=(1, 2, 4), help="divisor of all published widths")
    parser.add_argument("--runs", type=int, default=5, help="timed runs after the warm-up")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--models", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--output", type=Path, help="JSON to write; the table appears beside it as .md")
    parser.add_argument("--case", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--direction", choices=("encode", "decode"), help=argparse.SUPPRESS)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case, options.direction, Setting(**json.loads(options.setting)))))
        return
    if (options.num_frames - 1) % 8 or options.height % 64 or options.width % 64 or options.runs < 1:
        parser.error("--num-frames must be 1 + 8k, --height and --width multiples of 64, --runs at least 1")
    setting = Setting(**{name: getattr(options, name) for name in Setting.__dataclass_fields__})
    names = list(dict.fromkeys([OURS, *options.models]))
    results = []
    for name in names:
        for direction in ("encode", "decode"):
            print(f"{name}, {direction}", file=sys.stderr)
            results.append(measure_apart(name, direction, setting))
    facts = provenance("fsae_vs_diffusers", ("torch", "diffusers", "fastvid-vae"), setting.device) | {
        "warm_up": WARM_UP,
        "setting": asdict(setting),
    }
    publish(facts | {"results": results}, ratio_table(results), options.output)


if __name__ == "__main__":
    main()
