"""Float32 where lower precision would lose the result."""

import contextlib

import torch


def without_autocast(device_type: str) -> contextlib.AbstractContextManager[object]:
    """Switch autocast off inside; nothing at all when it is off, so that an exported graph holds no trace of it."""
    if device_type != "meta" and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()
