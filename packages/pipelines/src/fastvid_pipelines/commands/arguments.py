"""Checks of what several verbs take."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from fastvid_pipelines.outputs import check_writable
from fastvid_pipelines.placement import DTYPES
from fastvid_pipelines.video_io import check_mp4_name


@contextmanager
def named_as_typed(flags: Mapping[str, str]) -> Iterator[None]:
    """Let the message of a `ValueError` name the flag that was typed, not the argument that it became."""
    try:
        yield
    except ValueError as error:
        error.args = (re.sub(r"`(\w+)`", lambda name: f"`{flags.get(name[1], name[1])}`", str(error)),)
        raise


def output_files(output: Path, source: Path | None) -> tuple[Path, Path, Path]:
    """The mp4, the sidecar and the contact sheet; none of them may be the input.

    Raises:
        ValueError: another ending, no folder to write to, or a file that would overwrite the input.
    """
    check_mp4_name("output", output)
    names = (output, output.with_suffix(".json"), output.with_suffix(".png"))
    for name in names:
        check_writable("output", name)
        if source is not None and name.resolve() == source.resolve():
            raise ValueError(f"`output` is {str(output)!r}: {name.name} would overwrite the input; name another file")
    return names


def parse_dtype(dtype: str) -> torch.dtype:
    """A data type by name.

    Raises:
        ValueError: another name.
    """
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` is {dtype!r}; expected one of {', '.join(DTYPES)}")
    return DTYPES[dtype]
