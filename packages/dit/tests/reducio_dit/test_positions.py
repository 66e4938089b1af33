import torch
from diffusers.models.embeddings import get_1d_sincos_pos_embed_from_grid, get_2d_sincos_pos_embed
from fastvid_dit import grid_positions
from fastvid_dit.reducio_dit.positions import frame_code, time_code


def test_places_in_a_frame_are_coded_as_by_diffusers():
    for (h, w), base, scale in (((16, 16), 16, 0.5), ((6, 10), 16, 1.0)):
        expected = get_2d_sincos_pos_embed(48, (h, w), base_size=base, interpolation_scale=scale)
        _, rows, columns = grid_positions((1, h, w)).flatten(1)
        code = frame_code(rows * (base / scale / h), columns * (base / scale / w), 48)
        torch.testing.assert_close(code.double(), expected.double(), atol=1e-5, rtol=0)
        swapped = frame_code(columns * (base / scale / w), rows * (base / scale / h), 48)  # mutant
        assert (swapped - expected).abs().max() > 0.5


def test_time_adds_nothing_to_frame_0():
    times = torch.tensor([0.0, 0.5, 1.0, 3.0])
    expected = get_1d_sincos_pos_embed_from_grid(48, times) - get_1d_sincos_pos_embed_from_grid(48, torch.zeros(4))
    torch.testing.assert_close(time_code(times, 48).double(), expected.double(), atol=1e-5, rtol=0)
    assert time_code(times, 48)[0].abs().max() == 0
    assert time_code(times, 48)[1:].abs().amax(1).min() > 0.1
