"""Self-attention of the five models, with reduction between RoPE and attention.

Each does what the model's own processor does, in the same order and to the same bit where nothing is reduced. They call
the projections as modules, so that LoRA, quantisation and offloading keep their hooks. Parameters have the names that
diffusers passes by; it drops arguments whose name a processor does not know.
"""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor

from fastvid_accel.integrations.diffusers.current import Current

Rotary = Any
"""Cosine and sine; what diffusers says of them is wrong."""


class ReducingProcessor:
    """What all of them hold; no module, or it would enter the model's state dict.

    Attributes:
        replaced: the processor that was there.
        _attention_backend, _parallel_config: where diffusers puts what `set_attention_backend` chose.
    """

    def __init__(self, current: Current, block: int, replaced: Any) -> None:
        self.current = current
        self.block = block
        self.replaced = replaced
        self._attention_backend = getattr(replaced, "_attention_backend", None)
        self._parallel_config = None

    def dispatch(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention by the backend that the user chose, which wants heads behind tokens."""
        out: Tensor = dispatch_attention_fn(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=mask,
            dropout_p=0.0,
            is_causal=False,
            backend=self._attention_backend,
            parallel_config=None,
        )
        return out.transpose(1, 2)


class CogVideoXProcessor(ReducingProcessor):
    """Text before video, one projection for both; RoPE on the video, in the larger model."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Rotary | None = None,
    ) -> tuple[Tensor, Tensor]:
        _refuse_mask(attention_mask)
        num_text = encoder_hidden_states.shape[1]
        q, k, v = _project(attn, torch.cat([encoder_hidden_states, hidden_states], dim=1))
        q, k, v = (x.unflatten(2, (attn.heads, -1)).transpose(1, 2) for x in (q, k, v))
        if attn.norm_q is not None:
            q = attn.norm_q(q)
        if attn.norm_k is not None:
            k = attn.norm_k(k)
        if image_rotary_emb is not None:
            q[:, :, num_text:] = _rotate(q[:, :, num_text:], image_rotary_emb, sequence_dim=2)
            k[:, :, num_text:] = _rotate(k[:, :, num_text:], image_rotary_emb, sequence_dim=2)
        out = self.current.attend(
            q, k, v, block=self.block, attend=F.scaled_dot_product_attention, num_text=num_text, text_first=True
        )
        out = _project_out(attn, out.transpose(1, 2).flatten(2, 3))
        return out[:, num_text:], out[:, :num_text]


class HunyuanVideoProcessor(ReducingProcessor):
    """Video before text, projections of their own in the first blocks; a mask over keys, whose video part is true."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Rotary | None = None,
    ) -> tuple[Tensor, Tensor]:
        num_text, n = encoder_hidden_states.shape[1], hidden_states.shape[1]
        single = attn.add_q_proj is None
        x = torch.cat([hidden_states, encoder_hidden_states], dim=1) if single else hidden_states
        q, k, v = (x.unflatten(2, (attn.heads, -1)) for x in _project(attn, x))
        if attn.norm_q is not None:
            q = attn.norm_q(q)
        if attn.norm_k is not None:
            k = attn.norm_k(k)
        if image_rotary_emb is not None:
            q, k = (_rotate_video(x, n, image_rotary_emb) for x in (q, k))
        if not single:
            projections = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
            of_text = [layer(encoder_hidden_states).unflatten(2, (attn.heads, -1)) for layer in projections]
            if attn.norm_added_q is not None:
                of_text[0] = attn.norm_added_q(of_text[0])
            if attn.norm_added_k is not None:
                of_text[1] = attn.norm_added_k(of_text[1])
            q, k, v = (torch.cat([x, text], dim=1) for x, text in zip((q, k, v), of_text, strict=True))

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            mask = attention_mask
            if mask is not None and k.shape[2] < n + num_text:
                mask = torch.cat((mask[..., : k.shape[2] - num_text], mask[..., n:]), dim=-1)
            return self.dispatch(q, k, v, mask)

        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        out = self.current.attend(q, k, v, block=self.block, attend=attend, num_text=num_text)
        out = out.transpose(1, 2).flatten(2, 3).to(q.dtype)
        video, text = out[:, :n], out[:, n:]
        if getattr(attn, "to_out", None) is not None:
            video = _project_out(attn, video)
        if getattr(attn, "to_add_out", None) is not None:
            text = attn.to_add_out(text)
        return video, text


class WanProcessor(ReducingProcessor):
    """Video alone: text has attention of its own."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Rotary | None = None,
    ) -> Tensor:
        _refuse_mask(attention_mask)
        q, k, v = _project(attn, hidden_states)
        q, k = attn.norm_q(q), attn.norm_k(k)
        q, k, v = (x.unflatten(2, (attn.heads, -1)) for x in (q, k, v))
        if rotary_emb is not None:
            q, k = (_rotate_pairs(x, *rotary_emb) for x in (q, k))
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        out = self.current.attend(q, k, v, block=self.block, attend=self.dispatch)
        return _project_out(attn, out.transpose(1, 2).flatten(2, 3).type_as(q))


