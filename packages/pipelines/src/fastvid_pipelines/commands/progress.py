"""The progress bar over the steps of a run."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fastvid_pipelines.stages.walk import StepCallback
from fastvid_pipelines.types import LatentVideo, Step


@contextmanager
def step_progress() -> Iterator[StepCallback]:
    """A bar over the steps on a terminal, which begins again for the refiner; elsewhere the log's lines tell."""
    columns = (TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("steps", total=None)

        def on_step_end(step: Step, video: LatentVideo) -> None:
            progress.update(task, completed=step.index + 1, total=step.num_steps)

        yield on_step_end
