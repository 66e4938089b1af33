"""The end of a transformer: a norm that the timestep modulates, and the projection to the voxels of each token."""

from jaxtyping import Float
from torch import Tensor, nn

from fastvid_dit.layers import LayerNorm
from fastvid_dit.modulation import Modulation, modulate


class Head(nn.Module):
    """Modulated norm and projection to the prediction for each voxel of a patch."""

    def __init__(self, width: int, out_channels: int, eps: float) -> None:
        super().__init__()
        self.modulation = Modulation(2, width)
        self.norm = LayerNorm(width, eps, affine=False)
        self.linear = nn.Linear(width, out_channels)

    def forward(self, x: Float[Tensor, "b n d"], timestep: Float[Tensor, "b d"]) -> Float[Tensor, "b n p"]:
        shift, scale = self.modulation(timestep.unsqueeze(1))
        out: Tensor = self.linear(modulate(self.norm(x), shift, scale).to(x.dtype))
        return out
