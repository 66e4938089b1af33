"""Reducio-DiT: the body of PixArt-alpha on the few latents of Reducio-VAE, shown the content frame and the prompt.

The network predicts the noise in latents of a variance-preserving diffusion with 1000 steps (linear betas from 1e-4 to
0.02), given the step's number. No weights of the paper are public; `conversion` takes over those of PixArt-alpha.
Source: Reducio, section 3.2 and appendix A; norms, modulation and positions are computed in float32.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastvid_dit.attention import AttentionOp, AttentionSite, key_mask, sdpa
from fastvid_dit.checkpoint import build_empty, find_folder, load_weights, read_config, save
from fastvid_dit.head import Head
from fastvid_dit.layers import FeedForward, TimestepEmbedding
from fastvid_dit.patchify import patchify, token_grid, unpatchify
from fastvid_dit.positions import grid_positions
from fastvid_dit.reducio_dit.block import Block, BlockContext, TemporalBlock
from fastvid_dit.reducio_dit.config import ReducioDiTConfig
from fastvid_dit.reducio_dit.content_frame import ContentFrameEmbedding
from fastvid_dit.reducio_dit.cross_attention import Condition, ConditionCache, ConditionTokens
from fastvid_dit.reducio_dit.inputs import check_batch, check_cache, check_condition, check_inputs
from fastvid_dit.reducio_dit.positions import frame_code, time_code

FLOAT32_PARTS = ("time_embedding.", "size_embedding.", "modulation.", "time_scale")
"""Parameters that stay float32 when a model is loaded in a lower precision."""


class ReducioDiT(nn.Module):
    """Noise in video latents, conditioned on text and (if configured) the content frame and the video's size.

    `gradient_checkpointing = True` recomputes each block in the backward pass; gradients are the same to the bit.
    """

    def __init__(self, config: ReducioDiTConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        voxels = config.patch_size[0] * config.patch_size[1] * config.patch_size[2]
        width, frequencies, image = config.width, config.frequency_width, config.content_frame
        self.patch_embedding = nn.Linear(config.latent_channels * voxels, width)
        self.time_scale = nn.Parameter(torch.zeros(())) if config.learn_time_scale else None
        self.time_embedding = TimestepEmbedding(frequencies, width)
        self.size_embedding = SizeEmbedding(frequencies, width // 3) if config.size_embedding else None
        self.time_projection = nn.Linear(width, 6 * width)
        self.text_embedding = FeedForward(config.text_width, width, width)
        self.content_frame_embedding = None if image is None else ContentFrameEmbedding(image, width)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.num_blocks))
        num_temporal = config.num_blocks if config.temporal_blocks else 0
        self.temporal_blocks = nn.ModuleList(TemporalBlock(config) for _ in range(num_temporal))
        self.head = Head(width, config.out_channels * voxels, config.norm_eps)
        self.apply(_init_weights)

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo_id: str | os.PathLike[str],
        *,
        subfolder: str | None = None,
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Load a folder written by `save_pretrained`, local or of the hub.

        Args:
            path_or_repo_id: folder, or `owner/name` of a repository.
            subfolder: the model's folder inside it.
            revision: branch, tag or commit of the repository.
            dtype: of the weights, float32 if not given; embeddings of time and size and the modulation tables stay
                float32.
            device: where to put the weights, the CPU if not given.
            local_files_only: never use the network.
        Raises:
            CheckpointError: no such folder; or config or weights incomplete, damaged, not finite, of another model.
        """
        folder = find_folder(path_or_repo_id, subfolder=subfolder, revision=revision, local_files_only=local_files_only)
        model = build_empty(cls, read_config(folder, ReducioDiTConfig, cls.__name__))
        model.lower_precision(dtype or torch.float32)
        load_weights(model, folder, device=device)
        return model

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write config.json and safetensors; nothing half-written is left behind when it fails."""
        save(self, self.config, Path(directory))

    def lower_precision(self, dtype: torch.dtype) -> None:
        """Cast the weights to `dtype`, except the embeddings of time and size and the modulation tables (float32)."""
        for name, parameter in self.named_parameters():
            keep = any(part in name for part in FLOAT32_PARTS)
            parameter.data = parameter.data.to(torch.float32 if keep else dtype)

    def condition_cache(
        self,
        text: Float[Tensor, "b l d"],
        text_mask: Bool[Tensor, "b l"] | None = None,
        *,
        semantic: Float[Tensor, "b m e"] | None = None,
        content: Float[Tensor, "b k H W"] | None = None,
    ) -> ConditionCache:
        """Keys and values of prompt and content frame for every block: computed once, given to `forward` at each step.

        Arguments and errors are those of `forward`. At full size with 1144 tokens it takes 148 MB a sample in bfloat16.
        """
        tokens = self._condition_tokens(text, text_mask, semantic, content)
        blocks = cast(Iterable[Block], self.blocks)
        cached = tuple(tokens.keys_values(block.index, block.cross_attention) for block in blocks)
        return ConditionCache(cached, tokens.mask)

    def forward(  # noqa: PLR0913  # the inputs of the network; a record would hide them from exporters
        self,
        latents: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, " b"],
        text: Float[Tensor, "b l d"] | None = None,
        text_mask: Bool[Tensor, "b l"] | None = None,
        *,
        semantic: Float[Tensor, "b m e"] | None = None,
        content: Float[Tensor, "b k H W"] | None = None,
        cache: ConditionCache | None = None,
        size: Float[Tensor, "b 2"] | None = None,
        positions: Float[Tensor, "3 nt nh nw"] | None = None,
        attention: AttentionOp = sdpa,
    ) -> Float[Tensor, "b o t h w"]:
        """Predict the noise (and, with `learn_sigma`, the variance in the second half of the channels).

        The result has the dtype of `latents` and is computed in that of the weights.

        Args:
            latents: noisy, as they leave Reducio-VAE's `encode`.
            timestep: number of the diffusion step, 0 to 999.
            text: text-encoder tokens, `config.text_width` wide.
            text_mask: true where a token counts; None: all do. Image tokens always count; where there are none, a row
                without any true token attends to its padding.
            semantic: tokens of the content frame from the image encoder; all zeros leave the frame out.
            content: latents of the content frame from the image autoencoder, unscaled; all zeros leave it out.
            cache: of the four arguments above, in their stead; see `condition_cache`.
            size: height and width of the video in pixels; required with `config.size_embedding`, else None.
            positions: coordinates of the tokens along t, h, w, in tokens; None: the integer grid.
            attention: self-attention of every block. With `config.temporal_blocks` there are two calls a block, the
                first among the tokens of each frame, the second among those of each place.
        Raises:
            ValueError: an input that does not fit the configuration or the other inputs.
        """
        check_inputs(self.config, latents, timestep, size, positions)
        condition = self._condition(text, text_mask, semantic, content, cache)
        check_batch("text" if cache is None else "cache", condition, latents)
        patch_size = self.config.patch_size
        grid = token_grid((latents.shape[2], latents.shape[3], latents.shape[4]), patch_size)
        dtype = self.patch_embedding.weight.dtype
        embedded = self._embed_time(timestep, size).to(dtype)
        context = BlockContext(
            timestep=rearrange(self.time_projection(F.silu(embedded)), "b (six d) -> b six d", six=6),
            condition=condition,
            grid=grid,
            attention=attention,
        )
        x = self.patch_embedding(patchify(latents.to(dtype), patch_size))
        x = self._add_positions(x, grid_positions(grid, device=latents.device) if positions is None else positions)
        x = self._run_blocks(x, context)
        return unpatchify(self.head(x, embedded), grid, patch_size).to(latents.dtype)

    def _condition(
        self,
        text: Tensor | None,
        text_mask: Tensor | None,
        semantic: Tensor | None,
        content: Tensor | None,
        cache: ConditionCache | None,
    ) -> Condition:
        if cache is None:
            if text is None:
                raise ValueError("`text` is required, or a `cache` of it")
            return self._condition_tokens(text, text_mask, semantic, content)
        others = {"text": text, "text_mask": text_mask, "semantic": semantic, "content": content}
        check_cache(self.config, cache, others)
        return cache

    def _condition_tokens(
        self, text: Tensor, text_mask: Tensor | None, semantic: Tensor | None, content: Tensor | None
    ) -> ConditionTokens:
        check_condition(self.config, text, text_mask, semantic, content)
        dtype = self.patch_embedding.weight.dtype
        words = self.text_embedding(text.to(dtype))
        if self.content_frame_embedding is None or semantic is None or content is None:
            return ConditionTokens((words,), None if text_mask is None else key_mask(text_mask))
        images = self.content_frame_embedding(semantic.to(dtype), content.to(dtype))
        grids = tuple(torch.cat((image, words), dim=1) for image in images)
        if text_mask is None:
            return ConditionTokens(grids, None)
        always = text_mask.new_ones(images[0].shape[:2])
        return ConditionTokens(grids, key_mask(torch.cat((always, text_mask), dim=1)))

    def _embed_time(self, timestep: Tensor, size: Tensor | None) -> Tensor:
        embedded: Tensor = self.time_embedding(timestep)
        if self.size_embedding is None or size is None:
            return embedded
        added: Tensor = embedded + self.size_embedding(size)
        return added

    def _add_positions(self, x: Tensor, positions: Tensor) -> Tensor:
        """Rows and columns are scaled from 0 .. n to 0 .. span, so that a frame of any size looks like the training's.

        Source: PixArt-alpha, which interpolates its table likewise.
        """
        t, rows, columns = positions.float().flatten(1).unbind(0)
        span, width = self.config.position_span, self.config.width
        code = frame_code(rows * (span / positions.shape[2]), columns * (span / positions.shape[3]), width)
        times = time_code(t, width)
        code = code + (times if self.time_scale is None else self.time_scale.float() * times)
        return (x.float() + code).to(x.dtype)

    def _run_blocks(self, x: Tensor, context: BlockContext) -> Tensor:
        (t, h, w), num_blocks = context.grid, self.config.num_blocks
        for index, block in enumerate(self.blocks):
            if not self.config.temporal_blocks:
                x = self._run(block, x, context, AttentionSite(block=index, num_blocks=num_blocks, grid=(t, h, w)))
                continue
            site = AttentionSite(block=2 * index, num_blocks=2 * num_blocks, grid=(1, h, w))
            x = self._run(block, x, context, site)
            site = AttentionSite(block=2 * index + 1, num_blocks=2 * num_blocks, grid=(t, 1, 1))
            x = self._run(self.temporal_blocks[index], x, context, site)
        return x

    def _run(self, block: nn.Module, x: Tensor, context: BlockContext, site: AttentionSite) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(block, x, context, site, use_reentrant=False)
            return recomputed
        out: Tensor = block(x, context, site)
        return out


class SizeEmbedding(nn.Module):
    """Height, width and their ratio, embedded as a timestep is, side by side. Source: PixArt-alpha, PixArtMS.py."""

    def __init__(self, frequency_width: int, width: int) -> None:
        super().__init__()
        self.side = TimestepEmbedding(frequency_width, width)
        self.aspect = TimestepEmbedding(frequency_width, width)

    def forward(self, size: Float[Tensor, "b 2"]) -> Float[Tensor, "b d"]:
        height, width = size.float().unbind(1)
        return torch.cat((self.side(height), self.side(width), self.aspect(height / width)), dim=1)


def _init_weights(module: nn.Module) -> None:
    """PixArt-alpha's: Xavier for every Linear, N(0, 0.02) in the embeddings, zero where a block or the model ends."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, Block):
        nn.init.zeros_(module.cross_attention.to_out.weight)
    elif isinstance(module, TemporalBlock):
        nn.init.zeros_(module.self_attention.to_out.weight)
        nn.init.zeros_(module.ffn.linear_out.weight)
    elif isinstance(module, TimestepEmbedding | ContentFrameEmbedding):
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
    elif isinstance(module, ReducioDiT):
        for linear in (module.time_projection, module.text_embedding.linear_in, module.text_embedding.linear_out):
            nn.init.normal_(linear.weight, std=0.02)
        nn.init.zeros_(module.head.linear.weight)
