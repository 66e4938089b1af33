"""Architecture of a ReducioDiT, and the published size. Source: Reducio, section 3.2; PixArt-alpha for the body."""

import math
from dataclasses import dataclass
from typing import Literal

from fastvid_dit.config import check_sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentFrameConfig:
    """How the content frame becomes condition tokens. Source: Reducio, equation 3.

    Attributes:
        semantic_width: of the tokens of the image encoder.
        semantic_grid: rows and columns of those tokens; they cover the whole frame, whatever its aspect ratio.
        content_channels: of the frame's latents, from an image autoencoder.
        content_patch: rows and columns of these latents that make one token.
        fusion: `add` gives each content token the semantic one of its place; `concat` keeps them apart, the paper's
            "other condition tokens" read literally.
        num_grids: 1 shows every block all content tokens; 4 divides them into four grids, each of them every other row
            and column, which the blocks read in turn: for high resolution.
    """

    semantic_width: int
    semantic_grid: tuple[int, int]
    content_channels: int
    content_patch: int
    fusion: Literal["add", "concat"]
    num_grids: Literal[1, 4]

    def __post_init__(self) -> None:
        if len(self.semantic_grid) != 2:
            raise ValueError(f"`semantic_grid` must have two entries (rows, columns), got {self.semantic_grid}")
        sizes = {name: getattr(self, name) for name in ("semantic_width", "content_channels", "content_patch")}
        sizes |= {f"semantic_grid[{axis}]": size for axis, size in enumerate(self.semantic_grid)}
        check_sizes(sizes)
        if self.fusion not in ("add", "concat"):
            raise ValueError(f"`fusion` must be 'add' or 'concat', got {self.fusion!r}")
        if self.num_grids not in (1, 4):
            raise ValueError(f"`num_grids` must be 1 or 4, got {self.num_grids}")

    @property
    def semantic_tokens(self) -> int:
        """How many tokens the image encoder gives."""
        return self.semantic_grid[0] * self.semantic_grid[1]

    @property
    def content_step(self) -> int:
        """Rows and columns of the frame's latents come in multiples of this."""
        return self.content_patch * (1 if self.num_grids == 1 else 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReducioDiTConfig:
    """Architecture of a `ReducioDiT`; `REDUCIO_DIT_XL` is the published size.

    Attributes:
        patch_size: latent voxels per token along t, h, w.
        learn_sigma: predict the range of the variance as well, in as many channels again.
        frequency_width: sinusoids of the timestep, and of the video's size.
        content_frame: None: no image condition.
        size_embedding: be told the video's height, width and aspect ratio.
        temporal_blocks: "2D + 1D": attention within each frame, and after each block one along time.
        position_span: what the positions of a frame's rows and columns are scaled to, at any size: that of the image
            model whose weights are taken over, see `conversion.pixart_official.position_span`.
        learn_time_scale: multiply the time's part of the positions by one more parameter, which begins at 0.
    """

    patch_size: tuple[int, int, int]
    latent_channels: int
    learn_sigma: bool
    width: int
    num_heads: int
    num_blocks: int
    ffn_width: int
    frequency_width: int
    text_width: int
    content_frame: ContentFrameConfig | None
    size_embedding: bool
    temporal_blocks: bool
    position_span: float
    learn_time_scale: bool
    norm_eps: float

    def __post_init__(self) -> None:
        if len(self.patch_size) != 3:
            raise ValueError(f"`patch_size` must have three entries (t, h, w), got {self.patch_size}")
        positive = ("latent_channels", "width", "num_heads", "num_blocks", "ffn_width", "frequency_width", "text_width")
        sizes = {name: getattr(self, name) for name in positive}
        check_sizes(sizes | {f"patch_size[{axis}]": size for axis, size in enumerate(self.patch_size)})
        step = math.lcm(4, self.num_heads, 3 if self.size_embedding else 1)
        if self.width % step:
            lower = max(self.width // step, 1) * step
            thirds = ", 3: height, width and aspect ratio get a third each" if self.size_embedding else ""
            raise ValueError(
                f"`width` must be a multiple of {step} (of `num_heads`; of 4: sines and cosines of two axes{thirds}), "
                f"got {self.width}; nearest legal values: {lower}, {lower + step}"
            )
        if self.frequency_width % 2:
            near = self.frequency_width - 1, self.frequency_width + 1
            raise ValueError(f"`frequency_width` must be even, got {self.frequency_width}; nearest: {near}")
        if not (0 < self.norm_eps < math.inf and 0 < self.position_span < math.inf):
            raise ValueError(
                f"need finite `norm_eps` > 0 and `position_span` > 0, got {self.norm_eps} and {self.position_span}"
            )

    @property
    def out_channels(self) -> int:
        """Channels of the prediction: the noise's, then (with `learn_sigma`) the variance's."""
        return self.latent_channels * (2 if self.learn_sigma else 1)


REDUCIO_DIT_XL = ReducioDiTConfig(
    patch_size=(1, 1, 1),
    latent_channels=16,
    learn_sigma=False,
    width=1152,
    num_heads=16,
    num_blocks=28,
    ffn_width=4608,
    frequency_width=256,
    text_width=4096,
    content_frame=ContentFrameConfig(
        semantic_width=1280,
        semantic_grid=(16, 16),
        content_channels=4,
        content_patch=2,
        fusion="add",
        num_grids=1,
    ),
    size_embedding=True,
    temporal_blocks=False,
    position_span=16.0,
    learn_time_scale=False,
    norm_eps=1e-6,
)
"""Reducio-DiT for 256 and 512 pixels; `num_grids=4` makes it that for 1024.

611,330,704 parameters, and 4,151,808 that embed the content frame; `temporal_blocks` adds 446,390,784. The span of the
positions is that of PixArt-alpha's training at 256 pixels.
"""
