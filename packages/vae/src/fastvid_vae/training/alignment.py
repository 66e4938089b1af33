"""Video VF loss: latents that resemble a vision model's features are easier to generate. FSVideo, section 2.2.2."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

COSINE_MARGIN, DISTANCE_MARGIN, WEIGHT = 0.5, 0.25, 0.5
"""m_1, m_2 and alpha of equations 2 to 4."""


class VideoVFLoss(nn.Module):
    """alpha (L_v-mcos + L_v-mdms), with the linear map W from latent to feature channels, which is trained along.

    The paper does not say whether W has a bias (here: none) nor how it interpolates (here: bilinearly, each frame).
    """

    def __init__(self, latent_channels: int, feature_channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(latent_channels, feature_channels, bias=False)

    def forward(self, latents: Float[Tensor, "b c t h w"], features: Float[Tensor, "b f T h2 w2"]) -> Float[Tensor, ""]:
        """The loss; the gradient goes to `latents` and to the map.

        Args:
            latents: raw, from the encoder.
            features: of every frame, from a frozen vision model such as DINOv2 (patch tokens after its last norm, of
                frames resized so that there are about 16 x 16). The loss compares all pairs of places, so memory grows
                with the square of t h2 w2: 1,280 for 17 frames, 20,736 for 61 frames at 36 x 36.
        Raises:
            ValueError: the number of frames is not that of the latents.
        """
        aligned_latents, aligned_features = self.align(latents, features.detach())
        loss = marginal_cosine_loss(aligned_latents, aligned_features)
        return WEIGHT * (loss + marginal_distance_loss(aligned_latents, aligned_features))

    def align(
        self, latents: Float[Tensor, "b c t h w"], features: Float[Tensor, "b f T h2 w2"]
    ) -> tuple[Float[Tensor, "b n f"], Float[Tensor, "b n f"]]:
        """Unit vectors at the same n = t h2 w2 places."""
        height, width = features.shape[3:]
        z = self.project(rearrange(latents, "b c t h w -> b t h w c"))
        frames = rearrange(z, "b t h w f -> (b t) f h w")
        frames = functional.interpolate(frames, (height, width), mode="bilinear", align_corners=False)
        z = rearrange(frames, "(b t) f h w -> b (t h w) f", b=latents.shape[0])
        f = rearrange(pool_time(features, latents.shape[2]), "b f t h w -> b (t h w) f")
        return functional.normalize(z.float(), dim=2), functional.normalize(f.float(), dim=2)


def pool_time(features: Float[Tensor, "b f T h w"], num_latents: int) -> Float[Tensor, "b f t h w"]:
    """Frame 0 as it is, then means of as many frames as a latent holds."""
    later = features.shape[2] - 1
    if num_latents < 1 or (later and (num_latents < 2 or later % (num_latents - 1))) or (not later and num_latents > 1):
        raise ValueError(
            f"`features` has {later + 1} frames for {num_latents} latents; expected 1 + k ({num_latents} - 1)"
        )
    if not later:
        return features
    pooled = rearrange(features[:, :, 1:], "b f (t k) h w -> b f t k h w", t=num_latents - 1).mean(dim=3)
    return torch.cat([features[:, :, :1], pooled], dim=2)


def marginal_cosine_loss(z: Float[Tensor, "b n f"], f: Float[Tensor, "b n f"]) -> Float[Tensor, ""]:
    """Equation 2, from unit vectors: the mean of ReLU(1 - m_1 - cos)."""
    return functional.relu(1 - COSINE_MARGIN - (z * f).sum(dim=2)).mean()


def marginal_distance_loss(z: Float[Tensor, "b n f"], f: Float[Tensor, "b n f"]) -> Float[Tensor, ""]:
    """Equation 3, from unit vectors: the mean over all pairs of places of ReLU(|cos z - cos f| - m_2)."""
    difference = torch.einsum("bpf,bqf->bpq", z, z) - torch.einsum("bpf,bqf->bpq", f, f)
    return functional.relu(difference.abs() - DISTANCE_MARGIN).mean()
