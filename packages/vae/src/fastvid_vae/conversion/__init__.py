"""Weights of other models, and of one decoder mode, as weights of ours: pure functions on state dicts."""
