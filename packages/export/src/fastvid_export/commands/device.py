"""The flag --device: where the model lies, and on which GPU an engine is built and run."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import torch
import typer

DeviceFlag = Annotated[str, typer.Option(help="Where the model lies and an engine of a GPU runs: cpu, cuda or cuda:1.")]


@contextmanager
def on_device(text: str) -> Iterator[torch.device]:
    """The device; a GPU is torch's current one inside, which backends build for and run on.

    Raises:
        ValueError: no device, or a GPU that is not here.
    """
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", text)
    if match is None:
        raise ValueError(f"`device` is {text!r}; expected cpu, cuda or the number of a GPU, such as cuda:1")
    if text == "cpu":
        yield torch.device("cpu")
        return
    number, found = int(match[1] or 0), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if number >= found:
        others = ", ".join(["cpu", *(f"cuda:{index}" for index in range(found))])
        raise ValueError(f"`device` is {text!r}, and torch {torch.__version__} finds no such GPU here; legal: {others}")
    with torch.cuda.device(number):
        yield torch.device("cuda", number)
