"""FSVideo DiT: the body of Wan2.1 image-to-video, one token per latent voxel, and layer memory.

The network predicts the velocity (noise - clean) of latents at noise level sigma, given timestep = 1000 sigma. Channels
enter as noise | mask | condition. Source: FSVideo, section 2.3; the body follows Wan2.1 as diffusers runs it: the
residual stream keeps the model's dtype, norms and modulation are computed in float32.
"""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Self, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastvid_dit.attention import AttentionOp, AttentionSite, key_mask, sdpa
from fastvid_dit.block import Block, BlockContext
from fastvid_dit.checkpoint import build_empty, find_folder, load_weights, read_config, save
from fastvid_dit.config import FSVideoDiTConfig
from fastvid_dit.head import Head
from fastvid_dit.layer_memory import States, allocate_memory, init_router_from_scratch
from fastvid_dit.layers import FeedForward, ImageEmbedding, TimestepEmbedding
from fastvid_dit.patchify import patchify, token_grid, unpatchify
from fastvid_dit.positions import grid_positions
from fastvid_dit.refinement import refiner_condition
from fastvid_dit.rope import RotaryTables, rotary_tables
from fastvid_dit.shapes import require_shape, require_size, require_whole_patches

FLOAT32_PARTS = ("time_embedding.", "modulation.")
"""Parameters that stay float32 when a model is loaded in a lower precision."""
SMALLEST_SIGMA = 1e-3
SHARED_AXES = 4
"""Of positions that all blocks share."""


