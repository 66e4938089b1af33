"""A video that is there already to latents."""

from jaxtyping import Float
from torch import Tensor

from fastvid_pipelines.interfaces import Autoencoder
from fastvid_pipelines.stages.denoise import token_positions
from fastvid_pipelines.stages.finite import check_finite
from fastvid_pipelines.types import LatentVideo


def encode_video(
    autoencoder: Autoencoder, frames: Float[Tensor, "b 3 T H W"], patch_size: tuple[int, int, int]
) -> LatentVideo:
    """Encode frames in [-1, 1]; `patch_size` is that of the transformer whose tokens get positions."""
    latents = autoencoder.encode(frames)
    check_finite("encode_video", latents)
    return LatentVideo(latents=latents.float(), positions=token_positions(latents, patch_size))
