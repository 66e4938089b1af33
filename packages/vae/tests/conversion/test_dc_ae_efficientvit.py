"""Names as the published files have them, and the way through diffusers' names to a model."""

import pytest
import torch
from diffusers import AutoencoderDC
from fastvid_vae.conversion import dc_ae_efficientvit
from torch import Tensor

KINDS = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
SCALES = ((),) * 3 + ((5,),) * 3

RES_BLOCK = ["main.conv1.conv.weight", "main.conv1.conv.bias", "main.conv2.conv.weight"]
RES_BLOCK += ["main.conv2.norm.weight", "main.conv2.norm.bias"]
VIT_BLOCK = [
    *("context_module.main.qkv.conv.weight", "context_module.main.aggreg.0.0.weight"),
    *("context_module.main.aggreg.0.1.weight", "context_module.main.proj.conv.weight"),
    *("context_module.main.proj.norm.weight", "context_module.main.proj.norm.bias"),
    *("local_module.main.inverted_conv.conv.weight", "local_module.main.inverted_conv.conv.bias"),
    *("local_module.main.depth_conv.conv.weight", "local_module.main.depth_conv.conv.bias"),
    *("local_module.main.point_conv.conv.weight", "local_module.main.point_conv.norm.weight"),
    "local_module.main.point_conv.norm.bias",
]


def published_names() -> set[str]:
    """Of the f32c32 models: depths 2, 2, 2, 3, 3, 3 in the encoder and 3 in the decoder."""
    names = {f"encoder.project_in.conv.{kind}" for kind in ("weight", "bias")}
    names |= {f"encoder.project_out.main.op_list.0.conv.{kind}" for kind in ("weight", "bias")}
    names |= {f"decoder.project_in.main.conv.{kind}" for kind in ("weight", "bias")}
    names |= {f"decoder.project_out.op_list.{part}.{k}" for part in ("0", "2.conv") for k in ("weight", "bias")}
    for stage, depth in enumerate((2, 2, 2, 3, 3, 3)):
        block = RES_BLOCK if stage < 3 else VIT_BLOCK
        names |= {f"encoder.stages.{stage}.op_list.{j}.{name}" for j in range(depth) for name in block}
        up = int(stage < 5)
        names |= {f"decoder.stages.{stage}.op_list.{j + up}.{name}" for j in range(3) for name in block}
        if up:
            names |= {f"encoder.stages.{stage}.op_list.{depth}.main.conv.{kind}" for kind in ("weight", "bias")}
            names |= {f"decoder.stages.{stage}.op_list.0.main.conv.conv.{kind}" for kind in ("weight", "bias")}
    return names


@pytest.fixture(scope="module")
def theirs() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return AutoencoderDC(
        latent_channels=32,
        encoder_block_types=KINDS,
        decoder_block_types=KINDS,
        encoder_block_out_channels=(32, 32, 32, 32, 64, 64),
        decoder_block_out_channels=(32, 32, 32, 32, 64, 64),
        encoder_layers_per_block=(2, 2, 2, 3, 3, 3),
        decoder_layers_per_block=(3, 3, 3, 3, 3, 3),
        encoder_qkv_multiscales=SCALES,
        decoder_qkv_multiscales=SCALES,
        upsample_block_type="interpolate",
        downsample_block_type="Conv",
    ).state_dict()


def test_the_published_names_are_all_there(theirs: dict[str, Tensor]) -> None:
    assert dc_ae_efficientvit.from_diffusers(theirs).keys() == published_names()


def test_the_maps_invert_each_other(theirs: dict[str, Tensor]) -> None:
    there = dc_ae_efficientvit.from_diffusers(theirs)
    back = dc_ae_efficientvit.to_diffusers(there)
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], theirs[name]) for name in theirs)


def test_queries_keys_and_values_are_one_convolution(theirs: dict[str, Tensor]) -> None:
    there = dc_ae_efficientvit.from_diffusers(theirs)
    qkv = there["encoder.stages.3.op_list.0.context_module.main.qkv.conv.weight"]
    assert qkv.shape == (96, 32, 1, 1)
    assert torch.equal(qkv[32:64, :, 0, 0], theirs["encoder.down_blocks.3.0.attn.to_k.weight"])


@pytest.mark.parametrize(
    "name",
    ["loss.weight", "encoder.stages.0.op_list.0.main.conv3.weight", "encoder.stages.0.main.conv1.conv.weight", ""],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="which no DC-AE has"):
        dc_ae_efficientvit.to_diffusers({name: torch.zeros(1)})
    with pytest.raises(ValueError, match="which no DC-AE has"):
        dc_ae_efficientvit.from_diffusers({name: torch.zeros(1)})
