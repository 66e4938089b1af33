"""What was measured of a case is kept: at full size one takes minutes, and a killed run goes on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fsvideo_vs_wan.py"


def run(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--toy", "--work", str(work), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    first = run(tmp_path, "--runs", "1")
    assert first.returncode == 0, first.stderr
    assert "FSVideo refiner\n" in first.stderr
    kept = tmp_path / "fsvideo_base.json"
    earlier = json.loads(kept.read_text())
    kept.write_text(json.dumps(earlier | {"result": earlier["result"] | {"seconds_of_a_pass": 1000.0}}))
    (tmp_path / "fsvideo_refiner.json").unlink()
    second = run(tmp_path, "--runs", "1")
    assert second.stderr.splitlines()[0] == "FSVideo refiner"  # the one case that is missing
    assert "FSVideo base" not in second.stderr.split("| case |")[0]
    assert json.loads(second.stdout.splitlines()[0])["fsvideo_seconds"] > 60_000
    other = run(tmp_path, "--runs", "2")
    assert other.returncode == 1
    assert "wan2.1-i2v-14b.json was measured with {'toy': True, 'runs': 1" in other.stderr
