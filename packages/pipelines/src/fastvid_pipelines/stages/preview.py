"""The autoencoder as an accelerator sees it, while a video is being made."""

from dataclasses import dataclass, replace
from typing import Self

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from fastvid_pipelines.interfaces import FrameCodec


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewCodec:
    """Latents of one video to its frames and back; what is decoded with its reference frame."""

    autoencoder: FrameCodec
    reference: Float[Tensor, "b 3 H W"]

    @property
    def temporal_stride(self) -> int:
        """Frames a latent, but for the first."""
        return self.autoencoder.stride[0]

    def decode(self, latents: Float[Tensor, "b c t h w"], /) -> Float[Tensor, "b 3 T H W"]:
        """All frames that the latents hold, float32."""
        height, width = self.reference.shape[-2:]
        reference = self.reference if self.autoencoder.takes_reference else None
        frames = self.autoencoder.decode(latents.to(self.reference.dtype), reference=reference, size=(height, width))
        return frames.float()

    def encode(self, frames: Float[Tensor, "b 3 T H W"], /) -> Float[Tensor, "b c t h w"]:
        """Their latents, float32."""
        return self.autoencoder.encode(frames.to(self.reference.dtype)).float()

    def truncated(self, stages: int, /) -> Self:
        """The same with so many stages of the autoencoder left out: frames half as high and wide for each.

        Raises:
            ValueError: an autoencoder that cannot, or has not so many.
        """
        autoencoder = self.autoencoder.truncated(stages=stages)
        scale = self.autoencoder.stride[1] // autoencoder.stride[1]
        height, width = (-(-side // scale) for side in self.reference.shape[-2:])
        reference = functional.interpolate(self.reference, size=(height, width), mode="area")
        return replace(self, autoencoder=autoencoder, reference=reference)
