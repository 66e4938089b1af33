"""Wan2.1's own key names to diffusers' and back; `wan_diffusers` does the rest.

Source: github.com/Wan-Video/Wan2.1 (Apache-2.0), wan/modules/model.py. Norms are renamed crosswise: what Wan calls
norm3 is norm2 in diffusers. The tensors themselves are equal.
"""

from collections.abc import Mapping

from torch import Tensor

_TOP = {
    "patch_embedding": "patch_embedding",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "head.head": "proj_out",
}
_BLOCK = {
    **{
        f"{theirs}.{part}": f"{diffusers}.{name}"
        for theirs, diffusers in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for part, name in (
            *(("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0")),
            *(("norm_q", "norm_q"), ("norm_k", "norm_k")),
        )
    },
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "cross_attn.norm_k_img": "attn2.norm_added_k",
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}


_HEAD_TABLE, _BLOCK_TABLE = ("head.modulation", "scale_shift_table"), ("modulation", "scale_shift_table")


def to_diffusers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under diffusers' names.

    Raises:
        ValueError: a name that Wan2.1 does not have.
    """
    top, block = dict([*_TOP.items(), _HEAD_TABLE]), dict([*_BLOCK.items(), _BLOCK_TABLE])
    return {_renamed(name, top, block): tensor for name, tensor in state_dict.items()}


def from_diffusers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The exact inverse of `to_diffusers`.

    Raises:
        ValueError: a name that diffusers does not have.
    """
    top = {value: key for key, value in (*_TOP.items(), _HEAD_TABLE)}
    block = {value: key for key, value in (*_BLOCK.items(), _BLOCK_TABLE)}
    return {_renamed(name, top, block): tensor for name, tensor in state_dict.items()}


def _renamed(name: str, top: Mapping[str, str], block: Mapping[str, str]) -> str:
    prefix, rest, names = "", name, top
    if name.startswith("blocks.") and name.count(".") > 1:
        _, index, rest = name.split(".", 2)
        prefix, names = f"blocks.{index}.", block
    if rest in names:  # a table, which is a parameter of its own
        return prefix + names[rest]
    module, _, suffix = rest.rpartition(".")
    if module in names:
        return f"{prefix}{names[module]}.{suffix}"
    raise ValueError(f"`state_dict` has {name!r}, which no Wan2.1 image-to-video transformer has")
