"""fastvid-accel: training-free acceleration of video diffusion transformers, from outside the model."""

from fastvid_accel.asymrnr.accelerator import AsymRnR
from fastvid_accel.asymrnr.calibration import Calibrator
from fastvid_accel.asymrnr.config import AsymRnRConfig
from fastvid_accel.asymrnr.similarity import SimilarityTable
from fastvid_accel.compose import Composition, compose
from fastvid_accel.no_acceleration import NoAcceleration
from fastvid_accel.vgdfr.accelerator import VGDFR
from fastvid_accel.vgdfr.config import VGDFRConfig

__all__ = [
    "VGDFR",
    "AsymRnR",
    "AsymRnRConfig",
    "Calibrator",
    "Composition",
    "NoAcceleration",
    "SimilarityTable",
    "VGDFRConfig",
    "compose",
]
