"""OpenCLIP's image encoder as Reducio-DiT reads it: the patch tokens after the last norm, without the class token."""

import os
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any, Self

import torch
from jaxtyping import Float
from pydantic import ConfigDict, with_config
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from fastvid_pipelines import checkpoint
from fastvid_pipelines.encoders.clip_pixels import clip_pixels
from fastvid_pipelines.errors import CheckpointError, reducio_package_missing
from fastvid_pipelines.types import check_count

LOADING_ERRORS = (OSError, RuntimeError, ValueError, KeyError, UnpicklingError, SafetensorError)
"""What open_clip, torch and the hub's client raise: unknown names, damaged files, no network."""


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCLIPConfig:
    """A plain vision transformer of OpenCLIP; `OPEN_CLIP_VIT_H_14` is the one that Reducio uses.

    Attributes:
        projection_width: of the pooled vector, which is not used; its weights belong to the tower.
    """

    image_size: int
    patch_size: int
    width: int
    num_layers: int
    num_heads: int
    ffn_width: int
    projection_width: int

    def __post_init__(self) -> None:
        for name in self.__slots__:
            check_count(name, getattr(self, name), 1, 65536)
        for name, whole, part in (
            ("patch_size", self.image_size, self.patch_size),
            ("num_heads", self.width, self.num_heads),
        ):
            if whole % part:
                raise ValueError(f"`{name}` is {part}; expected a divisor of {whole}")


OPEN_CLIP_VIT_H_14 = OpenCLIPConfig(
    image_size=224, patch_size=14, width=1280, num_layers=32, num_heads=16, ffn_width=5120, projection_width=1024
)
"""632,076,800 parameters; its tokens are 16 x 16, 1280 wide."""


