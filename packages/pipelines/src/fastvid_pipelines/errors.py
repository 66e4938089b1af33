"""Errors that callers tell apart; every other mistake of a caller is a plain `ValueError`."""


class CheckpointError(ValueError):
    """A model folder that is incomplete, damaged or of another model."""


class NonFiniteError(ValueError):
    """A stage produced NaN or infinity; the message names the stage, and the step where there is one."""


class MissingPackageError(ImportError):
    """A part that is not installed; the message holds the line that installs it."""


def reducio_package_missing(package: str, what: str) -> MissingPackageError:
    """The error where `what` needs a package that the extra `reducio` brings."""
    return MissingPackageError(
        f"{what} needs {package}, which is not installed; install it with: pip install 'fastvid-pipelines[reducio]'"
    )


class GenerationCancelled(Exception):  # noqa: N818  # a wish, not an error
    """Raise it in `callback_on_step_end` to stop a run; it comes out of the pipeline as it is, nothing is written."""
