"""Reducio-DiT, the diffusion transformer of Reducio (section 3.2)."""