class OpenCLIPImageEncoder(nn.Module):
    """The vision tower of an OpenCLIP; for Reducio ViT-H-14, trained as laion2b_s32b_b79k."""

    def __init__(self, config: OpenCLIPConfig) -> None:
        """Build it with random weights.

        Raises:
            MissingPackageError: open_clip_torch is not installed.
        """
        super().__init__()
        self.config = config
        self.visual = _open_clip().transformer.VisionTransformer(
            image_size=config.image_size,
            patch_size=config.patch_size,
            width=config.width,
            layers=config.num_layers,
            heads=config.num_heads,
            mlp_ratio=config.ffn_width / config.width,
            output_dim=config.projection_width,
            output_tokens=True,
        )

    def encode(self, image: Float[Tensor, "b 3 H W"], /) -> Float[Tensor, "b m e"]:
        """Tokens of pictures in [-1, 1], row by row: the whole picture squashed to a square, normalised.

        Source: Reducio, section 3.2; the released extract_latent.py for size, norm and tokens.
        """
        square = squash(image.float(), self.config.image_size)
        weight = self.visual.conv1.weight
        tokens: Tensor = self.visual(clip_pixels(square).to(weight.device, weight.dtype))[1]
        return tokens

    @classmethod
    def from_open_clip(
        cls,
        name: str = "ViT-H-14",
        pretrained: str | os.PathLike[str] | None = "laion2b_s32b_b79k",
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Self:
        """Take the vision tower out of a model as open_clip loads it.

        Args:
            name: of an architecture; or `hf-hub:owner/name` or `local-dir:folder`, with `pretrained` None.
            pretrained: a file of weights, or the name of published ones, which are fetched from the hub.
            dtype: of the weights; None: float32.
        Raises:
            CheckpointError: the weights cannot be reached or read, or the model is no plain vision transformer.
            MissingPackageError: open_clip_torch is not installed.
        """
        library = _open_clip()
        weights = None if pretrained is None else os.fspath(pretrained)
        where = f"`name` is {name!r}, `pretrained` {weights!r}"
        try:
            visual = library.create_model(name, pretrained=weights, require_pretrained=True).visual
        except LOADING_ERRORS as error:
            if "DefaultCPUAllocator" in str(error) or isinstance(error, torch.OutOfMemoryError):
                raise
            raise CheckpointError(
                f"{where}: no such weights here, not found on the hub, or not reachable: {error}"
            ) from error
        with torch.device("meta"):
            encoder = cls(_config_of(visual, where))
        state = visual.state_dict()
        expected = {key: tensor.shape for key, tensor in encoder.visual.state_dict().items()}
        if expected != {key: tensor.shape for key, tensor in state.items()}:
            raise CheckpointError(f"{where}: this is no plain vision transformer with a class token and learned places")
        encoder.visual.load_state_dict(state, assign=True)
        return encoder.to(device or "cpu", dtype or torch.float32).eval().requires_grad_(False)

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
        """Read a folder that `save_pretrained` wrote, here or on the hub.

        Args:
            dtype: of the weights; None: float32.
        Raises:
            CheckpointError: a key of the configuration or a tensor is missing, unknown, misshapen or not finite.
            MissingPackageError: open_clip_torch is not installed.
        """
        folder = checkpoint.find_folder(
            path_or_repo_id, subfolder=subfolder, revision=revision, local_files_only=local_files_only
        )
        config = checkpoint.read_config(folder, OpenCLIPConfig, cls.__name__)
        with torch.device("meta"):
            encoder = cls(config)
        checkpoint.load_weights(encoder.to(dtype or torch.float32), folder, device=device)
        return encoder.eval()

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write config.json and model.safetensors into a new folder, which appears whole or not at all."""
        checkpoint.save(self, self.config, directory)


def squash(image: Float[Tensor, "b 3 H W"], size: int) -> Float[Tensor, "b 3 size size"]:
    """The whole picture as a square: bicubic between the corners' centres, blurred first where it shrinks.

    Source: kornia's `resize` with `align_corners` and `antialias`, as the released extract_latent.py calls it.
    """
    shrinks = [side / size for side in image.shape[-2:]]
    if max(shrinks) > 1:
        for axis, shrink in zip((-2, -1), shrinks, strict=True):
            image = _blur(image, max((shrink - 1) / 2, 0.001), axis)
    return functional.interpolate(image, size=(size, size), mode="bicubic", align_corners=True)


def _blur(image: Tensor, sigma: float, axis: int) -> Tensor:
    """A Gaussian of two sigma to each side, at least three pixels in all; the border reflects."""
    length = int(max(4 * sigma, 3)) // 2 * 2 + 1
    radius = min(length // 2, image.shape[axis] - 1)  # a reflection is no longer than the side
    places = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    weights = torch.exp(-(places**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    rows = axis == -2
    padded = functional.pad(image, (0, 0, radius, radius) if rows else (radius, radius, 0, 0), mode="reflect")
    kernel = weights.view(1, 1, -1, 1) if rows else weights.view(1, 1, 1, -1)
    return functional.conv2d(padded, kernel.expand(image.shape[1], 1, -1, -1), groups=image.shape[1])


def _config_of(visual: Any, where: str) -> OpenCLIPConfig:
    try:
        block = visual.transformer.resblocks[0]
        if type(block.mlp.gelu) is not nn.GELU or visual.pool_type != "tok" or visual.final_ln_after_pool:
            raise AttributeError("another activation or pooling")
        return OpenCLIPConfig(
            image_size=int(visual.image_size[0]),
            patch_size=int(visual.patch_size[0]),
            width=int(visual.conv1.out_channels),
            num_layers=len(visual.transformer.resblocks),
            num_heads=int(block.attn.num_heads),
            ffn_width=int(block.mlp.c_fc.out_features),
            projection_width=int(visual.proj.shape[1]),
        )
    except (AttributeError, TypeError) as error:
        raise CheckpointError(f"{where}: this is no plain vision transformer: {error}") from error


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise reducio_package_missing("open_clip_torch", "OpenCLIPImageEncoder") from error
    return open_clip
