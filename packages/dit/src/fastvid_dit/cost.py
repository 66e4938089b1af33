"""What a forward pass costs, from formulas: nothing is allocated. They are tested against torch's own counters."""

from dataclasses import dataclass
from math import prod

from fastvid_dit.config import FSVIDEO_14B, FSVideoDiTConfig
from fastvid_dit.patchify import token_grid

TEXT_TOKENS, IMAGE_TOKENS = 512, 257
"""UMT5 padded to its full length, and CLIP ViT-H: what Wan2.1 and FSVideo use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one forward pass of one sample.

    Attributes:
        tokens: of the video.
        flops: two for each multiplication with its addition, in matrix products and attention.
        weight_bytes: of all parameters.
        activation_bytes: the most that is alive at once beside the weights, the layer memory included.
    """

    tokens: int
    flops: int
    weight_bytes: int
    activation_bytes: int


def forward_cost(
    config: FSVideoDiTConfig,
    latent_size: tuple[int, int, int],
    *,
    text_tokens: int = TEXT_TOKENS,
    image_tokens: int = IMAGE_TOKENS,
    itemsize: int = 2,
) -> Cost:
    """Cost at latents of (t, h, w) voxels, without gradients.

    Args:
        image_tokens: counted only where the model takes any.
        itemsize: bytes of a weight and of an activation.
    """
    tokens = prod(token_grid(latent_size, config.patch_size))
    image_tokens = 0 if config.image_width is None else image_tokens
    states = config.num_blocks if config.layer_memory else 0
    return Cost(
        tokens=tokens,
        flops=_embedding_flops(config, tokens, text_tokens, image_tokens)
        + config.num_blocks * _block_flops(config, tokens, text_tokens, image_tokens)
        + _memory_flops(config, tokens),
        weight_bytes=itemsize * parameter_count(config),
        activation_bytes=tokens * (states * config.width * itemsize + _bytes_alive(config, itemsize)),
    )


def parameter_count(config: FSVideoDiTConfig) -> int:
    """Exact, all parts included."""
    width, voxels = config.width, prod(config.patch_size)
    embeddings = _linear((config.latent_channels + config.condition_channels) * voxels, width)
    embeddings += _linear(config.frequency_width, width) + _linear(width, width) + _linear(width, 6 * width)
    embeddings += _linear(config.text_width, width) + _linear(width, width)
    attention = 4 * _linear(width, width) + 2 * width  # and a norm on queries and keys
    image = 0
    if config.image_width is not None:
        embeddings += 2 * config.image_width + _linear(config.image_width, config.image_width)
        embeddings += _linear(config.image_width, width) + 2 * width
        image = 2 * _linear(width, width) + width
    ffn = _linear(width, config.ffn_width) + _linear(config.ffn_width, width)
    block = 2 * attention + image + ffn + 2 * width + 6 * width  # the norm before cross-attention, the table
    routers = sum(_linear(width, states) for states in range(2, config.num_blocks + 1)) if config.layer_memory else 0
    head = 2 * width + _linear(width, config.latent_channels * voxels)
    return embeddings + config.num_blocks * block + routers + head


def _embedding_flops(config: FSVideoDiTConfig, tokens: int, text_tokens: int, image_tokens: int) -> int:
    width, voxels = config.width, prod(config.patch_size)
    per_token = (config.latent_channels + config.condition_channels) * voxels + config.latent_channels * voxels
    time = config.frequency_width + width + 6 * width
    image = 0 if config.image_width is None else config.image_width * (config.image_width + width)
    return 2 * (
        tokens * per_token * width
        + time * width
        + text_tokens * (config.text_width + width) * width
        + image_tokens * image
    )


def _block_flops(config: FSVideoDiTConfig, tokens: int, text_tokens: int, image_tokens: int) -> int:
    """8 N D^2 + 4 N^2 D (self), 4 N D^2 + 4 M D^2 + 4 N M D (cross), 4 N D F (feed-forward)."""
    width, context = config.width, text_tokens + image_tokens
    self_attention = 8 * tokens * width**2 + 4 * tokens**2 * width
    cross_attention = 4 * tokens * width**2 + 4 * context * width**2 + 4 * tokens * context * width
    return self_attention + cross_attention + 4 * tokens * width * config.ffn_width


def _memory_flops(config: FSVideoDiTConfig, tokens: int) -> int:
    """4 N D states: the router, and the mix; block i reads i + 1 states, block 0 has no router."""
    if not config.layer_memory:
        return 0
    return sum(4 * tokens * config.width * states for states in range(2, config.num_blocks + 1))


def _bytes_alive(config: FSVideoDiTConfig, itemsize: int) -> int:
    """Of one token at the peak of a block: in the feed-forward, or in the float32 norms and gated sums around it."""
    feed_forward = itemsize * (2 * config.width + 2 * config.ffn_width)
    modulated_norm = itemsize * config.width + 3 * 4 * config.width
    return max(feed_forward, modulated_norm)


def _linear(in_width: int, out_width: int) -> int:
    return in_width * out_width + out_width


def fsvideo_14b(latent_size: tuple[int, int, int]) -> Cost:
    """Of both stages of FSVideo, in bfloat16."""
    return forward_cost(FSVIDEO_14B, latent_size)
