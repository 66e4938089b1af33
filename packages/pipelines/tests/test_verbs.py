"""Verbs that other packages bring."""

from collections.abc import Iterator

import pytest
import typer
from fastvid_pipelines import cli
from typer.testing import CliRunner


@pytest.fixture
def _restored() -> Iterator[None]:
    before = list(cli.app.registered_commands)
    yield
    cli.app.registered_commands[:] = before


@pytest.mark.usefixtures("_restored")
def test_a_verb_may_have_verbs_itself() -> None:
    verbs = typer.Typer()
    said: list[str] = []
    verbs.command("one")(lambda: said.append("one"))
    verbs.command("two")(lambda: said.append("two"))
    cli._add_command("numbers", "some-package", lambda: verbs)
    result = CliRunner().invoke(cli.app, ["numbers", "two"])
    assert result.exit_code == 0, result.output
    assert said == ["two"]
