"""The verb `export` of fastvid-cli, found through the entry point group `fastvid.command`; needs the extra `cli`.

It has verbs of its own, each in a file of `commands/`.
"""

import typer

from fastvid_export.commands.bench import bench
from fastvid_export.commands.build import build
from fastvid_export.commands.inspect import inspect
from fastvid_export.commands.onnx import onnx
from fastvid_export.commands.verify import verify

export = typer.Typer(
    name="export",
    help="Turn parts of a model into graphs and engines, and look at them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in (onnx, build, verify, bench, inspect):
    export.command()(verb)


@export.callback()
def callback() -> None:
    """Turn parts of a model into graphs and engines, and look at them."""
