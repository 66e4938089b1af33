"""What one forward pass of FSVideoDiT costs, with and without layer memory, against diffusers' WanTransformer3DModel.

All models have the same width, depth, heads, context and number of tokens, and random weights; each runs in a process
of its own, so that its peak memory is its own. Wan's patch is set to one voxel too: the bodies are then the same but
for the routers. Quality beside speed: the largest relative difference between our velocity without layer memory and
Wan's, from the same weights.

    uv run python benchmarks/dit_vs_wan.py --output benchmarks/results/dit_vs_wan_<hardware>_<yyyymm>.json
"""

import argparse
import json
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
from diffusers import WanTransformer3DModel
from fastvid_dit import FSVIDEO_14B, FSVideoDiT, FSVideoDiTConfig
from fastvid_dit.conversion.wan_diffusers import invert
from provenance import provenance
from report import publish
from torch import Tensor, nn

WAN = "WanTransformer3DModel"  # what ratios are relative to
PLAIN = "FSVideoDiT without layer memory"
MEMORY = "FSVideoDiT with layer memory"
MODELS = (WAN, PLAIN, MEMORY)
WARM_UP = 1
TEXT_TOKENS, IMAGE_TOKENS = 512, 257  # fixed in diffusers' model, and what Wan uses


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What every model is given."""

    num_blocks: int
    heads: int  # of 128 channels; the width follows, and the feed-forward width in Wan's proportion
    frames: int
    height: int
    width: int
    batch: int
    runs: int
    device: str
    dtype: str
    compiled: bool


def configuration(setting: Setting, *, layer_memory: bool) -> FSVideoDiTConfig:
    width = 128 * setting.heads
    return replace(
        FSVIDEO_14B,
        width=width,
        num_heads=setting.heads,
        num_blocks=setting.num_blocks,
        ffn_width=width * 13824 // 5120,
        layer_memory=layer_memory,
    )


def build_wan(config: FSVideoDiTConfig) -> WanTransformer3DModel:
    return WanTransformer3DModel(
        patch_size=config.patch_size,
        num_attention_heads=config.num_heads,
        attention_head_dim=config.width // config.num_heads,
        in_channels=config.latent_channels + config.condition_channels,
        out_channels=config.latent_channels,
        text_dim=config.text_width,
        freq_dim=config.frequency_width,
        ffn_dim=config.ffn_width,
        num_layers=config.num_blocks,
        image_dim=config.image_width,
        added_kv_proj_dim=config.width,
    )


def build_ours(config: FSVideoDiTConfig) -> FSVideoDiT:
    """Random in every part: a fresh model's head is zero and would hide everything before it."""
    torch.manual_seed(0)
    model = FSVideoDiT(config)
    nn.init.xavier_uniform_(model.head.linear.weight)
    return model


def draw_inputs(setting: Setting) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    device, dtype = torch.device(setting.device), getattr(torch, setting.dtype)
    config = configuration(setting, layer_memory=False)
    size = setting.frames, setting.height, setting.width

    def draw(*shape: int) -> Tensor:
        return torch.randn(setting.batch, *shape, generator=generator).to(device, dtype)

    return {
        "latents": draw(config.latent_channels, *size),
        "condition": draw(config.condition_channels, *size),
        "text": draw(TEXT_TOKENS, config.text_width),
        "image_tokens": draw(IMAGE_TOKENS, 1280),
        "timestep": torch.full((setting.batch,), 500.0, device=device),
    }


def wan_forward(model: nn.Module, given: dict[str, Tensor]) -> Tensor:
    velocity: Tensor = model(
        hidden_states=torch.cat((given["latents"], given["condition"]), dim=1),
        timestep=given["timestep"],
        encoder_hidden_states=given["text"],
        encoder_hidden_states_image=given["image_tokens"],
        return_dict=False,
    )[0]
    return velocity


def our_forward(model: nn.Module, given: dict[str, Tensor]) -> Tensor:
    velocity: Tensor = model(**given)
    return velocity


def prepare(name: str, setting: Setting) -> tuple[nn.Module, Callable[[nn.Module, dict[str, Tensor]], Tensor]]:
    """A model on its device, and how to call it."""
    config = configuration(setting, layer_memory=name == MEMORY)
    dtype = getattr(torch, setting.dtype)
    with torch.device(setting.device):
        if name == WAN:
            model: nn.Module = build_wan(config)
            for key, parameter in model.named_parameters():  # what diffusers does when it loads a checkpoint
                keep = any(part in key for part in WanTransformer3DModel._keep_in_fp32_modules)
                parameter.data = parameter.data.to(torch.float32 if keep else dtype)
        else:
            model = build_ours(config)
            model.lower_precision(dtype)
    model = model.eval()
    compiled: nn.Module = torch.compile(model, dynamic=False) if setting.compiled else model  # type: ignore[assignment]
    return compiled, wan_forward if name == WAN else our_forward


