"""Training of the transformers; inference never imports it."""

from fastvid_dit.training.ema import MovingAverage
from fastvid_dit.training.trainer import Batch, NullText, StepReport, Trainer, TrainerConfig, velocity_loss

__all__ = ["Batch", "MovingAverage", "NullText", "StepReport", "Trainer", "TrainerConfig", "velocity_loss"]
