"""Architecture of an FSVideoDiT, and the published sizes. Source: FSVideo, section 2.3; Wan2.1 for the body."""

import math
from dataclasses import dataclass, replace
from typing import Literal

LARGEST_SIZE, MOST_BLOCKS = 1 << 20, 1024
"""Bounds of a configuration: far above any model, and small enough to refuse a hostile one at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinerMask:
    """How the upsampling error becomes the mask of a refiner's condition. Source: FSVideo, section 2.4.2.

    The paper gives a range "narrower than [0, 1]"; its ends and the quantiles are ours.

    Attributes:
        error_low, error_high: errors that map to the ends of the range: the 5 % and 95 % quantiles of training data.
        lowest, highest: the range, inside (0, 1): 0 means that nothing is given, 1 that it is the truth.
        mode: `confidence` gives large errors low values; `error` is the paper taken literally, the mirror image.
        reduce: `none` keeps a value for each place, `mean` gives the whole clip one.
    """

    error_low: float
    error_high: float
    lowest: float = 0.2
    highest: float = 0.8
    mode: Literal["confidence", "error"] = "confidence"
    reduce: Literal["none", "mean"] = "none"

    def __post_init__(self) -> None:
        if not 0 <= self.error_low < self.error_high < math.inf:
            raise ValueError(f"need finite 0 <= `error_low` < `error_high`, got {self.error_low} and {self.error_high}")
        if not 0 < self.lowest < self.highest < 1:
            raise ValueError(f"need 0 < `lowest` < `highest` < 1, got {self.lowest} and {self.highest}")
        if self.mode not in ("confidence", "error"):
            raise ValueError(f"`mode` must be 'confidence' or 'error', got {self.mode!r}")
        if self.reduce not in ("none", "mean"):
            raise ValueError(f"`reduce` must be 'none' or 'mean', got {self.reduce!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FSVideoDiTConfig:
    """Architecture of a `FSVideoDiT`; `FSVIDEO_14B` and `WAN21_I2V_14B` are the published sizes."""

    patch_size: tuple[int, int, int]  # latent voxels per token along t, h, w
    latent_channels: int
    mask_channels: Literal[1, 4]
    width: int
    num_heads: int
    num_blocks: int
    ffn_width: int
    frequency_width: int  # sinusoids of the timestep
    text_width: int
    image_width: int | None  # None: no image tokens
    norm_eps: float  # of the block norms and of the norm on queries and keys
    rope_theta: float
    layer_memory: bool
    memory_norm: Literal["post", "pre"]  # normalise the mix of states, or each state before it is mixed
    refiner_mask: RefinerMask | None = None  # of a refiner; None: a base model
    prediction: Literal["velocity", "correction"] = "velocity"  # what the head's output is; see `FSVideoDiT`

    def __post_init__(self) -> None:
        positive = ("latent_channels", "width", "num_heads", "num_blocks", "ffn_width", "frequency_width", "text_width")
        sizes = {name: getattr(self, name) for name in positive}
        sizes |= {f"patch_size[{axis}]": size for axis, size in enumerate(self.patch_size)}
        if self.image_width is not None:
            sizes["image_width"] = self.image_width
        check_sizes(sizes)
        if len(self.patch_size) != 3:
            raise ValueError(f"`patch_size` must have three entries (t, h, w), got {self.patch_size}")
        step = 2 * self.num_heads
        if self.width % step or self.width < 6 * self.num_heads:
            lower = max(self.width // step * step, 6 * self.num_heads)
            raise ValueError(
                f"`width` must be a multiple of {step} (2 x `num_heads`: RoPE turns channel pairs) and at least "
                f"{6 * self.num_heads} (a pair for each of t, h, w), got {self.width}; nearest legal values: "
                f"{lower}, {lower + step}"
            )
        if self.frequency_width % 2:
            near = self.frequency_width - 1, self.frequency_width + 1
            raise ValueError(f"`frequency_width` must be even, got {self.frequency_width}; nearest: {near}")
        if self.mask_channels not in (1, 4):
            raise ValueError(f"`mask_channels` must be 1 or 4, got {self.mask_channels}")
        if self.memory_norm not in ("post", "pre"):
            raise ValueError(f"`memory_norm` must be 'post' or 'pre', got {self.memory_norm!r}")
        if self.prediction not in ("velocity", "correction"):
            raise ValueError(f"`prediction` must be 'velocity' or 'correction', got {self.prediction!r}")
        if self.prediction == "correction" and self.refiner_mask is None:
            raise ValueError("`prediction` is 'correction', of a refiner's condition; `refiner_mask` is None")
        if not (0 < self.norm_eps < math.inf and 1 < self.rope_theta < math.inf):
            raise ValueError(
                f"need finite `norm_eps` > 0 and `rope_theta` > 1, got {self.norm_eps} and {self.rope_theta}"
            )

    @property
    def condition_channels(self) -> int:
        """Channels of the `condition` argument: mask, then condition latents."""
        return self.mask_channels + self.latent_channels


def check_sizes(sizes: dict[str, int]) -> None:
    """Each, by its name in the configuration, must be a whole number that a model can have."""
    for name, size in sizes.items():
        if type(size) is not int:
            raise ValueError(f"`{name}` must be a whole number, got {size!r}")
        largest = MOST_BLOCKS if name == "num_blocks" else LARGEST_SIZE
        if not 1 <= size <= largest:
            raise ValueError(f"`{name}` must be at least 1 and at most {largest}, got {size}")


FSVIDEO_14B = FSVideoDiTConfig(
    patch_size=(1, 1, 1),
    latent_channels=128,
    mask_channels=4,
    width=5120,
    num_heads=40,
    num_blocks=40,
    ffn_width=13824,
    frequency_width=256,
    text_width=4096,
    image_width=1280,
    norm_eps=1e-6,
    rope_theta=10000.0,
    layer_memory=True,
    memory_norm="post",
)
"""The base model of FSVideo: 16,399,994,547 parameters, 4,194,099 of them in the routers."""

WAN21_I2V_14B = replace(FSVIDEO_14B, patch_size=(1, 2, 2), latent_channels=16, layer_memory=False)
"""Wan2.1-I2V-14B, which FSVideo starts from: 16,394,878,784 parameters."""
