"""Full-size transformers of diffusers with random weights, what they are fed, and the settings they run with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from fastvid_accel import AsymRnR, AsymRnRConfig
from fastvid_accel.asymrnr.released import released
from fastvid_accel.integrations.diffusers import accelerate
from torch.nn.attention import SDPBackend

Call = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model at one size.

    Attributes:
        build: the transformer, on torch's default device.
        few, scale: the same with `scale` times fewer blocks, of each kind its share.
        inputs: of one forward pass.
        branches: calls a step; both branches of CogVideoX share one.
        settings: by name, beside running it as it is.
        paper: speed-up of each setting in the paper, on an A100.
        shape: batch, heads, width of a head, grid of the attention.
        text: tokens in the same attention.
        attention: of torch, that diffusers' model can use: it gives HunyuanVideo a mask, which flash attention refuses.
    """

    build: Callable[[], Any]
    few: Callable[[], Any]
    scale: int
    inputs: Callable[[], Call]
    steps: int
    window: int
    settings: dict[str, AsymRnR]
    shape: tuple[int, int, int, tuple[int, int, int]]
    text: int = 0
    attention: SDPBackend = SDPBackend.FLASH_ATTENTION
    branches: int = 1
    paper: dict[str, float] = field(default_factory=dict)


def both(name: str) -> dict[str, AsymRnR]:
    return {strength: released(name, strength) for strength in ("base", "fast")}


def unscheduled(stride: tuple[int, int, int] = (2, 2, 2), min_gain: float = 0.0) -> dict[str, AsymRnR]:
    """For models without a published schedule."""
    kv = ((0.0, 0.3),)
    return {
        "values": AsymRnR(AsymRnRConfig(kv=kv, stride=stride, min_gain=min_gain)),
        "queries and values": AsymRnR(AsymRnRConfig(q=((0.0, 0.3),), kv=kv, stride=stride, min_gain=min_gain)),
    }


