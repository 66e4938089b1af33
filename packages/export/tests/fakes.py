"""Small modules of the kinds that are exported."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from fastvid_export import AxisRange, Exportable, InputSpec
from fastvid_export.interfaces import AttentionOp, AttentionSite
from torch import Tensor, nn


def draw_normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=generator)


class Lambda(nn.Module):
    """A function of x with a weight, so that it is like a model."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((4,), 1.5))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x * self.weight)


def exportable_of(function: Callable[[Tensor], Tensor], *, minimum: int = 1) -> Exportable:
    """A module of x (b, t, 4) -> y."""
    return Exportable(
        name="fake",
        module=Lambda(function).eval(),
        inputs={"x": InputSpec(shape=("b", "t", 4), draw=draw_normal)},
        outputs=("y",),
        axes={
            "b": AxisRange(minimum=1, example=2, maximum=8),
            "t": AxisRange(minimum=minimum, example=6, maximum=64),
        },
    )


def plain_attention(q: Tensor, k: Tensor, v: Tensor, site: AttentionSite, /) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


class FakeDecoder(nn.Module):
    """Twice the frames less one, four times the height and width; the reference is averaged in."""

    stride = (2, 4, 4)
    latent_channels = 4
    whole = False  # otherwise in chunks by a memory budget

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(4, 3, (3, 1, 1))
        self.mix = nn.Conv2d(3, 3, 1)

    def num_latent_frames(self, num_frames: int) -> int:
        return 1 + num_frames // 2

    @contextmanager
    def tiled(self, *, spatial: None, temporal: None) -> Iterator[None]:
        self.whole = True
        try:
            yield
        finally:
            self.whole = False

    def decode(self, latents: Tensor, *, reference: Tensor | None = None) -> Tensor:
        if self.whole:
            return self.decode_chunk(latents, reference)
        chunks = latents.split(2 if latents[0].numel() > 1000 else 10, dim=2)
        return torch.cat([self.decode_chunk(chunk, reference) for chunk in chunks], dim=2)

    def decode_chunk(self, latents: Tensor, reference: Tensor | None) -> Tensor:
        frames = self.conv(F.pad(latents, (0, 0, 0, 0, 2, 0), mode="replicate"))
        for axis, factor in ((2, 2), (3, 4), (4, 4)):
            frames = frames.repeat_interleave(factor, dim=axis)
        frames = frames[:, :, 1:]
        # The number that guards the division is smaller than what the optimiser takes for zero.
        share = F.relu(frames) / (F.relu(frames).sum(dim=1, keepdim=True) + 1e-15)
        return share if reference is None else share + self.mix(reference).unsqueeze(2)


@dataclass(frozen=True)
class FakeConfig:
    patch_size: tuple[int, int, int]
    image_width: int | None
    latent_channels: int = 4
    condition_channels: int = 5
    text_width: int = 6
    width: int = 8
    num_heads: int = 2
    num_blocks: int = 1


@dataclass(frozen=True)
class FakeSite:
    block: int


class FakeTransformer(nn.Module):
    """Attention over patches, with a rotary embedding of its own; text and image tokens are averaged in."""

    def __init__(self, *, image: bool, patch_size: tuple[int, int, int] = (1, 1, 1), num_blocks: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = FakeConfig(patch_size, 7 if image else None, num_blocks=num_blocks)
        voxels = patch_size[0] * patch_size[1] * patch_size[2]
        self.embed = nn.Linear(9 * voxels, 8)
        self.text = nn.Linear(6, 8)
        self.image = nn.Linear(7, 8) if image else None
        self.head = nn.Linear(8, 4 * voxels)

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
        attention: AttentionOp = plain_attention,
    ) -> Tensor:
        assert positions is not None
        pt, ph, pw = self.config.patch_size
        x = torch.cat((latents, condition), dim=1)
        b, c, t, h, w = x.shape
        x = x.reshape(b, c, t // pt, pt, h // ph, ph, w // pw, pw).permute(0, 2, 4, 6, 3, 5, 7, 1)
        x = self.embed(x.flatten(4).flatten(1, 3)) + torch.sin(timestep)[:, None, None]
        words = self.text(text)
        if text_mask is not None:
            words = words * text_mask[..., None]
        x = x + words.mean(dim=1, keepdim=True)
        if self.image is not None and image_tokens is not None:
            x = x + self.image(image_tokens).mean(dim=1, keepdim=True)
        for block in range(self.config.num_blocks):
            heads = x.unflatten(-1, (2, 4)).transpose(1, 2)
            q = turn(heads, positions)
            x = x * block + attention(q, q, heads, FakeSite(block)).transpose(1, 2).flatten(2)
        x = self.head(x)
        x = x.reshape(b, t // pt, h // ph, w // pw, pt, ph, pw, 4).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.reshape(b, 4, t, h, w)


@dataclass(frozen=True)
class FakeFrame:
    semantic_tokens: int = 5
    semantic_width: int = 3
    content_channels: int = 2
    content_step: int = 2


@dataclass(frozen=True)
class FakeContentConfig:
    content_frame: FakeFrame | None
    size_embedding: bool
    patch_size: tuple[int, int, int] = (1, 1, 1)
    latent_channels: int = 4
    text_width: int = 6


class FakeContentTransformer(nn.Module):
    """A layer over tokens with absolute positions; words, content frame and size are averaged in."""

    def __init__(self, *, frame: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = FakeContentConfig(FakeFrame() if frame else None, size_embedding=frame)
        self.embed, self.text, self.place = nn.Linear(4, 8), nn.Linear(6, 8), nn.Linear(3, 8)
        self.semantic, self.content, self.size = nn.Linear(3, 8), nn.Linear(2, 8), nn.Linear(2, 8)
        self.head = nn.Linear(8, 4)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        text_mask: Tensor | None = None,
        *,
        semantic: Tensor | None = None,
        content: Tensor | None = None,
        size: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        assert positions is not None
        x = self.embed(latents.movedim(1, -1)) + torch.sin(timestep)[:, None, None, None, None]
        words = self.text(text) if text_mask is None else self.text(text) * text_mask[..., None]
        given = words.mean(dim=1)
        if semantic is not None and content is not None and size is not None:
            frame = self.semantic(semantic).mean(dim=1) + self.content(content.mean(dim=(2, 3)))
            given = given + frame + self.size(size / 1000)
        x = torch.tanh(x + self.place(positions.movedim(0, -1)) + given[:, None, None, None])
        out: Tensor = self.head(x).movedim(-1, 1)
        return out


def fake_tables(positions: Tensor) -> tuple[Tensor, Tensor]:
    angles = positions.flatten(1).sum(0)[:, None] * torch.tensor([1.0, 0.3])
    return angles.cos(), angles.sin()


def turn(x: Tensor, positions: Tensor) -> Tensor:
    """Every pair of channels times its rotation matrix: what `rotate` does, written in another way."""
    cos, sin = fake_tables(positions)
    pairs = x.unflatten(-1, (2, 2))
    matrix = torch.stack((torch.stack((cos, -sin), -1), torch.stack((sin, cos), -1)), -2)  # n pairs 2 2
    return torch.einsum("npij,bhnpj->bhnpi", matrix, pairs).flatten(-2)


class BakingDecoder(FakeDecoder):
    """Treats a single frame in another way, which no trace sees."""

    def decode_chunk(self, latents: Tensor, reference: Tensor | None) -> Tensor:
        frames = super().decode_chunk(latents, reference)
        return frames * 2 if latents.shape[2] > 1 else frames

    @classmethod
    def from_pretrained(cls, folder: object, **settings: object) -> "BakingDecoder":
        return cls()
