"""Names of Stable Diffusion's autoencoder, in its own code, as our models have them, and in diffusers."""

from collections.abc import Iterator

Names = tuple[str, str]
"""Ours and theirs."""

PROJECTIONS = {"q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def both(ours: str, theirs: str) -> Iterator[Names]:
    """Weight and bias of one layer."""
    yield f"{ours}.weight", f"{theirs}.weight"
    yield f"{ours}.bias", f"{theirs}.bias"


def resnet(ours: str, theirs: str) -> Iterator[Names]:
    """A residual block; its shortcut has a convolution only where channels change."""
    for layer in ("norm1", "norm2", "conv1", "conv2"):
        yield from both(f"{ours}.{layer}", f"{theirs}.{layer}")
    yield from both(f"{ours}.nin_shortcut", f"{theirs}.conv_shortcut")


def middle(ours: str, theirs: str) -> Iterator[Names]:
    """Block, attention, block of a network; `ours` and `theirs` are encoder or decoder."""
    for block in range(2):
        yield from resnet(f"{ours}.mid.block_{block + 1}", f"{theirs}.mid_block.resnets.{block}")
    attention = f"{theirs}.mid_block.attentions.0"
    yield from both(f"{ours}.mid.attn_1.norm", f"{attention}.group_norm")
    for own, source in PROJECTIONS.items():
        yield from both(f"{ours}.mid.attn_1.{own}", f"{attention}.{source}")