class FSVideoDiT(nn.Module):
    """Velocity of video latents, conditioned on text, a first frame and (if configured) image-encoder tokens.

    With `prediction` "velocity" the head gives it, as in the paper. With "correction", which is ours, a refiner's head
    gives what is to be added to the condition latents c: velocity = (latents - c - head) / sigma. A narrow refiner need
    not carry noise and condition to its head then, and a new one, whose head is zero, makes the upsampled video.

    `gradient_checkpointing = True` recomputes each block in the backward pass; gradients are the same to the bit.
    """

    def __init__(self, config: FSVideoDiTConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        voxels = config.patch_size[0] * config.patch_size[1] * config.patch_size[2]
        in_channels = config.latent_channels + config.condition_channels
        width = config.width
        self.patch_embedding = nn.Linear(in_channels * voxels, width)
        self.time_embedding = TimestepEmbedding(config.frequency_width, width)
        self.time_projection = nn.Linear(width, 6 * width)
        self.text_embedding = FeedForward(config.text_width, width, width)
        self.image_embedding = None if config.image_width is None else ImageEmbedding(config.image_width, width)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.num_blocks))
        self.head = Head(width, config.latent_channels * voxels, config.norm_eps)
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
            dtype: of the weights, float32 if not given; time embedding and modulation tables stay float32.
            device: where to put the weights, the CPU if not given.
            local_files_only: never use the network.
        Raises:
            CheckpointError: no such folder; or config or weights incomplete, damaged, not finite, of another model.
        """
        folder = find_folder(path_or_repo_id, subfolder=subfolder, revision=revision, local_files_only=local_files_only)
        model = build_empty(cls, read_config(folder, FSVideoDiTConfig, cls.__name__))
        model.lower_precision(dtype or torch.float32)
        load_weights(model, folder, device=device)
        return model

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write config.json and safetensors; nothing half-written is left behind when it fails."""
        save(self, self.config, Path(directory))

    def lower_precision(self, dtype: torch.dtype) -> None:
        """Cast the weights to `dtype`, except the timestep's embedding and the modulation tables (float32)."""
        for name, parameter in self.named_parameters():
            keep = any(part in name for part in FLOAT32_PARTS)
            parameter.data = parameter.data.to(torch.float32 if keep else dtype)

    def first_frame_condition(
        self, image_latents: Float[Tensor, "b c 1 h w"], num_latent_frames: int
    ) -> Float[Tensor, "b k t h w"]:
        """The `condition` of image-to-video: frame 0 given (mask 1), all later frames zero.

        Raises:
            ValueError: `num_latent_frames` below 1, or latents that are not one frame of `latent_channels` channels.
        """
        if num_latent_frames < 1:
            raise ValueError(f"`num_latent_frames` must be at least 1, got {num_latent_frames}; nearest: 1, 2")
        require_size("image_latents", image_latents, num_axes=5, axis=1, size=self.config.latent_channels)
        require_size("image_latents", image_latents, num_axes=5, axis=2, size=1)
        mask = torch.ones_like(image_latents[:, :1]).expand(-1, self.config.mask_channels, -1, -1, -1)
        first = torch.cat((mask, image_latents), dim=1)
        return F.pad(first, (0, 0, 0, 0, 0, num_latent_frames - 1))

    def refiner_condition(
        self,
        upsampled: Float[Tensor, "b c t h w"],
        image_latents: Float[Tensor, "b c 1 h w"],
        upsampled_image_latents: Float[Tensor, "b c 1 h w"],
    ) -> Float[Tensor, "b k t h w"]:
        """The `condition` of a refiner: frame 0 given (mask 1), then the upsampled frames with the dynamic mask.

        Args:
            upsampled: the small video's latents, upsampled.
            image_latents: of the first frame at this size.
            upsampled_image_latents: of the first frame at the small size, upsampled.
        Raises:
            ValueError: the model is no refiner, or latents that do not fit it or one another.
        """
        if self.config.refiner_mask is None:
            raise ValueError("`refiner_mask` of the model's config is None: it is a base model, not a refiner")
        require_size("upsampled", upsampled, num_axes=5, axis=1, size=self.config.latent_channels)
        batch, channels, _, h, w = upsampled.shape
        require_shape("image_latents", image_latents, (batch, channels, 1, h, w))
        require_shape("upsampled_image_latents", upsampled_image_latents, (batch, channels, 1, h, w))
        condition = refiner_condition(upsampled, image_latents, upsampled_image_latents, self.config.refiner_mask)
        return condition.channels(self.config.mask_channels)

    def rotary_tables(
        self, positions: Float[Tensor, "*blocks 3 nt nh nw"]
    ) -> tuple[Float[Tensor, "*blocks nt nh nw pairs"], Float[Tensor, "*blocks nt nh nw pairs"]]:
        """Cosine and sine of each token's angles, for who computes the blocks elsewhere, as engines do."""
        of_blocks = positions if positions.dim() > SHARED_AXES else positions.unsqueeze(0)
        tables = [self._rotary(of_block) for of_block in of_blocks]
        cos, sin = (
            torch.stack([getattr(table, name) for table in tables]).view(
                *positions.shape[:-4], *positions.shape[-3:], -1
            )
            for name in ("cos", "sin")
        )
        return cos, sin

    def forward(  # noqa: PLR0913  # the inputs of the network; a record would hide them from exporters
        self,
        latents: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, " b"],
        text: Float[Tensor, "b l d"],
        text_mask: Bool[Tensor, "b l"] | None = None,
        *,
        condition: Float[Tensor, "b k t h w"],
        image_tokens: Float[Tensor, "b m e"] | None = None,
        positions: Float[Tensor, "3 nt nh nw"] | Float[Tensor, "blocks 3 nt nh nw"] | None = None,
        attention: AttentionOp = sdpa,
        memory_weights: list[Tensor] | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        """Predict the velocity, noise - clean latents; in the dtype of `latents`, computed in that of the weights.

        Args:
            latents: at noise level sigma, normalised.
            timestep: 1000 sigma.
            text: text-encoder tokens, `config.text_width` wide.
            text_mask: true where a token counts; None: all do (Wan's zero padding included). A row without any true
                token attends to its padding.
            condition: mask, then condition latents; see `first_frame_condition`.
            image_tokens: image-encoder tokens, `config.image_width` wide; required unless that is None.
            positions: coordinates of the tokens along t, h, w, for all blocks or for each its own (DyRoPE of VGDFR);
                None: the integer grid.
            attention: self-attention of every block.
            memory_weights: a list that receives the router weights (`b n states`, float32) of block 1, 2, ...
        Raises:
            ValueError: an input that does not fit the configuration or the other inputs.
        """
        self._check_against_config(latents, text, condition, image_tokens, positions)
        if not torch.compiler.is_compiling():  # a traced graph would keep these as guards on sizes
            self._check_against_latents(latents, timestep, text, text_mask, condition, image_tokens, positions)
        patch_size = self.config.patch_size
        grid = token_grid((latents.shape[2], latents.shape[3], latents.shape[4]), patch_size)
        dtype = self.patch_embedding.weight.dtype
        embedded = self.time_embedding(timestep).to(dtype)
        positions = grid_positions(grid, device=latents.device) if positions is None else positions
        context = BlockContext(
            timestep=rearrange(self.time_projection(F.silu(embedded)), "b (six d) -> b six d", six=6),
            text=self.text_embedding(text.to(dtype)),
            text_mask=None if text_mask is None else key_mask(text_mask),
            image=None if image_tokens is None else self._embed_image(image_tokens.to(dtype)),
            rotary=self._rotary(positions if positions.dim() == SHARED_AXES else positions[0]),
            attention=attention,
        )
        x = self.patch_embedding(patchify(torch.cat((latents.to(dtype), condition.to(dtype)), dim=1), patch_size))
        x = self._run_blocks(x, context, positions, grid, memory_weights)
        predicted = unpatchify(self.head(x, embedded), grid, patch_size)
        if self.config.prediction == "correction":
            given = condition[:, self.config.mask_channels :].float()
            sigma = (timestep.float() / 1000).clamp(min=SMALLEST_SIGMA).view(-1, 1, 1, 1, 1)
            predicted = (latents.float() - given - predicted.float()) / sigma
        return predicted.to(latents.dtype)

    def _run_blocks(
        self,
        x: Tensor,
        context: BlockContext,
        positions: Tensor,
        grid: tuple[int, int, int],
        memory_weights: list[Tensor] | None,
    ) -> Tensor:
        memory = allocate_memory(self.config.num_blocks, x) if self.config.layer_memory else None
        for index, block in enumerate(cast(Iterable[Block], self.blocks)):
            site = AttentionSite(block=index, num_blocks=self.config.num_blocks, grid=grid)
            if positions.dim() > SHARED_AXES:  # one table at a time: all together would outweigh the activations
                context = replace(context, rotary=self._rotary(positions[index]))
            states: States = (x,)
            if memory is not None:
                memory.append(block.memory_entry(x))
                states = memory.states
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x, weights = checkpoint(block, x, states, context, site, use_reentrant=False)
            else:
                x, weights = block(x, states, context, site)
            if memory_weights is not None and weights is not None:
                memory_weights.append(weights)
        return x

    def _embed_image(self, image_tokens: Tensor) -> Tensor:
        assert self.image_embedding is not None  # checked with the inputs
        embedded: Tensor = self.image_embedding(image_tokens)
        return embedded

    def _rotary(self, positions: Tensor) -> RotaryTables:
        return rotary_tables(positions, self.config.width // self.config.num_heads, self.config.rope_theta)

    def _check_against_config(
        self,
        latents: Tensor,
        text: Tensor,
        condition: Tensor,
        image_tokens: Tensor | None,
        positions: Tensor | None,
    ) -> None:
        config = self.config
        require_size("latents", latents, num_axes=5, axis=1, size=config.latent_channels)
        require_size("condition", condition, num_axes=5, axis=1, size=config.condition_channels)
        require_size("text", text, num_axes=3, axis=2, size=config.text_width)
        if (image_tokens is None) != (config.image_width is None):
            need = "is required" if image_tokens is None else "must be None"
            raise ValueError(f"`image_tokens` {need}: the model's `image_width` is {config.image_width}")
        if image_tokens is not None and config.image_width is not None:
            require_size("image_tokens", image_tokens, num_axes=3, axis=2, size=config.image_width)
        if positions is not None:
            per_block = positions.dim() > SHARED_AXES
            require_size("positions", positions, num_axes=SHARED_AXES + per_block, axis=int(per_block), size=3)
            if per_block:
                require_size("positions", positions, num_axes=SHARED_AXES + 1, axis=0, size=config.num_blocks)

    def _check_against_latents(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        text_mask: Tensor | None,
        condition: Tensor,
        image_tokens: Tensor | None,
        positions: Tensor | None,
    ) -> None:
        batch, _, t, h, w = latents.shape
        require_whole_patches(latents, self.config.patch_size)
        require_shape("timestep", timestep, (batch,))
        require_shape("text", text, (batch, *text.shape[1:]))
        require_shape("condition", condition, (batch, condition.shape[1], t, h, w))
        if text_mask is not None:
            require_shape("text_mask", text_mask, (batch, text.shape[1]))
        if image_tokens is not None:
            require_shape("image_tokens", image_tokens, (batch, *image_tokens.shape[1:]))
        if positions is not None:
            grid = token_grid((t, h, w), self.config.patch_size)
            require_shape("positions", positions, (*positions.shape[:-SHARED_AXES], 3, *grid))


def _init_weights(module: nn.Module) -> None:
    """Xavier for every Linear, then N(0, 0.02) in the embeddings of timestep and text (Wan), and the routers' own."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, Block) and module.memory_router is not None:
        init_router_from_scratch(module.memory_router)
    elif isinstance(module, FSVideoDiT):
        for embedding in (module.time_embedding, module.text_embedding):
            nn.init.normal_(embedding.linear_in.weight, std=0.02)
            nn.init.normal_(embedding.linear_out.weight, std=0.02)
        nn.init.zeros_(module.head.linear.weight)
