"""Five seconds of 720 x 1280 on FSVideo's two transformers, against diffusers' Wan2.1-I2V-14B, from times of one pass.

Random weights, drawn on the device; each case runs in a process of its own. A video takes 60 passes of Wan (30 guided
steps), or 60 of FSVideo's base and 8 of its refiner, so the time of one pass is multiplied out. All run torch's
scaled_dot_product_attention, held to its FlashAttention. MFU is the share of what large matrix products reach on this
device, which is measured after the cases.
The paper's figures to stand beside (Table 4, bf16, one H100): 27.4 s for FSVideo, 58.7 times faster than Wan.

    uv run python benchmarks/fsvideo_vs_wan.py --device cuda --compiled --work runs/fsvideo_vs_wan \
        --output benchmarks/results/fsvideo_vs_wan_<gpu>.json
    uv run python benchmarks/fsvideo_vs_wan.py --toy
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from dit_vs_wan import build_wan
from fastvid_dit import FSVIDEO_14B, WAN21_I2V_14B, FSVideoDiT, FSVideoDiTConfig
from fastvid_dit.cost import IMAGE_TOKENS, TEXT_TOKENS, forward_cost
from fastvid_dit.fsvideo_dit import FLOAT32_PARTS
from provenance import provenance
from report import publish
from timing import matmul_ceiling, measure_apart, peak_gigabytes, timed
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

WAN, BASE, REFINER = "Wan2.1-I2V-14B", "FSVideo base", "FSVideo refiner"
SEPARATE, PLAIN_BASE, PLAIN_REFINER = (
    "FSVideo base, branches apart",
    "FSVideo base without layer memory",
    "FSVideo refiner without layer memory",
)
CASES = (WAN, BASE, SEPARATE, PLAIN_BASE, REFINER, PLAIN_REFINER)
COMPILED = tuple(f"{name}, compiled" for name in (WAN, BASE, REFINER))
GUIDED_PASSES, REFINER_PASSES = 60, 8
WARM_UP = 2
TOY = {"width": 64, "num_heads": 2, "num_blocks": 2, "ffn_width": 128}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What every case is given."""

    toy: bool
    runs: int
    device: str

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.device == "cuda" else torch.float32


def eager(name: str) -> str:
    """The case of the same model that is not compiled."""
    return name.removesuffix(", compiled")


def configuration(name: str, setting: Setting) -> FSVideoDiTConfig:
    config = WAN21_I2V_14B if name == WAN else FSVIDEO_14B
    if name in (PLAIN_BASE, PLAIN_REFINER):
        config = replace(config, layer_memory=False)
    return replace(config, **TOY) if setting.toy else config


def latent_size(name: str, setting: Setting) -> tuple[int, int, int]:
    """Latent frames, rows and columns of 121 frames; a toy has five frames and a quarter of Wan's sides."""
    frames = 2 if setting.toy else 31
    if name == WAN:
        return (frames, 22, 40) if setting.toy else (frames, 90, 160)
    return (frames, 12, 20) if name in (REFINER, PLAIN_REFINER) else (frames, 6, 10)


def branches(name: str) -> int:
    """Samples of one call: Wan as diffusers runs it, one branch a call; the base both; the refiner has one."""
    return 2 if name in (BASE, PLAIN_BASE) else 1


def build(name: str, setting: Setting) -> nn.Module:
    """Random in every part, on the device in its data type from the start: float32 would need twice the memory."""
    config = configuration(name, setting)
    torch.manual_seed(0)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(setting.dtype)
    with torch.device(setting.device):
        model: nn.Module = build_wan(config) if name == WAN else FSVideoDiT(config)
    torch.set_default_dtype(usual)
    kept = WanTransformer3DModel._keep_in_fp32_modules if name == WAN else FLOAT32_PARTS
    for key, parameter in model.named_parameters():
        nn.init.normal_(parameter, std=0.02)
        if any(part in key for part in kept):
            parameter.data = parameter.data.float()
    return model.eval().requires_grad_(False)


def one_pass(name: str, setting: Setting, *, compiled: bool) -> Callable[[], Tensor]:
    """The model on inputs of its own, as a call without arguments."""
    config, size, batch = configuration(name, setting), latent_size(name, setting), branches(name)
    model, device = build(name, setting), setting.device
    if compiled:
        model.compile(dynamic=False)

    def draw(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, device=device, dtype=setting.dtype)

    latents, condition = draw(config.latent_channels, *size), draw(config.condition_channels, *size)
    text, image = draw(TEXT_TOKENS, config.text_width), draw(IMAGE_TOKENS, config.image_width or 0)
    timestep = torch.full((batch,), 500.0, device=device)
    if name == WAN:
        joined = torch.cat((latents, condition), dim=1)
        return lambda: model(
            hidden_states=joined,
            timestep=timestep,
            encoder_hidden_states=text,
            encoder_hidden_states_image=image,
            return_dict=False,
        )[0]
    return lambda: model(latents, timestep, text, condition=condition, image_tokens=image)


@torch.inference_mode()
def measure(case: str, setting: Setting) -> dict[str, Any]:
    """Seconds and memory of one call, in this process."""
    name = eager(case)
    call = one_pass(name, setting, compiled=case in COMPILED)
    if setting.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        for _ in range(WARM_UP):
            velocity = call()
        if not velocity.isfinite().all():
            raise RuntimeError(f"{case}: the velocity is not finite")
        seconds = [timed(call, setting.device) for _ in range(setting.runs)]
    cost = forward_cost(configuration(name, setting), latent_size(name, setting))
    return {
        "case": case,
        "tokens": cost.tokens,
        "branches": branches(name),
        "flops_of_a_pass": cost.flops,
        "seconds_of_a_call": statistics.median(seconds),
        "seconds_of_a_pass": statistics.median(seconds) / branches(name),
        "memory_peak_gb": peak_gigabytes(setting.device),
    }


