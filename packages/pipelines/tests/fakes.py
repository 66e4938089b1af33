"""Small stand-ins for the parts this package consumes. The suites in tests/contracts run on them and on real parts."""

import json
import os
from collections.abc import Callable
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from fastvid_pipelines.encoders.byte import ByteTextEncoder, ByteTextEncoderConfig
from fastvid_pipelines.image_to_video import FSVideoPipeline
from fastvid_pipelines.parts import Refiner
from fastvid_pipelines.types import Refinement, Sampling
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class FakeAutoencoder(nn.Module):
    """Strides 4, 8, 8: averages on the way in, repeats on the way out; the reference is mixed into all frames."""

    stride = (4, 8, 8)
    takes_reference = True

    def __init__(self, latent_channels: int = 4) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.mix = nn.Parameter(torch.linspace(-1, 1, 3 * latent_channels).reshape(latent_channels, 3))

    def num_latent_frames(self, num_frames: int) -> int:
        return 1 + -(-(num_frames - 1) // 4)

    def encode(self, frames: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        if frames.ndim != 5 or frames.shape[1] != 3 or 0 in frames.shape:
            raise ValueError(f"`frames` has shape {tuple(frames.shape)}; expected `b 3 T H W`")
        _, _, t, h, w = frames.shape
        frames = F.pad(frames, (0, -w % self.stride[2], 0, -h % self.stride[1], 0, (1 - t) % 4), mode="replicate")
        padded = torch.cat((frames[:, :, :1].expand(-1, -1, 3, -1, -1), frames), dim=2)
        small = F.avg_pool3d(padded.float(), self.stride).to(frames.dtype)
        return torch.einsum("kc,bcthw->bkthw", self.mix, small)

    def decode(
        self,
        latents: Tensor,
        *,
        reference: Tensor | None = None,
        num_frames: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        small = torch.einsum("kc,bkthw->bcthw", self.mix, latents).tanh()
        frames = small.repeat_interleave(4, 2)[:, :, 3:].repeat_interleave(self.stride[1], 3)
        frames = frames.repeat_interleave(self.stride[2], 4)
        height, width = size or frames.shape[-2:]
        frames = frames[:, :, :num_frames, :height, :width]
        return frames if reference is None else 0.5 * (frames + reference.unsqueeze(2))

    def truncated(self, *, stages: int) -> "FakeAutoencoder":
        small = copy(self)
        small.stride = (4, 8 >> stages, 8 >> stages)
        return small

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        folder = Path(directory)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"latent_channels": self.latent_channels}))
        save_file(self.state_dict(), folder / "model.safetensors")

    @classmethod
    def from_pretrained(
        cls, path: Path, *, subfolder: str, dtype: object, device: object, local_files_only: bool
    ) -> Self:
        model = cls(**json.loads((path / subfolder / "config.json").read_text()))
        model.load_state_dict(load_file(path / subfolder / "model.safetensors"))
        return model.to(device, dtype)  # type: ignore[call-overload]


@dataclass(frozen=True, kw_only=True)
class FakeTransformerConfig:
    latent_channels: int = 4
    text_width: int = 8
    image_width: int | None = None
    patch_size: tuple[int, int, int] = (1, 1, 1)
    refiner_mask: float | None = None


class FakeTransformer(nn.Module):
    """One linear layer for each input, one self-attention; every input moves the output."""

    def __init__(self, config: FakeTransformerConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.latent_channels
        self.latents = nn.Linear(channels, channels)
        self.condition = nn.Linear(channels + 1, channels)
        self.text = nn.Linear(config.text_width, channels)
        self.image = None if config.image_width is None else nn.Linear(config.image_width, channels)
        self.calls: list[int] = []

    def first_frame_condition(self, image_latents: Tensor, num_latent_frames: int) -> Tensor:
        first = torch.cat((torch.ones_like(image_latents[:, :1]), image_latents), dim=1)
        return F.pad(first, (0, 0, 0, 0, 0, num_latent_frames - 1))

    def refiner_condition(self, upsampled: Tensor, image_latents: Tensor, upsampled_image_latents: Tensor) -> Tensor:
        assert self.config.refiner_mask is not None
        mask = (image_latents - upsampled_image_latents).abs().mean(1, keepdim=True).expand_as(upsampled[:, :1])
        return torch.cat((mask, torch.cat((image_latents, upsampled[:, :, 1:]), dim=2)), dim=1)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        text_mask: Tensor | None = None,
        *,
        condition: Tensor,
        image_tokens: Tensor | None = None,
        positions: Tensor | None = None,
        attention: object = None,
    ) -> Tensor:
        self.calls.append(len(latents))
        weights = torch.ones_like(text[..., 0]) if text_mask is None else text_mask.to(text.dtype)
        summary = self.text((text * weights.unsqueeze(-1)).sum(1) / weights.sum(1, keepdim=True))
        if self.image is not None:
            assert image_tokens is not None
            summary = summary + self.image(image_tokens.mean(1))
        x = self.latents(latents.movedim(1, -1)) + self.condition(condition.movedim(1, -1))
        x = x + summary[:, None, None, None] + (timestep / 1000)[:, None, None, None, None]
        if positions is None:
            positions = torch.stack(torch.meshgrid(*map(torch.arange, latents.shape[2:]), indexing="ij")).to(x.dtype)
        x = x + 0.01 * positions.sum(0)[None, ..., None]
        q = x.flatten(1, 3).unsqueeze(1)
        site = FakeSite(block=0, num_blocks=1, grid=tuple(latents.shape[2:]))
        attended = F.scaled_dot_product_attention(q, q, q) if attention is None else attention(q, q, q, site)  # type: ignore[operator]
        return (attended.squeeze(1).reshape_as(x) + x).movedim(-1, 1)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        folder = Path(directory)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(asdict(self.config)))
        save_file(self.state_dict(), folder / "model.safetensors")

    @classmethod
    def from_pretrained(
        cls, path: Path, *, subfolder: str, dtype: object, device: object, local_files_only: bool
    ) -> Self:
        values = json.loads((path / subfolder / "config.json").read_text())
        model = cls(FakeTransformerConfig(**{**values, "patch_size": tuple(values["patch_size"])}))
        model.load_state_dict(load_file(path / subfolder / "model.safetensors"))
        return model.to(device, dtype)  # type: ignore[call-overload]


