"""Where a pipeline computes, and in what."""

from typing import Any

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def usable_device(device: Any) -> torch.device:
    """A device that is here.

    Raises:
        ValueError: no device of that name.
    """
    try:
        parsed = torch.device(device)
        torch.empty(0, device=parsed)
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:  # torch without the device's part: any
        devices = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise ValueError(
            f"`device` is {str(device)!r}, which cannot be used here; available: {', '.join(devices)}"
        ) from error
    if parsed.type == "meta":
        raise ValueError("`device` is 'meta', which holds no numbers; expected cpu or cuda")
    return parsed


def usable_dtype(dtype: object) -> torch.dtype:
    """A data type that the parts compute in.

    Raises:
        ValueError: another one, or none at all.
    """
    for known in DTYPES.values():
        if dtype is known:
            return known
    raise ValueError(f"`dtype` is {dtype!r}; expected one of {', '.join(map(str, DTYPES.values()))}")
