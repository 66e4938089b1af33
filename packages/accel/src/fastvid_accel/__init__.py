"""fastvid-accel: training-free acceleration of video diffusion transformers, from outside the model."""

from fastvid_accel.compose import Composition, compose
from fastvid_accel.no_acceleration import NoAcceleration

__all__ = ["Composition", "NoAcceleration", "compose"]
