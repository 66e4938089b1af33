from dataclasses import replace

from fastvid_vae import FSAE_LITE, FSAE_STANDARD
from fastvid_vae.cost import decode_cost

GIB = 2**30
FULL = 121, 1024, 1024


def test_weights_are_those_of_the_full_sizes() -> None:
    assert decode_cost(FSAE_LITE, FULL).weight_bytes == 2 * (494_710_144 + 528_187_459)
    assert decode_cost(FSAE_STANDARD, FULL, itemsize=4).weight_bytes == 4 * (494_710_144 + 540_580_995)


def test_five_seconds_of_a_megapixel_stay_under_12_gb() -> None:
    cost = decode_cost(FSAE_LITE, FULL)
    assert 1e9 < cost.activation_bytes < 12e9


def test_a_small_video_goes_through_whole() -> None:
    cost = decode_cost(FSAE_LITE, (17, 256, 256))
    assert cost.activation_bytes == (10 * 64 * 2 + 3 * 2) * 17 * 256 * 256
    assert cost.stride == (4, 64, 64)


def test_narrow_stages_cost_half() -> None:
    wide = replace(FSAE_LITE, decoder_widths=FSAE_STANDARD.decoder_widths)
    video = 17, 256, 256
    frames = 3 * 2 * 17 * 256 * 256
    narrow, normal = (decode_cost(config, video).activation_bytes - frames for config in (FSAE_LITE, wide))
    assert 2 * narrow == normal
