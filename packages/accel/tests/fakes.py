"""Small stand-ins for what this package reads or wraps."""

from dataclasses import dataclass, field

import torch
from fastvid_accel.interfaces import AttentionOp, AttentionSite, Estimate, Step, VideoCodec
from fastvid_accel.no_acceleration import full_attention
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeStep:
    index: int
    num_steps: int
    sigma: float
    next_sigma: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeSite:
    block: int
    num_blocks: int
    grid: tuple[int, int, int]


def steps(num_steps: int) -> list[FakeStep]:
    sigmas = torch.linspace(1, 0, num_steps + 1).tolist()
    return [FakeStep(index=i, num_steps=num_steps, sigma=sigmas[i], next_sigma=sigmas[i + 1]) for i in range(num_steps)]


def denoise(session, num_steps: int, seed: int = 0, num_blocks: int = 2) -> Tensor:  # type: ignore[no-untyped-def]
    """A toy video made through a session: attention is the only thing that mixes tokens."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(2, 4, 5, 2, 3, generator=generator)
    positions = torch.stack(torch.meshgrid(*(torch.arange(n).float() for n in latents.shape[2:]), indexing="ij"))
    for step in steps(num_steps):
        session.begin_step(step)
        grid = (latents.shape[2], latents.shape[3], latents.shape[4])
        tokens = latents.flatten(2).transpose(1, 2).unsqueeze(1)
        for block in range(num_blocks):
            site = FakeSite(block=block, num_blocks=num_blocks, grid=grid)
            attend = session.attention or full_attention
            tokens = tokens + attend(tokens.sin(), tokens.cos(), tokens, site)
        velocity = tokens.squeeze(1).transpose(1, 2).reshape(latents.shape)
        denoised = latents - step.sigma * velocity
        latents = latents + (step.next_sigma - step.sigma) * velocity
        latents, positions = session.end_step(latents, denoised, positions, step)
    assert positions.shape[1:] == latents.shape[2:]
    frames: Tensor = session.finish(latents[:, :3])
    return frames


@dataclass(frozen=True, slots=True)
class Recorder:
    """Writes down what it is asked, and hands on; `log` is shared on purpose so that order can be seen."""

    name: str
    log: list[str] = field(default_factory=list)

    def start(
        self, *, num_steps: int, attention: AttentionOp | None = None, codec: VideoCodec | None = None
    ) -> "RecorderSession":
        self.log.append(f"{self.name}.start {num_steps}")
        return RecorderSession(self, attention or full_attention)


class RecorderSession:
    def __init__(self, owner: Recorder, attention: AttentionOp) -> None:
        self.name, self.log, self.inner = owner.name, owner.log, attention

    def begin_step(self, step: Step, /) -> None:
        self.log.append(f"{self.name}.begin_step {step.index}")

    def attention(self, q: Tensor, k: Tensor, v: Tensor, site: AttentionSite, /) -> Tensor:
        self.log.append(f"{self.name}.attention {site.block}")
        return self.inner(q, k, v, site)

    def end_step(
        self,
        latents: Tensor,
        denoised: Tensor,
        positions: Tensor,
        step: Step,
        /,
        *,
        estimate: Estimate | None = None,
    ) -> tuple[Tensor, Tensor]:
        self.log.append(f"{self.name}.end_step {step.index}")
        return latents, positions

    def finish(self, frames: Tensor, /) -> Tensor:
        self.log.append(f"{self.name}.finish")
        return frames

    def report(self) -> dict[str, str]:
        return {"name": self.name}


class HalvesFrames:
    """Keeps every second latent frame after the first step and repeats frames at the end."""

    def start(
        self, *, num_steps: int, attention: AttentionOp | None = None, codec: VideoCodec | None = None
    ) -> "HalvesFramesSession":
        return HalvesFramesSession(attention or full_attention)


class HalvesFramesSession:
    def __init__(self, attention: AttentionOp) -> None:
        self.inner = attention
        self.num_frames = 0

    def begin_step(self, step: Step, /) -> None:
        pass

    def attention(self, q: Tensor, k: Tensor, v: Tensor, site: AttentionSite, /) -> Tensor:
        return self.inner(q, k, v, site)

    def end_step(
        self,
        latents: Tensor,
        denoised: Tensor,
        positions: Tensor,
        step: Step,
        /,
        *,
        estimate: Estimate | None = None,
    ) -> tuple[Tensor, Tensor]:
        if step.index > 0:
            return latents, positions
        self.num_frames = latents.shape[2]
        return latents[:, :, ::2], positions[:, ::2]

    def finish(self, frames: Tensor, /) -> Tensor:
        return frames.repeat_interleave(2, dim=2)[:, :, : self.num_frames]

    def report(self) -> dict[str, int]:
        return {"num_frames": self.num_frames}
