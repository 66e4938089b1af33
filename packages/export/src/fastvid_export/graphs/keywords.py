"""Inputs of graphs whose number differs from model to model."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

Result = TypeVar("Result")


def with_keywords(function: Callable[..., Result], names: Sequence[str]) -> Callable[..., Result]:
    """The function, with keyword arguments of these names in its signature instead of any.

    Tracers read the inputs of a module off its signature, and torch loses those of `**any`.
    """
    signature = inspect.signature(function)
    fixed = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    named = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    signed = partial(function)  # a copy of the module copies this too, and binds it to the copy
    signed.__signature__ = signature.replace(parameters=[*fixed, *named])  # type: ignore[attr-defined]
    return signed
