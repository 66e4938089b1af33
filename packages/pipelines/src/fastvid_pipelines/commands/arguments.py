"""Checks of what several verbs take."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from fastvid_pipelines.outputs import check_writable

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@contextmanager
def named_as_typed(flags: Mapping[str, str]) -> Iterator[None]:
    """Let the message of a `ValueError` name the flag that was typed, not the argument that it became."""
    try:
        yield
    except ValueError as error:
        error.args = (re.sub(r"`(\w+)`", lambda name: f"`{flags.get(name[1], name[1])}`", str(error)),)
        raise


def output_files(output: Path, source: Path) -> tuple[Path, Path, Path]:
    """The mp4, the sidecar and the contact sheet; none of them may be the input.

    Raises:
        ValueError: another ending, no folder to write to, or a file that would overwrite the input.
    """
    if output.suffix.lower() != ".mp4":
        raise ValueError(f"`output` is {str(output)!r}; expected a name that ends in .mp4")
    check_writable("output", output)
    names = (output, output.with_suffix(".json"), output.with_suffix(".png"))
    for name in names:
        check_writable("output", name)
        if name.resolve() == source.resolve():
            raise ValueError(f"`output` is {str(output)!r}: {name.name} would overwrite the input; name another file")
    return names


def parse_device(device: str) -> torch.device:
    """A device that is here.

    Raises:
        ValueError: no device of that name.
    """
    try:
        parsed = torch.device(device)
        torch.empty(0, device=parsed)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        devices = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise ValueError(
            f"`device` is {device!r}, which cannot be used here; available: {', '.join(devices)}"
        ) from error
    if parsed.type == "meta":
        raise ValueError("`device` is 'meta', which holds no numbers; expected cpu or cuda")
    return parsed


def parse_dtype(dtype: str) -> torch.dtype:
    """A data type by name.

    Raises:
        ValueError: another name.
    """
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` is {dtype!r}; expected one of {', '.join(DTYPES)}")
    return DTYPES[dtype]
