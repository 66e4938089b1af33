"""What attention, matching and the rest of a transformer cost: operations, two for each multiply-add."""

from dataclasses import dataclass

LINEAR_FACTOR = 24
"""Operations of a block's linear layers on one token, over its width squared: 8 for the four projections of attention
and 16 for a feed-forward of four times the width. Wan, with cross-attention and a narrower one, has 23."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Of one attention call.

    Attributes:
        batch: rows, both branches of guidance where they share a batch.
        heads, head_width: their product is the width of the block.
        num_tokens: of the video.
        num_text: tokens that attend along and are never reduced; 0 where text has attention of its own.
    """

    batch: int
    heads: int
    head_width: int
    num_tokens: int
    num_text: int = 0

    @property
    def width(self) -> int:
        """Of the block."""
        return self.heads * self.head_width


def attention_flops(shape: Shape, queries: int, keys: int) -> int:
    """Scores and weighted sum, of so many queries and keys of the video and the text beside them."""
    return 4 * shape.batch * shape.width * (queries + shape.num_text) * (keys + shape.num_text)


def matching_flops(shape: Shape, num_destinations: int, *, extra_channels: int = 0) -> int:
    """Every source with every destination.

    Args:
        extra_channels: of each head, beside its own. The published code carries the squared norms in 2 of them for the
            euclidean distance; here they are added to the product, which no counter of products sees.
    """
    sources = shape.num_tokens - num_destinations
    width = shape.heads * (shape.head_width + extra_channels)
    return 2 * shape.batch * num_destinations * sources * width


def linear_flops(shape: Shape) -> int:
    """The linear layers of a block, roughly: see `LINEAR_FACTOR`."""
    return LINEAR_FACTOR * shape.batch * (shape.num_tokens + shape.num_text) * shape.width**2
