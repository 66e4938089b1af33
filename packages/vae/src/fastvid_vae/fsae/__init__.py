"""FSAE, the video autoencoder of FSVideo (section 2.2)."""
