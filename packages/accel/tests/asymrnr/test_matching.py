import pytest
import torch
from fastvid_accel.asymrnr import matching
from fastvid_accel.asymrnr.config import Metric
from fastvid_accel.asymrnr.matching import match
from fastvid_accel.asymrnr.partition import Partition, drawing, partition
from fastvid_accel.asymrnr.reduction import select
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

METRICS: list[Metric] = ["euclidean", "cosine", "dot"]
GRID = (3, 5, 6)


def parts_of(seed: int = 0) -> Partition:
    return partition(GRID, (2, 2, 2), "random", generator=drawing(seed), device=torch.device("cpu"))


def tokens_of(seed: int = 0, b: int = 2, heads: int = 3, e: int = 8) -> Tensor:
    return torch.randn(b, heads, GRID[0] * GRID[1] * GRID[2], e, generator=torch.Generator().manual_seed(seed))


def reference(tokens: Tensor, parts: Partition, metric: Metric) -> Tensor:
    """Similarities `b heads s d` in double precision, written down as they are defined."""
    sources, targets = tokens.double()[:, :, parts.sources], tokens.double()[:, :, parts.destinations]
    if metric == "euclidean":
        return -torch.cdist(sources, targets, compute_mode="donot_use_mm_for_euclid_dist").square()
    if metric == "cosine":
        return torch.nn.functional.cosine_similarity(sources[:, :, :, None], targets[:, :, None], dim=-1)
    return sources @ targets.transpose(2, 3)


@pytest.mark.parametrize("metric", METRICS)
def test_as_defined(metric: Metric) -> None:
    tokens, parts = tokens_of(), parts_of()
    found = match(tokens, parts, metric, generator=drawing(0))
    similarity, index = reference(tokens, parts, metric).max(dim=-1)
    assert torch.equal(found.destination.long(), index)
    torch.testing.assert_close(found.similarity.double(), similarity, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=15, deadline=None)
@given(workspace=st.integers(1, 200_000))
def test_chunks_change_nothing(metric: Metric, workspace: int) -> None:
    tokens, parts = tokens_of(), parts_of()
    whole = match(tokens, parts, metric, generator=drawing(0), workspace=2**40)
    chunked = match(tokens, parts, metric, generator=drawing(0), workspace=workspace)
    assert torch.equal(chunked.destination, whole.destination)
    torch.testing.assert_close(chunked.similarity, whole.similarity, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_rows_of_the_batch_and_heads_do_not_see_one_another(metric: Metric) -> None:
    tokens, parts = tokens_of(), parts_of()
    together = match(tokens, parts, metric, generator=drawing(0))
    rows, heads = torch.tensor([1, 0]), torch.tensor([2, 0, 1])
    turned = match(tokens[rows][:, heads], parts, metric, generator=drawing(0))
    assert torch.equal(turned.destination, together.destination[rows][:, heads])


@pytest.mark.parametrize("metric", METRICS)
def test_channels_may_be_permuted(metric: Metric) -> None:
    tokens, parts = tokens_of(), parts_of()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    found = match(tokens[..., order], parts, metric, generator=drawing(0))
    assert torch.equal(found.destination, match(tokens, parts, metric, generator=drawing(0)).destination)


def test_sources_may_be_permuted() -> None:
    tokens, parts = tokens_of(), parts_of()
    order = torch.randperm(len(parts.sources), generator=torch.Generator().manual_seed(0))
    moved = tokens.clone()
    moved[:, :, parts.sources] = tokens[:, :, parts.sources[order]]
    found = match(tokens, parts, "euclidean", generator=drawing(0))
    assert torch.equal(
        match(moved, parts, "euclidean", generator=drawing(0)).destination, found.destination[..., order]
    )


def test_of_equal_destinations_the_first_one_counts() -> None:
    parts = parts_of()
    found = match(torch.ones(1, 1, 90, 4), parts, "euclidean", generator=drawing(0))
    assert int(found.destination.max()) == 0


def test_random_looks_at_nothing() -> None:
    parts = parts_of()
    one, other = (match(tokens_of(seed), parts, "random", generator=drawing(0)) for seed in (1, 2))
    assert torch.equal(one.destination, other.destination)
    assert int(one.destination.max()) < len(parts.destinations)


def smooth_with_offset(dtype: torch.dtype) -> tuple[Tensor, Partition]:
    """Features that vary little around a large offset common to a head: where 16 bits from the origin fail."""
    grid = (8, 20, 25)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 2 * 16, 4, 6, 7, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, grid, mode="trilinear").unflatten(1, (2, 16)).flatten(3)
    noise = 0.3 * torch.randn(1, 2, fine.shape[3], 16, generator=generator)
    offset = 30 * torch.randn(1, 2, 1, 16, generator=generator)
    tokens = (fine.transpose(2, 3) + noise).to(dtype) + offset.to(dtype)
    parts = partition(grid, (2, 2, 2), "random", generator=drawing(0), device=torch.device("cpu"))
    return tokens, parts


def agreement(tokens: Tensor, parts: Partition) -> tuple[float, float]:
    """Share of sources with the exact neighbour, and of the dropped ones (30 %) that are the exact ones."""
    n = tokens.shape[2]
    exact = match_exactly(tokens, parts)
    found = match(tokens, parts, "euclidean", generator=drawing(0))
    dropped = []
    for nearest in (found, exact):
        kept = select(nearest, parts, n - int(0.3 * n))
        mask = torch.ones(tokens.shape[:3], dtype=torch.bool).scatter(2, kept.positions.long(), value=False)
        dropped.append(mask)
    same = (found.destination == exact.destination).double().mean()
    return float(same), float((dropped[0] & dropped[1]).sum() / dropped[1].sum())


def match_exactly(tokens: Tensor, parts: Partition) -> matching.Nearest:
    similarity, index = reference(tokens, parts, "euclidean").max(dim=-1)
    return matching.Nearest(destination=index.to(torch.int32), similarity=similarity.float())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_16_bits_find_the_neighbours_that_double_precision_finds_beside_a_large_offset(dtype: torch.dtype) -> None:
    same, dropped = agreement(*smooth_with_offset(dtype))
    assert same >= 0.99
    assert dropped >= 0.99


def test_float32_finds_them_beside_an_offset_that_products_from_the_origin_drown_in() -> None:
    tokens, parts = smooth_with_offset(torch.float32)
    far = tokens + 3000
    same, dropped = agreement(far, parts)
    assert same >= 0.99
    assert dropped >= 0.99


def test_products_in_16_bits_from_the_origin_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "_features", lambda rows, metric: rows.float())
    monkeypatch.setattr(
        matching,
        "_products",
        lambda sources, targets, offset: (
            sources.bfloat16() @ targets.bfloat16().transpose(1, 2) + offset.bfloat16()
        ).float(),
    )
    same, _ = agreement(*smooth_with_offset(torch.bfloat16))
    assert same < 0.99
