"""Names against a manifest of the published model's structure, and the way through diffusers' names to a model."""

import pytest
import torch
from fastvid_dit import WAN21_I2V_14B, FSVideoDiT
from fastvid_dit.conversion import wan_diffusers, wan_official

BLOCK = [
    "modulation",
    *(
        f"{attention}.{part}.{kind}"
        for attention in ("self_attn", "cross_attn")
        for part in "qkvo"
        for kind in ("weight", "bias")
    ),
    *(f"{attention}.norm_{part}.weight" for attention in ("self_attn", "cross_attn") for part in "qk"),
    *(f"cross_attn.{part}_img.{kind}" for part in "kv" for kind in ("weight", "bias")),
    "cross_attn.norm_k_img.weight",
    *(f"{part}.{kind}" for part in ("norm3", "ffn.0", "ffn.2") for kind in ("weight", "bias")),
]
TOP = [
    "head.modulation",
    *(
        f"{part}.{kind}"
        for part in (
            *("patch_embedding", "time_embedding.0", "time_embedding.2", "time_projection.1", "head.head"),
            *("text_embedding.0", "text_embedding.2", *(f"img_emb.proj.{layer}" for layer in (0, 1, 3, 4))),
        )
        for kind in ("weight", "bias")
    ),
]
OFFICIAL = TOP + [f"blocks.{index}.{name}" for index in range(40) for name in BLOCK]


@pytest.fixture(scope="module")
def diffusers_names():
    with torch.device("meta"):
        return wan_diffusers.invert(FSVideoDiT(WAN21_I2V_14B).state_dict(), WAN21_I2V_14B)


def test_the_names_of_the_full_size_are_all_there(diffusers_names):
    assert wan_official.from_diffusers(diffusers_names).keys() == set(OFFICIAL)
    assert wan_official.to_diffusers(dict.fromkeys(OFFICIAL)).keys() == diffusers_names.keys()


def test_the_maps_invert_each_other(diffusers_names):
    there = wan_official.from_diffusers(diffusers_names)
    back = wan_official.to_diffusers(there)
    assert list(back) == list(diffusers_names)
    assert all(back[name] is diffusers_names[name] for name in back)


def test_norms_cross():
    norm = torch.zeros(1)
    assert list(wan_official.to_diffusers({"blocks.3.norm3.bias": norm})) == ["blocks.3.norm2.bias"]


@pytest.mark.parametrize(
    "name", ["modulation", "head.scale_shift_table", "blocks.0.norm2.weight", "blocks.0.attn1.to_q.weight", "loss", ""]
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=r"no Wan2\.1 image-to-video transformer has"):
        wan_official.to_diffusers({name: torch.zeros(1)})