def cogvideox(batch: int, latents: tuple[int, int, int], *, rotary: bool, text: int = 4096) -> Call:
    t, h, w = latents
    angles = torch.zeros(t * h * w // 4, 64)
    return {
        "hidden_states": torch.randn(batch, t, 16, h, w),
        "encoder_hidden_states": torch.randn(batch, 226, text),
        "timestep": torch.full((batch,), 500),
        "image_rotary_emb": (angles.cos(), angles.sin()) if rotary else None,
    }


def hunyuan(latents: tuple[int, int, int], text: int = 4096) -> Call:
    mask = torch.ones(1, 256)
    mask[:, 64:] = 0
    return {
        "hidden_states": torch.randn(1, 16, *latents),
        "encoder_hidden_states": torch.randn(1, 256, text),
        "encoder_attention_mask": mask,
        "pooled_projections": torch.randn(1, 768),
        "guidance": torch.full((1,), 6000.0),
        "timestep": torch.full((1,), 500),
    }


def wan(latents: tuple[int, int, int], text: int = 4096) -> Call:
    return {
        "hidden_states": torch.randn(1, 16, *latents),
        "encoder_hidden_states": torch.randn(1, 512, text),
        "timestep": torch.full((1,), 500),
    }


def cogvideox_5b(num_layers: int = 42) -> Any:
    return CogVideoXTransformer3DModel(
        num_attention_heads=48, num_layers=num_layers, use_rotary_positional_embeddings=True
    )


CASES = {
    "CogVideoX-2B, 49x480x720": Case(
        build=CogVideoXTransformer3DModel,
        few=lambda: CogVideoXTransformer3DModel(num_layers=2),
        scale=15,
        inputs=lambda: cogvideox(2, (13, 60, 90), rotary=False),
        steps=50,
        window=5,
        settings=both("cogvideox-2b"),
        shape=(2, 30, 64, (13, 30, 45)),
        text=226,
        paper={"base": 1.13, "fast": 1.17},
    ),
    "CogVideoX-5B, 49x480x720": Case(
        build=cogvideox_5b,
        few=lambda: cogvideox_5b(num_layers=2),
        scale=21,
        inputs=lambda: cogvideox(2, (13, 60, 90), rotary=True),
        steps=50,
        window=5,
        settings=both("cogvideox-5b"),
        shape=(2, 48, 64, (13, 30, 45)),
        text=226,
        paper={"base": 1.10, "fast": 1.13},
    ),
    "HunyuanVideo, 129x544x960": Case(
        build=HunyuanVideoTransformer3DModel,
        few=lambda: HunyuanVideoTransformer3DModel(num_layers=1, num_single_layers=2),
        scale=20,
        inputs=lambda: hunyuan((33, 68, 120)),
        steps=30,
        window=3,
        settings=both("hunyuanvideo"),
        shape=(1, 24, 128, (33, 34, 60)),
        text=256,
        attention=SDPBackend.EFFICIENT_ATTENTION,
    ),
    "Wan2.1-14B, 81x720x1280": Case(
        build=WanTransformer3DModel,
        few=lambda: WanTransformer3DModel(num_layers=2),
        scale=20,
        inputs=lambda: wan((21, 90, 160)),
        steps=50,
        window=5,
        settings=unscheduled(),
        shape=(1, 40, 128, (21, 45, 80)),
        branches=2,
    ),
}

SMALL = {"num_attention_heads": 2, "attention_head_dim": 16}


def small_cogvideox(num_layers: int = 2) -> Any:
    return CogVideoXTransformer3DModel(**SMALL, time_embed_dim=8, text_embed_dim=16, num_layers=num_layers)


def small_hunyuan(num_layers: int = 2) -> Any:
    layers = {"num_layers": num_layers, "num_single_layers": num_layers, "num_refiner_layers": 1}
    return HunyuanVideoTransformer3DModel(**SMALL, **layers, text_embed_dim=16, rope_axes_dim=(4, 6, 6))


def small_wan(num_layers: int = 2) -> Any:
    return WanTransformer3DModel(**SMALL, text_dim=16, freq_dim=8, ffn_dim=32, num_layers=num_layers)


TOY = {
    "CogVideoX, toy": Case(
        build=small_cogvideox,
        few=lambda: small_cogvideox(1),
        scale=2,
        inputs=lambda: (
            cogvideox(2, (13, 60, 90), rotary=False, text=16) | {"hidden_states": torch.randn(2, 5, 16, 8, 8)}
        ),
        steps=4,
        window=2,
        settings=unscheduled(),
        shape=(2, 2, 16, (5, 4, 4)),
        text=226,
    ),
    "HunyuanVideo, toy": Case(
        build=small_hunyuan,
        few=lambda: small_hunyuan(1),
        scale=2,
        inputs=lambda: hunyuan((5, 8, 8), text=16),
        steps=4,
        window=2,
        settings=unscheduled(),
        shape=(1, 2, 16, (5, 4, 4)),
        text=256,
    ),
    "Wan, toy": Case(
        build=small_wan,
        few=lambda: small_wan(1),
        scale=2,
        inputs=lambda: wan((5, 8, 8), text=16),
        steps=4,
        window=2,
        settings=unscheduled(),
        shape=(1, 2, 16, (5, 4, 4)),
        branches=2,
    ),
}


def over_video(
    case: Case, model: Any, setting: AsymRnR | None, run: Callable[[Callable[[], object]], float]
) -> tuple[float, float]:
    """What `run` says of a forward pass, over all steps: from a step of each window that matches and one that does not.

    Args:
        run: of a forward pass, to a number: its seconds, or its operations.
    Returns:
        The sum, of all branches; and the share of operations saved, by formula.
    """
    inputs = case.inputs()
    pipe = SimpleNamespace(transformer=model, scheduler=SimpleNamespace(timesteps=torch.linspace(999, 0, case.steps)))
    if setting is None:
        return case.branches * case.steps * run(lambda: model(**inputs)), 0.0
    total, window = 0.0, setting.config.window
    with accelerate(pipe, setting) as acceleration:
        for start in range(0, case.steps, window):
            length = min(window, case.steps - start)
            for step, times in ((start, 1), (start + 1, length - 1)):
                if times:
                    with model.cache_context("cond", step_index=step):
                        total += times * run(lambda: model(**inputs))
        return case.branches * total, acceleration.report()["predicted_gain"]
