"""Whole checkpoints: what the tensors of a released Reducio-VAE must say before they become a ReducioVAE."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fastvid_vae import REDUCIO_FT2, REDUCIO_FT4, ReducioConfig, ReducioVAE
from fastvid_vae.conversion import reducio_layout
from fastvid_vae.conversion.reducio_layout import REDUCIO_FT2_RELEASED, REDUCIO_FT4_RELEASED, config_of
from safetensors.torch import load_file
from torch import Tensor

SMALL = replace(
    REDUCIO_FT4,
    latent_channels=4,
    num_frames=8,
    widths=(32, 32, 64, 64),
    content_widths=(32, 32, 64),
    num_blocks=1,
    fused_levels=(2,),
)
"""With the heads and groups of the released ones."""


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(ReducioVAE(SMALL).state_dict())


@pytest.mark.parametrize("config", [REDUCIO_FT4, REDUCIO_FT2])
def test_the_released_architectures_are_read_from_their_tensors(config: ReducioConfig) -> None:
    with torch.device("meta"):
        assert config_of(ReducioVAE(config).state_dict()) == config


def test_there_and_back_to_the_bit(tmp_path: Path, released: dict[str, Tensor]) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in released.items()} | {"loss.logvar": torch.zeros(())}
    model = REDUCIO_FT4_RELEASED.load(wrapped, {"of": "the repository"})
    assert model.config == SMALL
    model.save_pretrained(tmp_path / "ours")
    back, config = REDUCIO_FT4_RELEASED.export(tmp_path / "ours", load_file(tmp_path / "ours" / "model.safetensors"))
    assert config is None
    assert back.keys() == released.keys()
    assert all(torch.equal(back[name], released[name]) for name in released)


def test_the_file_of_the_other_compression_is_refused(released: dict[str, Tensor]) -> None:
    with pytest.raises(
        ValueError, match="makes 4 frames one latent frame; those of reducio-ft2-fs32-attn23 make one of 2"
    ):
        REDUCIO_FT2_RELEASED.load(released, None)


def test_what_the_tensors_cannot_tell_does_not_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ReducioVAE(replace(SMALL, num_heads=4))
    model.save_pretrained(tmp_path / "ours")
    weights = load_file(tmp_path / "ours" / "model.safetensors")
    with pytest.raises(ValueError, match=r"num_heads=4.* would be read as .*num_heads=8"):
        REDUCIO_FT4_RELEASED.export(tmp_path / "ours", weights)
    monkeypatch.setattr(reducio_layout, "REDUCIO_FT4", replace(REDUCIO_FT4, num_heads=4))  # the mutant
    REDUCIO_FT4_RELEASED.export(tmp_path / "ours", weights)


def test_other_tensors_are_refused_by_name(released: dict[str, Tensor]) -> None:
    for gone in ("post_quant_conv.weight", "decoder.mid.fuse.0.pos_embed", "encoder_3d.down.1.downsample.conv.weight"):
        with pytest.raises(ValueError, match=f"it has no '{gone}'"):
            REDUCIO_FT4_RELEASED.load({name: tensor for name, tensor in released.items() if name != gone}, None)
    with pytest.raises(ValueError, match=r"misshapen tensors \['post_quant_conv.weight \(3,\)'\]"):
        REDUCIO_FT4_RELEASED.load(released | {"post_quant_conv.weight": torch.zeros(3)}, None)
    with pytest.raises(ValueError, match=r"left over \['ema'\]"):
        REDUCIO_FT4_RELEASED.load(released | {"ema": torch.zeros(1)}, None)
    with pytest.raises(ValueError, match="it has no"):
        REDUCIO_FT4_RELEASED.load({}, None)
    with pytest.raises(ValueError, match="`target` is 'REDUCIO_FT2'"):
        REDUCIO_FT4_RELEASED.start(released, None, "REDUCIO_FT2", 0)
