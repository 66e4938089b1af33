import torch
from fastvid_dit.patchify import patchify, token_grid, unpatchify
from hypothesis import given
from hypothesis import strategies as st

sizes = st.integers(1, 3)


@given(st.tuples(sizes, sizes, sizes), st.tuples(sizes, sizes, sizes))
def test_round_trip(grid, patch_size):
    size = tuple(g * p for g, p in zip(grid, patch_size, strict=True))
    latents = torch.arange(2 * 5 * size[0] * size[1] * size[2]).reshape(2, 5, *size)
    tokens = patchify(latents, patch_size)
    assert token_grid(size, patch_size) == grid
    assert tokens.shape == (2, grid[0] * grid[1] * grid[2], patch_size[0] * patch_size[1] * patch_size[2] * 5)
    assert torch.equal(unpatchify(tokens, grid, patch_size), latents)


def test_tokens_run_w_fastest_and_channels_stay_together():
    latents = torch.arange(2 * 2 * 4).reshape(1, 2, 1, 2, 4)
    tokens = patchify(latents, (1, 1, 2))
    assert tokens[0, 0].tolist() == [0, 8, 1, 9]
    assert tokens[0, 1].tolist() == [2, 10, 3, 11]
