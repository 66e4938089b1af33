"""The convolution block of DC-AE, inflated to 3-D."""

from torch import Tensor, nn
from torch.nn import functional

from fastvid_vae.layers.noise import Noise
from fastvid_vae.layers.norm import PixelNorm
from fastvid_vae.layers.stream import Stream
from fastvid_vae.layers.temporal_conv import ConvBuilder


class ResBlock(nn.Module):
    """conv, SiLU, conv, pixel norm, added to the input. Source: DC-AE (post-norm branch), FSVideo section 2.2."""

    def __init__(self, channels: int, *, conv: ConvBuilder, affine_norm: bool) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.conv2 = conv(channels, channels, bias=False)
        self.norm = PixelNorm(channels, affine=affine_norm)

    def forward(self, x: Tensor, stream: Stream, noise: Noise) -> Tensor:
        branch = functional.silu(noise.add(self.conv1(x, stream)))
        branch = noise.add(self.conv2(branch, stream))
        out: Tensor = x + self.norm(branch)
        return out
