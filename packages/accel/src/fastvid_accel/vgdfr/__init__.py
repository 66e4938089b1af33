"""VGDFR: Diffusion-based Video Generation with Dynamic Latent Frame Rate (arXiv 2504.12259)."""
