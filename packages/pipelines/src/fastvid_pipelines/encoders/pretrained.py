"""Reading models of transformers and diffusers strictly: safetensors only, no remote code, nothing left to chance."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from fastvid_pipelines.errors import CheckpointError

REPORTED = ("missing_keys", "unexpected_keys", "mismatched_keys")


def load_pretrained(
    model_class: Any,
    path_or_repo_id: str | Path,
    *,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
    **hub: Any,
) -> Any:
    """A model of `model_class`, in evaluation mode.

    Args:
        dtype: of the weights; None: float32.
        hub: `subfolder`, `revision`, `local_files_only`, as transformers names them.
    Raises:
        CheckpointError: the folder is missing or damaged, or its tensors are not those of the model.
    """
    try:
        model, report = model_class.from_pretrained(
            path_or_repo_id,
            use_safetensors=True,
            dtype=dtype or torch.float32,
            ignore_mismatched_sizes=True,  # they are reported, and refused below
            output_loading_info=True,
            **hub,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"`path_or_repo_id` is {str(path_or_repo_id)!r}: {error}") from error
    check_report(model, report, path_or_repo_id)
    return model.to(device or "cpu").eval()


def check_report(model: Any, report: Any, path_or_repo_id: str | Path) -> None:
    """Refuse a model whose weights are not exactly those of the folder, or not finite.

    Args:
        report: what was missing, unexpected and misshapen, as transformers and diffusers tell.
    Raises:
        CheckpointError: they are not.
    """
    faults = [f"{kind}: {', '.join(sorted(map(str, report[kind]))[:10])}" for kind in REPORTED if report[kind]]
    damaged = [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    if damaged:
        faults.append(f"NaN or infinity in {', '.join(damaged[:10])}")
    if faults:
        raise CheckpointError(f"`path_or_repo_id` is {str(path_or_repo_id)!r}: {'; '.join(faults)}")
