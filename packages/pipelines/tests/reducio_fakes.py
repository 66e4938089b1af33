"""Small stand-ins for the parts of a ReducioPipeline."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from fastvid_pipelines.content_frame_to_video import ReducioPipeline
from fastvid_pipelines.reducio_types import ReducioSampling
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .fakes import FakeAutoencoder, FakeImageEncoder, FakeSite, build_text_encoder


class FakeClipConfig(NamedTuple):
    num_frames: int = 8
    fusion: str = "attention"


class FakeClipAutoencoder(FakeAutoencoder):
    """Clips of eight frames; the middle one comes back as the content frame, the others are mixed with it."""

    def __init__(self, latent_channels: int = 4, fusion: str = "attention") -> None:
        super().__init__(latent_channels)
        self.config = FakeClipConfig(fusion=fusion)

    def num_latent_frames(self, num_frames: int) -> int:
        return -(-num_frames // 8) * 2

    def content_frames(self, frames: Tensor) -> Tensor:
        last = frames.shape[2] - 1
        return torch.stack([frames[:, :, min(start + 3, last)] for start in range(0, last + 1, 8)], dim=2)

    def encode(self, frames: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        _, _, t, h, w = frames.shape
        frames = F.pad(frames, (0, -w % 8, 0, -h % 8, 0, -t % 8), mode="replicate")
        return torch.einsum("kc,bcthw->bkthw", self.mix, F.avg_pool3d(frames, self.stride))

    def decode(
        self,
        latents: Tensor,
        *,
        reference: Tensor | None = None,
        num_frames: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        if latents.shape[2] % 2 or reference is None:
            raise ValueError("`latents` are no whole clips, or `reference` is None")
        small = torch.einsum("kc,bkthw->bcthw", self.mix, latents).tanh()
        height, width = size or (8 * latents.shape[3], 8 * latents.shape[4])
        frames = small.repeat_interleave(4, 2).repeat_interleave(8, 3).repeat_interleave(8, 4)[..., :height, :width]
        content = (reference.unsqueeze(2) if reference.dim() == 4 else reference).repeat_interleave(8, 2)
        middle = (torch.arange(frames.shape[2], device=latents.device) % 8 == 3)[:, None, None]
        return torch.where(middle, content, 0.5 * (frames + content))[:, :, :num_frames]


@dataclass(frozen=True, kw_only=True)
class FakeContentFrame:
    content_channels: int = 4
    content_step: int = 2


@dataclass(frozen=True, kw_only=True)
class FakeContentTransformerConfig:
    latent_channels: int = 4
    patch_size: tuple[int, int, int] = (1, 1, 1)
    learn_sigma: bool = False
    size_embedding: bool = True
    content_frame: FakeContentFrame | None = field(default_factory=FakeContentFrame)


class FakeContentTransformer(nn.Module):
    """A linear layer on the latents, one on all that the condition holds, one self-attention. Writes down its calls."""

    def __init__(self, config: FakeContentTransformerConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.latent_channels
        self.latents = nn.Linear(channels, channels * (2 if config.learn_sigma else 1))
        self.condition = nn.Linear(8 + 3 + 4, channels)
        self.conditions: list[dict[str, Tensor | None]] = []
        self.calls: list[dict[str, Any]] = []

    def condition_cache(
        self,
        text: Tensor,
        text_mask: Tensor | None = None,
        *,
        semantic: Tensor | None = None,
        content: Tensor | None = None,
    ) -> Tensor:
        assert semantic is not None
        assert content is not None
        self.conditions.append({"text": text, "mask": text_mask, "semantic": semantic, "content": content})
        weights = torch.ones_like(text[..., 0]) if text_mask is None else text_mask.to(text.dtype)
        words = (text * weights.unsqueeze(-1)).sum(1) / weights.sum(1, keepdim=True)
        return self.condition(torch.cat((words, semantic.mean(1), content.mean((2, 3))), dim=1))

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        *,
        cache: Tensor,
        size: Tensor | None = None,
        positions: Tensor | None = None,
        attention: Any = None,
    ) -> Tensor:
        self.calls.append({"timestep": timestep, "cache": cache, "size": size, "positions": positions})
        x = self.latents(latents.to(cache.dtype).movedim(1, -1))
        clean, rest = x[..., : latents.shape[1]], x[..., latents.shape[1] :]
        clean = clean + cache[:, None, None, None] + (timestep / 1000)[:, None, None, None, None].to(cache.dtype)
        if size is not None:
            clean = clean + (size / 1000).sum(1)[:, None, None, None, None].to(cache.dtype)
        q = clean.flatten(1, 3).unsqueeze(1)
        site = FakeSite(block=0, num_blocks=1, grid=tuple(latents.shape[2:]))
        attended = F.scaled_dot_product_attention(q, q, q) if attention is None else attention(q, q, q, site)
        clean = attended.squeeze(1).reshape_as(clean) + clean
        return torch.cat((clean, rest), dim=-1).movedim(-1, 1).to(latents.dtype)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        folder = Path(directory)
        folder.mkdir(parents=True)
        save_file(self.state_dict(), folder / "model.safetensors")

    @classmethod
    def from_pretrained(
        cls, path: Path, *, subfolder: str, dtype: object, device: object, local_files_only: bool
    ) -> Self:
        model = cls(FakeContentTransformerConfig())
        model.load_state_dict(load_file(path / subfolder / "model.safetensors"))
        return model.to(device, dtype)  # type: ignore[call-overload]


class FakeContentEncoder:
    """Means of 8 x 8 pixels, and a little noise."""

    stride = 8

    def __init__(self, latent_channels: int = 4) -> None:
        self.latent_channels = latent_channels

    def encode(self, image: Tensor, *, generator: torch.Generator) -> Tensor:
        assert image.shape[2] % 16 == image.shape[3] % 16 == 0
        small = F.avg_pool2d(image.float(), 8)[:, [0, 1, 2, 0][: self.latent_channels]]
        return (small + 0.1 * torch.randn(small.shape, generator=generator)).to(image.dtype)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        Path(directory).mkdir(parents=True)


REDUCIO_SAMPLING = ReducioSampling(
    num_frames=8, height=32, width=48, fps=16.0, num_inference_steps=3, guidance_scale=2.5
)


def build_reducio(**changes: Any) -> ReducioPipeline:
    """A whole ReducioPipeline of fakes, with random weights."""
    text_encoder = build_text_encoder()
    parts = {
        "autoencoder": FakeClipAutoencoder(),
        "transformer": FakeContentTransformer(FakeContentTransformerConfig()),
        "text_encoder": text_encoder,
        "image_encoder": FakeImageEncoder(),
        "content_encoder": FakeContentEncoder(),
        "sampling": REDUCIO_SAMPLING,
    }
    return ReducioPipeline(**(parts | changes))
