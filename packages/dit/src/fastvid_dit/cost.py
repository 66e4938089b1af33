"""What a forward pass costs, from formulas: nothing is allocated. They are tested against torch's own counters."""

from dataclasses import dataclass
from math import prod

from fastvid_dit.config import FSVIDEO_14B, FSVideoDiTConfig
from fastvid_dit.patchify import token_grid
from fastvid_dit.reducio_dit.config import ReducioDiTConfig

TEXT_TOKENS, IMAGE_TOKENS = 512, 257
"""UMT5 padded to its full length, and CLIP ViT-H: what Wan2.1 and FSVideo use."""

REDUCIO_TEXT_TOKENS = 120
"""T5 v1.1 XXL as PixArt-alpha and Reducio use it."""

CONTENT_PER_LATENT = 4
"""Rows of the content frame's latents (8 pixels each) per row of Reducio's (32)."""


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
        activation_bytes=tokens
        * (states * config.width * itemsize + _bytes_alive(config.width, config.ffn_width, itemsize)),
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


def reducio_cost(
    config: ReducioDiTConfig,
    latent_size: tuple[int, int, int],
    *,
    text_tokens: int = REDUCIO_TEXT_TOKENS,
    content_size: tuple[int, int] | None = None,
    cached: bool = False,
    itemsize: int = 2,
) -> Cost:
    """Cost of a `ReducioDiT` at latents of (t, h, w) voxels, without gradients.

    Args:
        content_size: rows and columns of the content frame's latents; None: four times those of the video's, as an
            image autoencoder of stride 8 gives beside Reducio-VAE. Counted only where the model has a content frame.
        cached: with a `ConditionCache`, whose making is not counted; its bytes are.
        itemsize: bytes of a weight and of an activation.
    """
    image, width = config.content_frame, config.width
    grid = token_grid(latent_size, config.patch_size)
    rows, columns = content_size or (CONTENT_PER_LATENT * latent_size[1], CONTENT_PER_LATENT * latent_size[2])
    content = 0 if image is None else (rows // image.content_patch) * (columns // image.content_patch)
    shown = text_tokens
    if image is not None:
        shown += content // image.num_grids + (image.semantic_tokens if image.fusion == "concat" else 0)
    voxels = config.latent_channels + config.out_channels
    flops = 2 * prod(grid) * width * prod(config.patch_size) * voxels + _reducio_time_flops(config)
    flops += config.num_blocks * _reducio_block_flops(config, grid, shown)
    condition_bytes = (1 if image is None else image.num_grids) * shown * width * itemsize
    if cached:
        condition_bytes = 2 * config.num_blocks * shown * width * itemsize
    else:
        flops += _condition_flops(config, text_tokens, (rows, columns)) + config.num_blocks * 4 * shown * width**2
    return Cost(
        tokens=prod(grid),
        flops=flops,
        weight_bytes=itemsize * reducio_parameter_count(config),
        activation_bytes=condition_bytes + prod(grid) * _bytes_alive(config.width, config.ffn_width, itemsize),
    )


def reducio_parameter_count(config: ReducioDiTConfig) -> int:
    """Exact, all parts included."""
    width, voxels, image = config.width, prod(config.patch_size), config.content_frame
    count = _linear(config.latent_channels * voxels, width) + int(config.learn_time_scale)
    count += _linear(config.frequency_width, width) + _linear(width, width) + _linear(width, 6 * width)
    if config.size_embedding:
        count += 2 * (_linear(config.frequency_width, width // 3) + _linear(width // 3, width // 3))
    count += _linear(config.text_width, width) + _linear(width, width)
    if image is not None:
        count += _linear(image.semantic_width, width) + _linear(width, width)
        count += _linear(image.content_channels * image.content_patch**2, width) + _linear(width, width)
    table, attention = 6 * width, 4 * _linear(width, width)
    ffn = _linear(width, config.ffn_width) + _linear(config.ffn_width, width)
    blocks = table + 2 * attention + ffn
    if config.temporal_blocks:
        blocks += table + attention + ffn
    return count + config.num_blocks * blocks + 2 * width + _linear(width, config.out_channels * voxels)


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


def _reducio_time_flops(config: ReducioDiTConfig) -> int:
    width, third = config.width, config.width // 3
    size = 3 * (config.frequency_width + third) * third if config.size_embedding else 0
    return 2 * ((config.frequency_width + width + 6 * width) * width + size)


def _condition_flops(config: ReducioDiTConfig, text_tokens: int, content_size: tuple[int, int]) -> int:
    """Of the perceptrons on text and content frame, and of bringing the semantic tokens to the grid of the others."""
    width, image = config.width, config.content_frame
    flops = 2 * text_tokens * (config.text_width + width) * width
    if image is None:
        return flops
    content = prod(size // image.content_patch for size in content_size)
    flops += 2 * image.semantic_tokens * (image.semantic_width + width) * width
    flops += 2 * content * (image.content_channels * image.content_patch**2 + width) * width
    if image.fusion == "concat":
        return flops
    return flops + 2 * (content // image.num_grids) * image.semantic_tokens * width


def _reducio_block_flops(config: ReducioDiTConfig, grid: tuple[int, int, int], condition_tokens: int) -> int:
    """8 N D^2 + 4 N S D (self, S tokens see one another), 4 N D^2 + 4 N M D (cross), 4 N D F (feed-forward).

    The keys and values of cross-attention, 4 M D^2, are not in it: a cache saves them.
    """
    (t, h, w), width, tokens = grid, config.width, prod(grid)

    def part(seen: int) -> int:
        return 8 * tokens * width**2 + 4 * tokens * seen * width + 4 * tokens * width * config.ffn_width

    blocks = part(h * w) + part(t) if config.temporal_blocks else part(tokens)
    return blocks + 4 * tokens * width**2 + 4 * tokens * condition_tokens * width


def _memory_flops(config: FSVideoDiTConfig, tokens: int) -> int:
    """4 N D states: the router, and the mix; block i reads i + 1 states, block 0 has no router."""
    if not config.layer_memory:
        return 0
    return sum(4 * tokens * config.width * states for states in range(2, config.num_blocks + 1))


def _bytes_alive(width: int, ffn_width: int, itemsize: int) -> int:
    """Of one token at the peak of a block: in the feed-forward, or in the float32 norms and gated sums around it."""
    feed_forward = itemsize * (2 * width + 2 * ffn_width)
    modulated_norm = itemsize * width + 3 * 4 * width
    return max(feed_forward, modulated_norm)


def _linear(in_width: int, out_width: int) -> int:
    return in_width * out_width + out_width


def fsvideo_14b(latent_size: tuple[int, int, int]) -> Cost:
    """Of both stages of FSVideo, in bfloat16."""
    return forward_cost(FSVIDEO_14B, latent_size)
