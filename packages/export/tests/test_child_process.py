import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fastvid_export import BuildError
from fastvid_export.child_process import run_child

CHILD = """
import os, sys, signal, time
from fastvid_export.child_process import serve
from fastvid_export.errors import BuildError

def work(request):
    print("step one", flush=True)
    match request["do"]:
        case "answer": return {"got": request}
        case "crash": os.kill(os.getpid(), signal.SIGSEGV)
        case "leave": os._exit(3)
        case "fail": raise BuildError("no kernel for that")
        case "lack": raise ImportError("tensorrt is not installed; run: pip install x")
        case "break": raise ZeroDivisionError("in the middle")
        case "sleep": open(request["started"], "w").close(); time.sleep(600)

serve(work)
"""


@pytest.fixture
def _child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_child_of_tests.py").write_text(CHILD)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("_child")
def test_it_answers_and_its_lines_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert run_child("a_child_of_tests", {"do": "answer"}, tmp_path) == {"got": {"do": "answer"}}
    assert "step one" in caplog.messages


@pytest.mark.usefixtures("_child")
@pytest.mark.parametrize(
    ("do", "kind", "message"),
    [
        ("crash", BuildError, "the child process was killed by SIGSEGV; its last lines:\nstep one"),
        ("leave", BuildError, "ended with exit code 3 and no answer"),
        ("fail", BuildError, "^no kernel for that$"),
        ("break", BuildError, "exit code 1 and no answer(.|\n)*ZeroDivisionError: in the middle"),
        ("lack", ImportError, "pip install x"),
    ],
)
def test_what_goes_wrong_is_told(tmp_path: Path, do: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        run_child("a_child_of_tests", {"do": do}, tmp_path)


@pytest.mark.usefixtures("_child")
def test_it_ends_with_its_caller(tmp_path: Path) -> None:
    """A caller that is killed can clean nothing up; the child sees its input end."""
    started = tmp_path / "started"
    call = (
        "import sys; from pathlib import Path; from fastvid_export.child_process import run_child\n"
        "run_child('a_child_of_tests', {'do': 'sleep', 'started': sys.argv[1]}, Path(sys.argv[1]).parent)"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", call, str(started)], env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    wait_for(started.exists)
    children = Path(f"/proc/{caller.pid}/task/{caller.pid}/children").read_text().split()
    assert len(children) == 1
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    wait_for(lambda: not running(int(children[0])))


def running(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: object) -> None:
    assert callable(condition)
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it never came")
