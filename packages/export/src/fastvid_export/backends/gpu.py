"""The GPU that engines are built on and run on: torch's current one."""

import torch


def this_gpu() -> tuple[str, str] | None:
    """Compute capability and name of torch's current GPU, such as `sm90` and `NVIDIA H200`; None: there is none."""
    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return f"sm{major}{minor}", torch.cuda.get_device_name()


def current_gpu() -> torch.device:
    """That GPU, by its number."""
    return torch.device("cuda", torch.cuda.current_device())
