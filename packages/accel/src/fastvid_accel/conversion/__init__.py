"""Weights of other projects as those of the networks here, for `fastvid-cli convert`."""
