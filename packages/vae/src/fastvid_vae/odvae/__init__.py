"""OD-VAE, the causal 3-D convolutional autoencoder of Open-Sora-Plan."""
