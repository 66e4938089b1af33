"""Layers that two or more of the autoencoders share, or that one model is built from."""
