"""The verb `export verify`: an engine beside its model, at the corners of its profiles."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fastvid_export.build import profile_cases
from fastvid_export.commands.device import DeviceFlag, on_device
from fastvid_export.commands.failures import RUN_TIME, failures
from fastvid_export.commands.opened import EngineFolder, EnginePart, ModelFolder, open_both
from fastvid_export.verify import verify as compare


def verify(
    folder: EngineFolder,
    model: ModelFolder,
    part: EnginePart = None,
    device: DeviceFlag = "cpu",
    output: Annotated[Path | None, typer.Option(help="File for the report, as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Compare an engine with the model it was built from; exit code 1 where they differ."""
    with failures(as_json), on_device(device) as place:
        opened = open_both(folder, model, part, place)
        cases = profile_cases(opened.exportable, opened.loaded.record.profiles)
        report = compare(opened.exportable, opened.loaded.engine, cases=cases)
    if output is not None:
        output.write_text(report.to_json(), encoding="utf-8")
    if as_json:
        print(json.dumps(json.loads(report.to_json())))
    else:
        for case in report.cases:
            print(case.describe())
        verdict = "passed" if report.passed else "FAILED"
        print(f"{folder}: {verdict}, {len(report.cases)} comparisons, largest relative error {report.worst or 0:.1e}")
    if not report.passed:
        raise typer.Exit(RUN_TIME)