def measured(case: str, setting: Setting, work: Path | None) -> dict[str, Any]:
    """From an earlier run with the same setting where `work` has it: full size takes minutes a case."""
    kept = work / f"{case.lower().replace(', ', '_').replace(' ', '_')}.json" if work else None
    if kept and kept.exists():
        earlier = json.loads(kept.read_text())
        if earlier["setting"] != asdict(setting):
            raise SystemExit(f"{kept} was measured with {earlier['setting']}, not with {asdict(setting)}")
        found: dict[str, Any] = earlier["result"]
        return found
    print(case, file=sys.stderr, flush=True)
    # A toy's memory says nothing, so it need not wait for a process for each case to import torch.
    result = measure(case, setting) if setting.toy else measure_apart(__file__, case, setting)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps({"setting": asdict(setting), "result": result}) + "\n")
    return result


def summary(results: list[dict[str, Any]], ceiling: float) -> dict[str, float]:
    """Seconds of a whole video, and how many times faster FSVideo's is."""
    found = {result["case"]: result["seconds_of_a_pass"] for result in results}
    flops = {result["case"]: result["flops_of_a_pass"] for result in results}
    wan = GUIDED_PASSES * found[WAN]
    ours = GUIDED_PASSES * found[BASE] + REFINER_PASSES * found[REFINER]
    plain = GUIDED_PASSES * found[PLAIN_BASE] + REFINER_PASSES * found[PLAIN_REFINER]
    work = GUIDED_PASSES * flops[BASE] + REFINER_PASSES * flops[REFINER]
    totals = {
        "wan_seconds": wan,
        "fsvideo_seconds": ours,
        "fsvideo_without_layer_memory_seconds": plain,
        "times_faster": wan / ours,
        "times_fewer_operations": GUIDED_PASSES * flops[WAN] / work,
        "branches_apart_over_together": found[SEPARATE] / found[BASE],
        "matmul_ceiling_tflops": ceiling / 1e12,
    }
    if COMPILED[0] in found:
        wan, base, refiner = (found[name] for name in COMPILED)
        ours = GUIDED_PASSES * base + REFINER_PASSES * refiner
        totals |= {
            "wan_compiled_seconds": GUIDED_PASSES * wan,
            "fsvideo_compiled_seconds": ours,
            "times_faster_compiled": GUIDED_PASSES * wan / ours,
        }
    return totals


def table(results: list[dict[str, Any]], totals: dict[str, float]) -> str:
    """Markdown."""
    ceiling = totals["matmul_ceiling_tflops"]
    lines = ["| case | tokens | s a pass | TFLOP a pass | MFU | peak GB |", "|---|---|---|---|---|---|"]
    for result in results:
        tera = result["flops_of_a_pass"] / 1e12
        mfu = tera / result["seconds_of_a_pass"] / ceiling
        lines.append(
            f"| {result['case']} | {result['tokens']:,} | {result['seconds_of_a_pass']:.4f} | {tera:,.4g} "
            f"| {100 * mfu:.0f} % | {result['memory_peak_gb']:.1f} |"
        )
    lines += [
        "",
        f"A video: Wan {totals['wan_seconds']:.4g} s, FSVideo {totals['fsvideo_seconds']:.4g} s: "
        f"{totals['times_faster']:.1f} times faster, with {totals['times_fewer_operations']:.1f} times fewer "
        f"operations; {totals['fsvideo_without_layer_memory_seconds']:.4g} s without layer memory. With a call for "
        f"each branch of a guided step its base takes {totals['branches_apart_over_together']:.2f} times as long. "
        f"Matrix products reach {ceiling:.4g} TFLOP/s here. Random weights.",
    ]
    if "times_faster_compiled" in totals:
        lines += [
            "",
            f"Compiled: Wan {totals['wan_compiled_seconds']:.4g} s, FSVideo "
            f"{totals['fsvideo_compiled_seconds']:.4g} s: {totals['times_faster_compiled']:.1f} times.",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="tiny models and videos; the numbers mean nothing")
    parser.add_argument("--compiled", action="store_true", help="also with torch.compile, where there is layer memory")
    parser.add_argument("--runs", type=int, default=5, help="timed calls after the warm-up")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--output", type=Path, help="JSON to write; the table appears beside it as .md")
    parser.add_argument("--work", type=Path, help="folder that keeps what was measured; a killed run goes on")
    parser.add_argument("--case", choices=CASES + COMPILED, help=argparse.SUPPRESS)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case, Setting(**json.loads(options.setting)))))
        return
    if options.device == "cpu" and not options.toy:
        parser.error("two models of 16 billion parameters need a GPU: --device cuda, or --toy")
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    setting = Setting(toy=options.toy, runs=options.runs, device=options.device)
    cases = CASES + COMPILED if options.compiled else CASES
    results = [measured(case, setting, options.work) for case in cases]
    totals = summary(results, matmul_ceiling(setting.device, setting.dtype))
    facts = provenance("fsvideo_vs_wan", ("torch", "diffusers", "fastvid-dit"), setting.device) | {
        "warm_up": WARM_UP,
        "setting": asdict(setting) | {"dtype": str(setting.dtype)},
    }
    publish(facts | totals | {"results": results}, table(results, totals), options.output)


if __name__ == "__main__":
    main()
