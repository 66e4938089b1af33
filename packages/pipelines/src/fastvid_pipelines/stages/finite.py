"""The guard behind every stage."""

from torch import Tensor

from fastvid_pipelines.errors import NonFiniteError
from fastvid_pipelines.types import Step


def check_finite(stage: str, values: Tensor, step: Step | None = None) -> None:
    """Stop a run as soon as a value is NaN or infinite, so that no black video is ever written."""
    if values.isfinite().all():
        return
    count = int((~values.isfinite()).sum())
    where = f"stage `{stage}`"
    if step is not None:
        where += f", step {step.index} of {step.num_steps} (sigma {step.sigma:.4f})"
    raise NonFiniteError(
        f"{where}: {count} of {values.numel()} values are NaN or infinite; the weights may be damaged, or the numbers "
        "leave the range of the data type (try float32)"
    )
