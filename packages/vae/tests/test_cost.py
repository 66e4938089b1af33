from dataclasses import replace

import pytest
from fastvid_vae import FSAE_LITE, FSAE_STANDARD, FSAEConfig
from fastvid_vae.cost import decode_cost

FULL = 121, 1024, 1024


def test_weights_are_those_of_the_full_sizes() -> None:
    assert decode_cost(FSAE_LITE, FULL).weight_bytes == 2 * (494_710_144 + 528_187_459)
    assert decode_cost(FSAE_STANDARD, FULL, itemsize=4).weight_bytes == 4 * (494_710_144 + 540_580_995)


@pytest.mark.parametrize("config", [FSAE_LITE, FSAE_STANDARD], ids=["lite by streaming", "standard by tiles"])
def test_five_seconds_of_a_megapixel_stay_under_12_gb(config: FSAEConfig) -> None:
    """Everything: weights, what is alive beside them, and the video. `test_memory` counts the same on meta."""
    cost = decode_cost(config, FULL)
    assert cost.activation_bytes > 6 * 121 * 1024 * 1024
    assert 8e9 < cost.weight_bytes + cost.activation_bytes < 12e9


def test_a_small_video_goes_through_whole() -> None:
    cost = decode_cost(FSAE_LITE, (17, 256, 256))
    # Six activations of the last stage, the output of the stage below, and the first frame's features.
    pixel = 6 * 64 * 2 + 128 * 2 / 8
    first = 2 * sum(width / 4**stage for stage, width in enumerate((0, 0, 512, 512, 1024, 1024, 2048)))
    folding = 3 * 2 * 4 * 2048 * 1024 * 27
    assert folding > pixel * 17 * 256 * 256
    assert cost.activation_bytes == folding + round(first) * 256 * 256
    assert cost.stride == (4, 64, 64)


def test_a_size_that_is_no_multiple_costs_what_it_is_padded_to() -> None:
    assert decode_cost(FSAE_LITE, (110, 960, 961)) == decode_cost(FSAE_LITE, (113, 960, 1024))


def test_narrow_stages_cost_half() -> None:
    video = 17, 512, 512  # whole
    wide = replace(FSAE_LITE, decoder_widths=FSAE_STANDARD.decoder_widths)
    narrow, normal = (decode_cost(config, video).activation_bytes for config in (FSAE_LITE, wide))
    assert 1.9 < normal / narrow < 2
