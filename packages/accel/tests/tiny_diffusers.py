"""The five transformers of diffusers, tiny and random, and a stand-in for the loop of their pipelines."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import (
    CogVideoXTransformer3DModel,
    HunyuanVideoTransformer3DModel,
    LTXVideoTransformer3DModel,
    MochiTransformer3DModel,
    WanTransformer3DModel,
)
from torch import Tensor, nn

GRID = (4, 4, 6)
HEADS, HEAD_WIDTH, TEXT = 2, 16, 5


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """On the default device, the same on all."""
    values = torch.randn(*shape, generator=torch.Generator("cpu").manual_seed(seed), device="cpu")
    return values.to(torch.get_default_device())


def cogvideox(rotary: bool = True) -> CogVideoXTransformer3DModel:
    return CogVideoXTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=16,
        num_layers=2,
        sample_width=12,
        sample_height=8,
        sample_frames=13,
        patch_size=2,
        max_text_seq_length=TEXT,
        use_rotary_positional_embeddings=rotary,
    )


def call_cogvideox(model: Any, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
    n = GRID[0] * GRID[1] * GRID[2]
    angle = drawn(n, HEAD_WIDTH // 2, seed=9).repeat_interleave(2, dim=1)
    rotary = (angle.cos(), angle.sin()) if model.config.use_rotary_positional_embeddings else None
    out: Tensor = model(latents.transpose(1, 2), text, timestep, image_rotary_emb=rotary, return_dict=False)[0]
    return out.transpose(1, 2)


def hunyuan() -> HunyuanVideoTransformer3DModel:
    return HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=16,
        pooled_projection_dim=8,
        rope_axes_dim=(4, 6, 6),
    )


def call_hunyuan(model: Any, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
    mask = torch.ones(len(text), TEXT)
    mask[:, -2:] = 0
    guidance = torch.full((len(text),), 6000.0)
    pooled = drawn(1, 8, seed=3).expand(len(text), 8)
    out: Tensor = model(latents, timestep, text, mask, pooled, guidance, return_dict=False)[0]
    return out


def wan() -> WanTransformer3DModel:
    return WanTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=8,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )


def call_wan(model: Any, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
    out: Tensor = model(latents, timestep, text, return_dict=False)[0]
    return out


def ltx() -> LTXVideoTransformer3DModel:
    return LTXVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        cross_attention_dim=HEADS * HEAD_WIDTH,
        num_layers=2,
        caption_channels=16,
    )


def call_ltx(model: Any, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
    small = latents[..., ::2, ::2].flatten(2).transpose(1, 2)  # packed, one token a voxel
    size = {"num_frames": GRID[0], "height": GRID[1], "width": GRID[2]}
    mask = torch.ones(len(text), TEXT)
    out: Tensor = model(small, text, timestep, mask, **size, return_dict=False)[0]
    voxels = out.transpose(1, 2).unflatten(2, GRID)
    return voxels.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)


def mochi() -> MochiTransformer3DModel:
    model = MochiTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        num_layers=2,
        pooled_projection_dim=16,
        in_channels=4,
        text_embed_dim=16,
        time_embed_dim=8,
        max_sequence_length=TEXT,
    )
    nn.init.normal_(model.pos_frequencies)
    return model


def call_mochi(model: Any, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
    mask = torch.ones(len(text), TEXT, dtype=torch.bool)
    mask[:, -2:] = False
    out: Tensor = model(latents, text, timestep, mask, return_dict=False)[0]
    return out


@dataclass(frozen=True, slots=True)
class Kind:
    build: Callable[[], Any]
    call: Callable[[Any, Tensor, Tensor, Tensor], Tensor]
    layers: int = 2


KINDS = {
    "CogVideoX-2B": Kind(lambda: cogvideox(rotary=False), call_cogvideox),
    "CogVideoX-5B": Kind(cogvideox, call_cogvideox),
    "HunyuanVideo": Kind(hunyuan, call_hunyuan),
    "Wan": Kind(wan, call_wan),
    "LTX-Video": Kind(ltx, call_ltx),
    "Mochi": Kind(mochi, call_mochi),
}


def build(name: str) -> Any:
    """Random weights, none of them zero."""
    model = KINDS[name].build().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.5
        parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model


class Pipe:
    """Walks a few steps as the pipelines of diffusers do: contexts, separate or joint guidance, a reset at the end."""

    def __init__(self, name: str, transformer: Any, *, num_steps: int = 4, branches: str = "joint") -> None:
        self.kind, self.branches = KINDS[name], branches
        self.transformer = transformer
        self.scheduler = SimpleNamespace(timesteps=torch.linspace(900, 100, num_steps))

    @torch.no_grad()
    def __call__(self, seed: int = 0, stop_after: int | None = None) -> Tensor:
        latents = drawn(1, 4, GRID[0], 2 * GRID[1], 2 * GRID[2], seed=seed)
        texts = {"uncond": drawn(1, TEXT, 16, seed=7), "cond": drawn(1, TEXT, 16, seed=8)}
        for index, timestep in enumerate(self.scheduler.timesteps):
            if index == stop_after:
                raise KeyboardInterrupt
            if self.branches == "separate":
                outs = [self._run(name, latents, timestep, text) for name, text in texts.items()]
            else:
                outs = list(self._run("cond_uncond", latents, timestep, torch.cat(list(texts.values()))).chunk(2))
            latents = latents - 0.1 * (outs[0] + 2 * (outs[1] - outs[0]))
        self.transformer._reset_stateful_cache()
        return latents

    def _run(self, context: str, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        whole = latents.expand(len(text), -1, -1, -1, -1)
        named = nullcontext() if self.branches == "unnamed" else self.transformer.cache_context(context)
        with named:
            return self.kind.call(self.transformer, whole, timestep.expand(len(text)), text)