class FakeUpsampler(nn.Module):
    """Every place four times."""

    def __init__(self, latent_channels: int = 4) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, latents: Tensor) -> Tensor:
        return self.scale * latents.repeat_interleave(2, 3).repeat_interleave(2, 4)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        folder = Path(directory)
        folder.mkdir(parents=True)
        save_file(self.state_dict(), folder / "model.safetensors")

    @classmethod
    def from_pretrained(
        cls, path: Path, *, subfolder: str, dtype: object, device: object, local_files_only: bool
    ) -> Self:
        model = cls()
        model.load_state_dict(load_file(path / subfolder / "model.safetensors"))
        return model.to(device, dtype)  # type: ignore[call-overload]


@dataclass(frozen=True, kw_only=True)
class FakeSite:
    block: int
    num_blocks: int
    grid: tuple[int, ...]


class FakeImageEncoder:
    """The mean colour as one token."""

    def encode(self, image: Tensor) -> Tensor:
        return image.mean((2, 3)).unsqueeze(1)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        Path(directory).mkdir(parents=True)


def full_attention(q: Tensor, k: Tensor, v: Tensor, site: object) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


class FakeAccelerator:
    """Writes down its life; with `keep` it drops latent frames after the first step and repeats frames at the end."""

    def __init__(self, keep: int | None = None) -> None:
        self.keep = keep
        self.log: list[str] = []

    def start(
        self, *, num_steps: int, attention: Callable[..., Tensor] | None = None, codec: object = None
    ) -> "FakeSession":
        self.log.append(f"start {num_steps}")
        return FakeSession(self, attention or full_attention)


class FakeSession:
    def __init__(self, accelerator: FakeAccelerator, attention: Callable[..., Tensor]) -> None:
        self.keep, self.log, self.inner = accelerator.keep, accelerator.log, attention

    def begin_step(self, step: object) -> None:
        self.log.append("begin")

    def attention(self, q: Tensor, k: Tensor, v: Tensor, site: object) -> Tensor:
        self.log.append("attention")
        return self.inner(q, k, v, site)

    def end_step(
        self, latents: Tensor, denoised: Tensor, positions: Tensor, step: object, *, estimate: object
    ) -> tuple[Tensor, Tensor]:
        self.log.append("end")
        return latents[:, :, : self.keep], positions[:, : self.keep]

    def finish(self, frames: Tensor) -> Tensor:
        self.log.append("finish")
        return frames if self.keep is None else frames.repeat_interleave(4, dim=2)

    def report(self) -> dict[str, int]:
        return {"calls": self.log.count("attention")}


SAMPLING = Sampling(
    num_frames=5,
    height=32,
    width=48,
    fps=8.0,
    num_inference_steps=3,
    guidance_scale=2.0,
    shift=3.0,
    solver="euler",
)


def build_text_encoder(seed: int = 0) -> ByteTextEncoder:
    torch.manual_seed(seed)
    return ByteTextEncoder(ByteTextEncoderConfig(width=8, num_layers=1, num_heads=2, max_bytes=64)).eval()


def build_pipeline(seed: int = 0, *, refining: bool = False) -> FSVideoPipeline:
    """A whole pipeline of fakes, with random weights."""
    text_encoder = build_text_encoder(seed)
    return FSVideoPipeline(
        autoencoder=FakeAutoencoder(),
        transformer=FakeTransformer(FakeTransformerConfig()),
        text_encoder=text_encoder,
        refiner=build_refiner() if refining else None,
        sampling=SAMPLING,
    )


def build_refiner() -> Refiner:
    return Refiner(
        upsampler=FakeUpsampler(),
        transformer=FakeTransformer(FakeTransformerConfig(refiner_mask=0.5)),
        refinement=Refinement(num_inference_steps=2, shift=3.0, solver="euler"),
    )
