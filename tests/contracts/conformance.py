"""What producers give is what consumers ask for. Read by the type checkers, never run."""

import fastvid_accel
import fastvid_accel.interfaces as accel
import fastvid_dit as dit

# accel, for whoever runs the denoising loop
accelerator: accel.Accelerator = fastvid_accel.NoAcceleration()
session: accel.Session = fastvid_accel.NoAcceleration().start(num_steps=4)
composed: accel.Accelerator = fastvid_accel.compose(fastvid_accel.NoAcceleration())

# attention, from accel to dit; where it happens, from dit to accel
attention: dit.AttentionOp = fastvid_accel.NoAcceleration().start(num_steps=4).attention
site: accel.AttentionSite = dit.AttentionSite(block=0, num_blocks=1, grid=(1, 1, 1))
