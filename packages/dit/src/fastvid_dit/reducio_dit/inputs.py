"""Which inputs a ReducioDiT refuses, and in which words."""

import torch
from torch import Tensor

from fastvid_dit.patchify import token_grid
from fastvid_dit.reducio_dit.config import ReducioDiTConfig
from fastvid_dit.reducio_dit.cross_attention import Condition, ConditionCache
from fastvid_dit.shapes import require_shape, require_size, require_whole_patches


def check_condition(
    config: ReducioDiTConfig,
    text: Tensor,
    text_mask: Tensor | None,
    semantic: Tensor | None,
    content: Tensor | None,
) -> None:
    """Refuse text and content frame that do not fit the configuration or one another.

    Raises:
        ValueError: they do not.
    """
    require_size("text", text, num_axes=3, axis=2, size=config.text_width)
    image = config.content_frame
    for name, tensor in (("semantic", semantic), ("content", content)):
        if (tensor is None) != (image is None):
            need = "is required (zeros leave the frame out)" if tensor is None else "must be None"
            raise ValueError(f"`{name}` {need}: the model's `content_frame` is {image}")
    if image is not None and semantic is not None and content is not None:
        require_size("semantic", semantic, num_axes=3, axis=2, size=image.semantic_width)
        require_size("semantic", semantic, num_axes=3, axis=1, size=image.semantic_tokens)
        require_size("content", content, num_axes=4, axis=1, size=image.content_channels)
    if torch.compiler.is_compiling():  # a traced graph would keep what follows as guards on sizes
        return
    batch = text.shape[0]
    if text_mask is not None and text_mask.shape != text.shape[:2]:
        raise ValueError(f"`text_mask` has shape {tuple(text_mask.shape)}, need {tuple(text.shape[:2])} as of `text`")
    for name, tensor in (("semantic", semantic), ("content", content)):
        if tensor is not None and tensor.shape[0] != batch:
            raise ValueError(f"`{name}` is a batch of {tensor.shape[0]}, `text` one of {batch}; they must be equal")
    if image is not None and content is not None:
        for name, size in zip(("rows", "columns"), content.shape[2:], strict=True):
            if size < image.content_step or size % image.content_step:
                lower = max(size // image.content_step, 1) * image.content_step
                raise ValueError(
                    f"`content` has {size} {name}, need a multiple of {image.content_step} "
                    f"(`content_patch` {image.content_patch}, `num_grids` {image.num_grids}); "
                    f"nearest: {lower}, {lower + image.content_step}"
                )


def check_inputs(
    config: ReducioDiTConfig, latents: Tensor, timestep: Tensor, size: Tensor | None, positions: Tensor | None
) -> None:
    """Refuse what does not fit the configuration or the latents.

    Raises:
        ValueError: it does not.
    """
    require_size("latents", latents, num_axes=5, axis=1, size=config.latent_channels)
    if (size is None) == config.size_embedding:
        need = "is required" if size is None else "must be None"
        raise ValueError(f"`size` {need}: the model's `size_embedding` is {config.size_embedding}")
    if size is not None:
        require_size("size", size, num_axes=2, axis=1, size=2)
    if positions is not None:
        require_size("positions", positions, num_axes=4, axis=0, size=3)
    if torch.compiler.is_compiling():  # as above
        return
    batch, _, t, h, w = latents.shape
    require_whole_patches(latents, config.patch_size)
    require_shape("timestep", timestep, (batch,))
    if size is not None:
        require_shape("size", size, (batch, 2))
    if positions is not None:
        require_shape("positions", positions, (3, *token_grid((t, h, w), config.patch_size)))


def check_cache(config: ReducioDiTConfig, cache: ConditionCache, others: dict[str, Tensor | None]) -> None:
    """Refuse a cache of a model of another size, and `others`, what it was made of, beside it.

    Raises:
        ValueError: the cache is not of such a model, or something is given twice.
    """
    for name, tensor in others.items():
        if tensor is not None:
            raise ValueError(f"`{name}` has no effect beside `cache`, which holds it already; give one of them")
    found = len(cache.blocks), *cache.blocks[0].k.shape[1::2]
    needed = config.num_blocks, config.num_heads, config.width // config.num_heads
    if found != needed:
        raise ValueError(f"`cache` is of another model: blocks, heads and channels of a head {found}, need {needed}")


def check_batch(name: str, condition: Condition, latents: Tensor) -> None:
    """Refuse a condition of another number of samples.

    Raises:
        ValueError: it is one.
    """
    if not torch.compiler.is_compiling() and condition.batch != latents.shape[0]:
        raise ValueError(
            f"`{name}` is a batch of {condition.batch}, `latents` one of {latents.shape[0]}; they must be equal"
        )
