"""What producers give is what consumers ask for. Read by the type checkers, never run."""

import fastvid_accel.interfaces as accel
import fastvid_dit as dit
from fastvid_accel import NoAcceleration
from fastvid_dit.attention import sdpa

accelerator: accel.Accelerator = NoAcceleration()
session: accel.Session = NoAcceleration().start(num_steps=4)