class LTXVideoProcessor(ReducingProcessor):
    """Video alone; RoPE before heads are split."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Rotary | None = None,
    ) -> Tensor:
        _refuse_mask(attention_mask)
        q, k, v = (layer(hidden_states) for layer in (attn.to_q, attn.to_k, attn.to_v))
        q, k = attn.norm_q(q), attn.norm_k(k)
        if image_rotary_emb is not None:
            q, k = (_rotate_channels(x, *image_rotary_emb) for x in (q, k))
        q, k, v = (x.unflatten(2, (attn.heads, -1)).transpose(1, 2) for x in (q, k, v))
        out = self.current.attend(q, k, v, block=self.block, attend=self.dispatch)
        return _project_out(attn, out.transpose(1, 2).flatten(2, 3).to(q.dtype))


class MochiProcessor(ReducingProcessor):
    """Video before text; every row of the batch attends to the words it has, and to no padding."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor,
        image_rotary_emb: Rotary | None = None,
    ) -> tuple[Tensor, Tensor]:
        n, num_text = hidden_states.shape[1], encoder_hidden_states.shape[1]
        q, k, v = (x.unflatten(2, (attn.heads, -1)) for x in _project(attn, hidden_states))
        q, k = attn.norm_q(q), attn.norm_k(k)
        projections = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
        of_text = [layer(encoder_hidden_states).unflatten(2, (attn.heads, -1)) for layer in projections]
        of_text[0], of_text[1] = attn.norm_added_q(of_text[0]), attn.norm_added_k(of_text[1])
        if image_rotary_emb is not None:
            q, k = (_rotate_halves(x, *image_rotary_emb) for x in (q, k))
        words = [row.flatten().nonzero().flatten() for row in attention_mask]

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            rows = []
            for row, present in enumerate(words):
                parts = [
                    torch.cat((x[row : row + 1, :, :-num_text], x[row : row + 1, :, -num_text:][:, :, present]), dim=2)
                    for x in (q, k, v)
                ]
                out = F.scaled_dot_product_attention(parts[0], parts[1], parts[2])
                rows.append(F.pad(out, (0, 0, 0, q.shape[2] - out.shape[2])))
            return torch.cat(rows, dim=0)

        joined = (torch.cat([x, text], dim=1).transpose(1, 2) for x, text in zip((q, k, v), of_text, strict=True))
        out = self.current.attend(*joined, block=self.block, attend=attend, num_text=num_text)
        out = out.transpose(1, 2).flatten(2, 3)
        video, text = _project_out(attn, out[:, :n]), out[:, n:]
        return video, attn.to_add_out(text) if hasattr(attn, "to_add_out") else text


def _project(attn: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values; by one layer where they are fused."""
    if getattr(attn, "fused_projections", False):
        q, k, v = attn.to_qkv(x).chunk(3, dim=-1)
        return q, k, v
    return attn.to_q(x), attn.to_k(x), attn.to_v(x)


def _project_out(attn: Any, x: Tensor) -> Tensor:
    out: Tensor = attn.to_out[1](attn.to_out[0](x))
    return out


def _refuse_mask(mask: Tensor | None) -> None:
    if mask is not None:
        raise ValueError("`attention_mask` is given, which this model never does by itself; AsymRnR cannot keep to it")


def _rotate(x: Tensor, rotary: Rotary, *, sequence_dim: int) -> Tensor:
    """CogVideoX and Hunyuan: by diffusers itself."""
    out: Any = apply_rotary_emb(x, rotary, sequence_dim=sequence_dim)
    rotated: Tensor = out
    return rotated


def _rotate_video(x: Tensor, n: int, rotary: Rotary) -> Tensor:
    """Hunyuan: the first n tokens, where text is behind them."""
    video = _rotate(x[:, :n], rotary, sequence_dim=1)
    return torch.cat([video, x[:, n:]], dim=1) if x.shape[1] > n else video


def _rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Wan: neighbouring channels are a pair, whose angle each table holds twice."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[..., 0::2], sin[..., 1::2]
    out = torch.empty_like(x)
    out[..., 0::2] = even * cos - odd * sin
    out[..., 1::2] = even * sin + odd * cos
    return out.type_as(x)


def _rotate_channels(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """LTX-Video: over all heads at once."""
    even, odd = x.unflatten(2, (-1, 2)).unbind(-1)
    turned = torch.stack([-odd, even], dim=-1).flatten(2)
    return (x.float() * cos + turned.float() * sin).to(x.dtype)


def _rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Mochi: a table entry for each pair and head."""
    even, odd = x[..., 0::2].float(), x[..., 1::2].float()
    first, second = (even * cos - odd * sin).to(x.dtype), (even * sin + odd * cos).to(x.dtype)
    return torch.stack([first, second], dim=-1).flatten(-2)
