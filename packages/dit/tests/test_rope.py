import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from fastvid_dit import grid_positions
from fastvid_dit.rope import axis_widths, rotary_tables, rotate


def test_axis_widths_are_wans():
    assert axis_widths(128) == (44, 42, 42)
    assert axis_widths(12) == (4, 4, 4)
    assert axis_widths(32) == (12, 10, 10)


def test_integer_grid_equals_diffusers():
    for head_width in (12, 32, 128):
        cos, sin = WanRotaryPosEmbed(head_width, (1, 1, 1), 64)(torch.empty(1, 1, 31, 6, 10))
        tables = rotary_tables(grid_positions((31, 6, 10)), head_width, 10000.0)
        torch.testing.assert_close(tables.cos, cos[0, :, 0, 0::2], atol=3e-6, rtol=0)
        torch.testing.assert_close(tables.sin, sin[0, :, 0, 1::2], atol=3e-6, rtol=0)


def test_rotation_is_the_interleaved_one():
    x = torch.randn(2, 3, 24, 12, dtype=torch.float64).float()
    tables = rotary_tables(grid_positions((3, 4, 2)) * 1.3, 12, 100.0)
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    expected = torch.view_as_real(pairs * torch.complex(tables.cos, tables.sin)).flatten(-2)
    torch.testing.assert_close(rotate(x, tables), expected)
    assert rotate(x.bfloat16(), tables).dtype == torch.bfloat16


def test_fractional_positions_lie_between_their_neighbours():
    """The angle is linear in the position: a token halfway turns by the mean of its neighbours' angles."""
    grid = grid_positions((2, 1, 1))
    half = rotary_tables(grid * 0.5, 32, 10000.0)  # positions 0 and 0.5
    whole = rotary_tables(grid, 32, 10000.0)
    double = torch.complex(half.cos, half.sin) ** 2
    torch.testing.assert_close(double, torch.complex(whole.cos, whole.sin), atol=1e-6, rtol=1e-6)


def test_scores_depend_on_distance_only():
    q, k = torch.randn(1, 1, 6, 32), torch.randn(1, 1, 6, 32)
    grid = grid_positions((6, 1, 1)) ** 1.5  # uneven

    def scores(positions):
        tables = rotary_tables(positions, 32, 10000.0)
        return rotate(q, tables) @ rotate(k, tables).mT

    torch.testing.assert_close(scores(grid), scores(grid + 0.37), atol=1e-4, rtol=1e-4)
    assert (scores(grid) - scores(grid_positions((6, 1, 1)))).abs().max() > 0.01


def test_grid_positions_list_coordinates():
    positions = grid_positions((2, 3, 4))
    assert positions.shape == (3, 2, 3, 4)
    assert positions[:, 1, 2, 3].tolist() == [1, 2, 3]
    assert positions.flatten(1)[:, :5].T.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 3], [0, 1, 0]]
