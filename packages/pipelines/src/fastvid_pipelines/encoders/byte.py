"""A small text encoder on the bytes of the prompt, trained for the transformer that reads it.

Bytes need no vocabulary file, and a prompt of a few words is short enough for them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from pydantic import ConfigDict, with_config
from torch import Tensor, nn

from fastvid_pipelines import checkpoint
from fastvid_pipelines.types import TextFeatures, check_count

PAD = 256
VOCABULARY = 257


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True, slots=True, kw_only=True)
class ByteTextEncoderConfig:
    """Width of the tokens, number of blocks, heads of each, and the longest prompt in bytes."""

    width: int
    num_layers: int
    num_heads: int
    max_bytes: int

    def __post_init__(self) -> None:
        check_count("width", self.width, 1, 16384)
        check_count("num_layers", self.num_layers, 1, 256)
        check_count("num_heads", self.num_heads, 1, 256)
        check_count("max_bytes", self.max_bytes, 1, 65536)
        if self.width % self.num_heads:
            below = self.width // self.num_heads * self.num_heads
            raise ValueError(
                f"`width` is {self.width}; expected a multiple of `num_heads` {self.num_heads} "
                f"(nearest legal values: {below or self.num_heads} and {below + self.num_heads})"
            )


class ByteTextEncoder(nn.Module):
    """Embedding of bytes and places, pre-norm transformer blocks, a final norm."""

    def __init__(self, config: ByteTextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(VOCABULARY, config.width)
        self.position_embedding = nn.Embedding(config.max_bytes, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.num_heads) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def forward(self, byte_ids: Int64[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """Tokens of the bytes; padded places are zero and change nothing elsewhere."""
        places = torch.arange(byte_ids.shape[1], device=byte_ids.device)
        x = self.token_embedding(byte_ids) + self.position_embedding(places)
        for block in self.blocks:
            x = block(x, mask)
        features: Tensor = self.norm(x) * mask.unsqueeze(-1)
        return features

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """Tokens and mask of the prompts, as long as the longest of them.

        Raises:
            ValueError: a prompt of more than `max_bytes` bytes.
        """
        byte_ids, mask = tokenize(prompts, self.config.max_bytes)
        device = self.token_embedding.weight.device
        byte_ids, mask = byte_ids.to(device), mask.to(device)
        return TextFeatures(tokens=self(byte_ids, mask), mask=mask)

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo_id: str | os.PathLike[str],
        *,
        subfolder: str | None = None,
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Read a folder that `save_pretrained` wrote, here or on the hub.

        Args:
            dtype: of the weights; None: float32.
        Raises:
            CheckpointError: a key of the configuration or a tensor is missing, unknown, misshapen or not finite.
        """
        folder = checkpoint.find_folder(
            path_or_repo_id, subfolder=subfolder, revision=revision, local_files_only=local_files_only
        )
        config = checkpoint.read_config(folder, ByteTextEncoderConfig, cls.__name__)
        with torch.device("meta"):
            encoder = cls(config)
        checkpoint.load_weights(encoder.to(dtype or torch.float32), folder, device=device)
        return encoder.eval()

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write config.json and model.safetensors into a new folder, which appears whole or not at all."""
        checkpoint.save(self, self.config, directory)


class Block(nn.Module):
    """Self-attention, then a feed-forward network of four times the width."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        q, k, v = rearrange(
            self.to_qkv(self.attention_norm(x)),
            "b l (three heads e) -> three b heads l e",
            three=3,
            heads=self.num_heads,
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=rearrange(mask, "b l -> b 1 1 l"))
        x = x + self.to_out(rearrange(attended, "b heads l e -> b l (heads e)"))
        out: Tensor = x + self.feed_forward(x)
        return out


def tokenize(prompts: Sequence[str], max_bytes: int) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
    """UTF-8 bytes of the lower-cased, stripped prompts, padded to the longest, and which places count.

    An empty prompt is one padding byte that counts: attention always has a token to look at.

    Raises:
        ValueError: no prompt, or one of more than `max_bytes` bytes.
    """
    if not prompts:
        raise ValueError("`prompts` is empty; expected at least one")
    rows = [list(prompt.strip().lower().encode("utf-8")) or [PAD] for prompt in prompts]
    for prompt, row in zip(prompts, rows, strict=True):
        if len(row) > max_bytes:
            raise ValueError(
                f"`prompt` {prompt.strip()[:40]!r}... has {len(row)} bytes; this text encoder reads at most {max_bytes}"
            )
    longest = max(len(row) for row in rows)
    byte_ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows], dtype=torch.int64)
    lengths = torch.tensor([len(row) for row in rows])
    return byte_ids, torch.arange(longest) < lengths.unsqueeze(1)