@torch.inference_mode()
def measure(name: str, setting: Setting) -> dict[str, Any]:
    """One model, in this process."""
    model, forward = prepare(name, setting)
    given, device = draw_inputs(setting), torch.device(setting.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # building in float32 is no part of the call
    seconds = []
    for _ in range(WARM_UP + setting.runs):
        start = time.perf_counter()
        velocity = forward(model, given)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    if velocity.shape != given["latents"].shape or not velocity.isfinite().all():
        raise RuntimeError(f"{name}: velocity of shape {tuple(velocity.shape)}, or not finite")
    timed = seconds[WARM_UP:]
    return {
        "model": name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens": setting.frames * setting.height * setting.width,
        "seconds_median": statistics.median(timed),
        "seconds_min": min(timed),
        "seconds_max": max(timed),
        "memory_peak_mib": memory_peak(device),
    }


@torch.inference_mode()
def parity(setting: Setting) -> float:
    """Largest difference to Wan from equal weights, relative to the largest value, in float32 on the CPU."""
    small = replace(setting, num_blocks=2, frames=2, height=2, width=2, device="cpu", dtype="float32")
    config = configuration(small, layer_memory=False)
    ours, wan = build_ours(config), build_wan(config)
    wan.load_state_dict(invert(ours.state_dict(), config))
    given = draw_inputs(small)
    expected = wan_forward(wan, given)
    return ((our_forward(ours, given) - expected).abs().max() / expected.abs().max()).item()


def memory_peak(device: torch.device) -> float:
    """The most MiB that this process ever held; on a CPU that counts its libraries and the building of the model."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # KiB on Linux


def measure_apart(name: str, setting: Setting) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--model", name, "--setting", json.dumps(asdict(setting))]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return measured


def ratio_table(results: list[dict[str, Any]]) -> str:
    """Markdown; in brackets as multiples of diffusers."""
    base = next(result for result in results if result["model"] == WAN)
    lines = ["| model | parameters | seconds | peak MiB |", "|---|---|---|---|"]
    for result in results:
        cells = [result["model"], f"{result['parameters'] / 1e6:.1f} M"]
        for field, form in (("seconds_median", ".3f"), ("memory_peak_mib", ",.0f")):
            cells.append(f"{result[field]:{form}} ({result[field] / base[field]:.2f}x)")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-blocks", type=int, default=12)
    parser.add_argument("--heads", type=int, default=6, help="of 128 channels each; 40 is full size")
    parser.add_argument("--frames", type=int, default=5, help="latent frames; 31 is five seconds")
    parser.add_argument("--height", type=int, default=6, help="latent rows; 6 x 10 is the base size of FSVideo")
    parser.add_argument("--width", type=int, default=10, help="latent columns")
    parser.add_argument("--batch", type=int, default=2, help="2: both branches of guidance")
    parser.add_argument("--runs", type=int, default=5, help="timed runs after the warm-up")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--compiled", action="store_true", help="torch.compile every model")
    parser.add_argument("--output", type=Path, help="JSON to write; the table appears beside it as .md")
    parser.add_argument("--model", choices=MODELS, help=argparse.SUPPRESS)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.model:
        print(json.dumps(measure(options.model, Setting(**json.loads(options.setting)))))
        return
    setting = Setting(**{name: getattr(options, name) for name in Setting.__dataclass_fields__})
    if min(asdict(setting)[name] for name in ("num_blocks", "heads", "frames", "height", "width", "batch", "runs")) < 1:
        parser.error("all sizes and counts must be at least 1")
    results = []
    for name in MODELS:
        print(name, file=sys.stderr)
        results.append(measure_apart(name, setting))
    facts = provenance("dit_vs_wan", ("torch", "diffusers", "fastvid-dit"), setting.device) | {
        "warm_up": WARM_UP,
        "setting": asdict(setting),
        "largest_relative_difference_to_wan_without_layer_memory": parity(setting),
    }
    publish(facts | {"results": results}, ratio_table(results), options.output)


if __name__ == "__main__":
    main()
