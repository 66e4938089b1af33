"""The plan of the full-size model against the figures of the paper's setting."""

import json

import pytest
from fastvid_pipelines import cli
from typer.testing import CliRunner


def test_five_seconds_of_720p() -> None:
    result = CliRunner().invoke(cli.app, ["plan", "--model", "fsvideo-14b", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    base, refiner, decode = report["stages"]
    assert (base["tokens"], refiner["tokens"]) == (1_860, 7_440)
    assert report["flops"] / 1e15 == pytest.approx(4.95, rel=0.005)
    assert base["weight_bytes"] == refiner["weight_bytes"] == 2 * 16_399_994_547
    assert decode["peak_bytes"] < 12e9
