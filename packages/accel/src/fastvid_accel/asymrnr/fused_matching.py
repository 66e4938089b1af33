"""The nearest destination of every source in one kernel, without the matrix of products. Needs Triton.

Counted for one head of width 128 at n = 75,600 with stride (2, 2, 2) in 16 bits: 66,800 sources and 8,800 destinations
make 150 GFLOP. Memory is read once for the mean and once for the sources, 36 MB, and 3 MB of destinations and results
are written; from the cache each of 522 tiles of sources reads all destinations, 1.2 GB. That is 3,800 operations a byte
of memory and 128 a byte of cache: products bound it, where the matrix alone would be 2.4 GB each way in float32.
"""

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor
from triton import knobs

from fastvid_accel.asymrnr.config import Metric
from fastvid_accel.asymrnr.partition import Partition

SOURCES, DESTINATIONS = 128, 64
"""Of a tile. Three such tiles (products, the best so far, where it was) fit the registers of eight warps."""


def nearest_destinations(
    tokens: Float[Tensor, "b heads n e"], parts: Partition, metric: Metric
) -> tuple[Int[Tensor, "b heads s"], Float[Tensor, "b heads s"]]:
    """The fields of `Nearest`, for any metric but `random`.

    As in `match`, the origin is the mean token for `euclidean`, products are summed in float32, and of equal
    destinations the first one counts. Factors have the dtype of the tokens.

    Args:
        tokens: float32 or 16 bits, with any strides; on a GPU, or anywhere under Triton's interpreter.
    Returns:
        Numbers of destinations, int32, and similarities, float32.
    """
    b, heads, _, e = tokens.shape
    d, s = len(parts.destinations), len(parts.sources)
    mean = torch.zeros(b, heads, e, dtype=torch.float32, device=tokens.device)
    if metric == "euclidean":
        mean = tokens.mean(dim=2, dtype=torch.float32)
    targets = tokens[:, :, parts.destinations] - mean.unsqueeze(2)  # float32, as the mean is
    if metric == "cosine":
        targets = F.normalize(targets, dim=-1)
    targets = targets.to(tokens.dtype).contiguous()
    offset = torch.zeros(b, heads, d, dtype=torch.float32, device=tokens.device)
    if metric == "euclidean":
        offset = -0.5 * torch.linalg.vector_norm(targets, dim=-1, dtype=torch.float32).square()
    nearest = torch.empty(b, heads, s, dtype=torch.int32, device=tokens.device)
    similarity = torch.empty(b, heads, s, dtype=torch.float32, device=tokens.device)
    launch: Any = _kernel[(triton.cdiv(s, SOURCES), b * heads)]
    with torch.cuda.device_of(tokens):  # where Triton launches
        launch(
            *(tokens, *tokens.stride(), parts.sources, mean, targets, offset, nearest, similarity),
            *(heads, s, d),
            WIDTH=e,
            PADDED_WIDTH=max(16, triton.next_power_of_2(e)),
            METRIC=metric,
            IS_INTERPRETED=knobs.runtime.interpret,
            SOURCES=SOURCES,
            DESTINATIONS=DESTINATIONS,
            num_warps=8,
            num_stages=3 if tokens.element_size() == 2 else 1,  # what shared memory holds
        )
    return nearest, similarity


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917  # pointers and numbers, of types Triton infers
    tokens,
    stride_b,
    stride_head,
    stride_n,
    stride_e,
    positions,
    mean,
    targets,
    offset,
    nearest,
    similarity,
    num_heads,
    num_sources,
    num_destinations,
    WIDTH: tl.constexpr,
    PADDED_WIDTH: tl.constexpr,
    METRIC: tl.constexpr,
    IS_INTERPRETED: tl.constexpr,
    SOURCES: tl.constexpr,
    DESTINATIONS: tl.constexpr,
):
    """A tile of sources of one head, against all destinations of that head."""
    head = tl.program_id(1).to(tl.int64)  # of all heads of all rows of the batch
    s = tl.program_id(0) * SOURCES + tl.arange(0, SOURCES)
    e = tl.arange(0, PADDED_WIDTH)
    column = tl.arange(0, DESTINATIONS)
    is_source, is_channel = s < num_sources, e < WIDTH

    position = tl.load(positions + s, mask=is_source, other=0)
    start = tokens + (head // num_heads) * stride_b + (head % num_heads) * stride_head
    source = tl.load(
        start + position[:, None] * stride_n + e[None, :] * stride_e,
        mask=is_source[:, None] & is_channel[None, :],
        other=0.0,
    )
    origin = tl.load(mean + head * WIDTH + e, mask=is_channel, other=0.0)
    source = (source.to(tl.float32) - origin[None, :]).to(source.dtype)
    if IS_INTERPRETED:  # by numpy, which multiplies no bfloat16
        source = source.to(tl.float32)

    # Every column of the tile keeps the best of its own: columns meet once, after the last tile.
    best = tl.full((SOURCES, DESTINATIONS), float("-inf"), tl.float32)
    first_of_best = tl.zeros((SOURCES, DESTINATIONS), tl.int32)
    for first in range(0, num_destinations, DESTINATIONS):
        d = first + column
        is_destination = d < num_destinations
        target = tl.load(
            targets + (head * num_destinations + d[None, :]) * WIDTH + e[:, None],
            mask=is_destination[None, :] & is_channel[:, None],
            other=0.0,
        )
        if IS_INTERPRETED:
            target = target.to(tl.float32)
        shift = tl.load(offset + head * num_destinations + d, mask=is_destination, other=float("-inf"))
        product = tl.dot(source, target, input_precision="ieee") + shift[None, :]
        is_better = product > best
        best = tl.where(is_better, product, best)
        first_of_best = tl.where(is_better, first, first_of_best)
    most = tl.max(best, axis=1)
    number = tl.min(tl.where(best == most[:, None], first_of_best + column[None, :], num_destinations), axis=1)

    squares = tl.sum(source.to(tl.float32) * source.to(tl.float32), axis=1)
    if METRIC == "euclidean":
        most = 2 * most - squares
    elif METRIC == "cosine":
        most = most / tl.maximum(tl.sqrt(squares), 1e-12)
    tl.store(nearest + head * num_sources + s, number, mask=is_source)
    tl.store(similarity + head * num_sources + s, most, mask=is_source)
