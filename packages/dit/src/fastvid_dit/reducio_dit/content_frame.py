"""The content frame as condition tokens: what is seen in it, and where and how exactly it looks."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from fastvid_dit.layers import FeedForward
from fastvid_dit.reducio_dit.config import ContentFrameConfig


class ContentFrameEmbedding(nn.Module):
    """MLP(semantic tokens) + MLP(content tokens), as one grid of tokens or as four that the blocks read in turn.

    A frame that is left out (guidance, dropout in training) is all zeros in both inputs: the biases of the two
    perceptrons make a learned token of it, the same at every place.

    Source: Reducio, equation 3 and section 3.2 for the grids; their order is DeepStack's.
    """

    def __init__(self, config: ContentFrameConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.semantic_embedding = FeedForward(config.semantic_width, width, width)
        self.content_embedding = FeedForward(config.content_channels * config.content_patch**2, width, width)

    def forward(
        self, semantic: Float[Tensor, "b m e"], content: Float[Tensor, "b c H W"]
    ) -> tuple[Float[Tensor, "b k d"], ...]:
        """The condition tokens of each grid: one, or four.

        Args:
            semantic: tokens of the image encoder, row by row.
            content: latents of the frame; their rows and columns are multiples of `config.content_step`.
        """
        meaning = self.semantic_embedding(semantic)
        patch = self.config.content_patch
        patches = rearrange(content, "b c (h p) (w q) -> b h w (p q c)", p=patch, q=patch)
        grids = self._grids(self.content_embedding(patches))
        if self.config.fusion == "concat":
            return tuple(torch.cat((meaning, grid), dim=1) for grid in grids)
        step = self.config.content_step
        resized = self._resize(meaning, content.shape[2] // step, content.shape[3] // step)
        return tuple(grid + resized for grid in grids)

    def _grids(self, tokens: Float[Tensor, "b h w d"]) -> tuple[Float[Tensor, "b k d"], ...]:
        """Grid 2 a + c has the tokens at (2 i + a, 2 j + c)."""
        if self.config.num_grids == 1:
            return (tokens.flatten(1, 2),)
        return rearrange(tokens, "b (h two) (w too) d -> (two too) b (h w) d", two=2, too=2).unbind(0)

    def _resize(self, tokens: Float[Tensor, "b m d"], rows: int, columns: int) -> Float[Tensor, "b k d"]:
        """Bilinear, as a product: exact at an equal size, and engines have no resizing in every precision."""
        down = _bilinear_weights(rows, self.config.semantic_grid[0], tokens)
        across = _bilinear_weights(columns, self.config.semantic_grid[1], tokens)
        weights = rearrange(down, "h i -> h 1 i 1") * rearrange(across, "w j -> 1 w 1 j")
        return torch.matmul(rearrange(weights, "h w i j -> (h w) (i j)"), tokens)


def _bilinear_weights(size: int, source_size: int, like: Tensor) -> Float[Tensor, "size source_size"]:
    """What each of `size` samples takes of `source_size`: linear between centres, constant beyond the outer ones."""
    places = torch.arange(size, dtype=torch.float32, device=like.device)
    places = ((places + 0.5) * (source_size / size) - 0.5).clamp(0, source_size - 1)
    sources = torch.arange(source_size, dtype=torch.float32, device=like.device)
    return (1 - (places[:, None] - sources).abs()).clamp(min=0).to(like.dtype)
