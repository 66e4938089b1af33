"""What surrounds every stage of a run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

logger = logging.getLogger(__name__)


@contextmanager
def timed(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Time a stage, log one line, and put its name on what goes wrong in it."""
    start = perf_counter()
    try:
        yield
    except Exception as error:
        error.add_note(f"in stage `{name}`")
        raise
    seconds[name] = perf_counter() - start
    logger.info("%s: %.2f s", name, seconds[name])
