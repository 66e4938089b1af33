"""Learning rate over a run, as a pure function of the step."""

import math


def warmup_cosine(step: int, *, num_steps: int, warmup_steps: int, final_ratio: float) -> float:
    """Factor on the base rate: linear from 1 / warmup_steps to 1, then half a cosine from 1 to `final_ratio`."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = min((step - warmup_steps) / max(num_steps - warmup_steps, 1), 1.0)
    return final_ratio + (1 - final_ratio) * 0.5 * (1 + math.cos(math.pi * done))
