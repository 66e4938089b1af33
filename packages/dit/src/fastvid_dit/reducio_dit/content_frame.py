"""The content frame as condition tokens: what is seen in it, and where and how exactly it looks."""

import torch
import torch.nn.functional as F
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
            return tuple(torch.cat((meaning, grid.flatten(1, 2)), dim=1) for grid in grids)
        resized = self._resize(meaning, grids[0].shape[1:3])
        return tuple((grid + resized).flatten(1, 2) for grid in grids)

    def _grids(self, tokens: Float[Tensor, "b h w d"]) -> tuple[Float[Tensor, "b gh gw d"], ...]:
        """Grid 2 a + c has the tokens at (2 i + a, 2 j + c)."""
        if self.config.num_grids == 1:
            return (tokens,)
        return rearrange(tokens, "b (h two) (w too) d -> (two too) b h w d", two=2, too=2).unbind(0)

    def _resize(self, tokens: Tensor, size: torch.Size) -> Float[Tensor, "b h w d"]:
        rows, columns = self.config.semantic_grid
        picture = rearrange(tokens, "b (h w) d -> b d h w", h=rows, w=columns)
        resized = F.interpolate(picture, size=(size[0], size[1]), mode="bilinear", align_corners=False)
        return rearrange(resized, "b d h w -> b h w d")
