"""The models of this recipe: variant 4 with few channels."""

from dataclasses import replace

from fastvid_vae import ODVAE_VARIANT_4

SMALL_ODVAE = replace(ODVAE_VARIANT_4, widths=(16, 32, 48, 48), num_blocks=1, norm_groups=8)
TOY_ODVAE = replace(ODVAE_VARIANT_4, widths=(4, 4, 8, 8), num_blocks=1, norm_groups=2)

FIRST_LOGVAR = -6.0
"""Of the image autoencoder's posterior. At 0, where a new network begins, latents would be noise for long."""
