"""What can go wrong on the way to an engine, beside a caller's mistake (`ValueError`) and `verify.ParityError`."""


class ExportError(RuntimeError):
    """The module cannot be turned into a graph for all the sizes asked for."""


class BuildError(RuntimeError):
    """No engine could be built; nothing was installed."""


class EngineError(RuntimeError):
    """The engine could not be loaded, or refused to run."""
