"""The map of the released checkpoints: what it takes, what it gives back, what it refuses."""

from dataclasses import replace

import pytest
import torch
from fastvid_vae import REDUCIO_FT4, ReducioConfig, ReducioVAE
from fastvid_vae.conversion import reducio
from torch import Tensor

CONFIG = ReducioConfig(
    latent_channels=2,
    num_frames=4,
    widths=(4, 4, 8),
    content_widths=(4, 8),
    num_blocks=1,
    temporal_levels=1,
    fusion="attention",
    fused_levels=(0, 1),
    num_heads=2,
    fusion_head_width=4,
    norm_groups=2,
)


@pytest.fixture
def released() -> dict[str, Tensor]:
    return dict(ReducioVAE(CONFIG).state_dict())


def test_there_and_back(released: dict[str, Tensor]) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in released.items()}
    wrapped |= {"module.loss.discriminator.main.0.weight": torch.zeros(1), "loss.logvar": torch.zeros(())}
    ours = reducio.convert(wrapped, CONFIG)
    ReducioVAE(CONFIG).load_state_dict(ours, strict=True)
    back = reducio.invert(ours, CONFIG)
    assert list(back) == list(released)
    assert all(torch.equal(back[name], released[name]) for name in released)


def test_full_size_on_the_meta_device() -> None:
    with torch.device("meta"):
        theirs = ReducioVAE(REDUCIO_FT4).state_dict()
    assert len(reducio.convert(theirs, REDUCIO_FT4)) == 512
    with pytest.raises(ValueError, match="misshapen"):
        reducio.convert(theirs, replace(REDUCIO_FT4, temporal_levels=1))


def test_what_does_not_fit_is_named(released: dict[str, Tensor]) -> None:
    short = {name: tensor for name, tensor in released.items() if name != "quant_conv.bias"} | {"ema": torch.zeros(1)}
    for change in (reducio.convert, reducio.invert):
        with pytest.raises(ValueError, match=r"missing \['quant_conv.bias'\], left over \['ema'\]"):
            change(short, CONFIG)
    with pytest.raises(ValueError, match=r"quant_conv.bias \(3,\), expected \(4,\)"):
        reducio.convert(released | {"quant_conv.bias": torch.zeros(3)}, CONFIG)
    with pytest.raises(ValueError, match="left over"):
        reducio.convert(released, replace(CONFIG, fusion="none"))


def test_a_table_that_is_not_the_formula_is_refused(released: dict[str, Tensor]) -> None:
    name = "decoder.up.1.fuse.0.pos_embed"
    for wrong in (released[name] + 1e-5, released[name].flip(1), released[name] * torch.nan):
        with pytest.raises(ValueError, match=name):
            reducio.convert(released | {name: wrong}, CONFIG)
    half = {key: tensor.bfloat16() for key, tensor in released.items()}
    assert len(reducio.convert(half, CONFIG)) == len(released)
