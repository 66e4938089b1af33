"""Python programs in processes of their own that have torch from the start: its import takes longer than what they do.

Each is forked from a server that has imported libraries and computed nothing, so that none of them meets another.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        __name__,
        "torch._dynamo",
        "diffusers",
        "onnxruntime",
        "onnxscript",
        "tensorrt_rtx",
        "fastvid_accel",
        "fastvid_dit",
        "fastvid_export",
        "fastvid_pipelines.cli",
        "fastvid_vae",
    ]
)
TIME_LIMIT = 900


def run_program(program: str | Path, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A script, or the script of an installed command, with these arguments."""
    words = [str(program), *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / name for name in ("stdout", "stderr")]
        process = CONTEXT.Process(target=_run, args=(words, cwd or Path.cwd(), dict(os.environ), said))
        process.start()
        process.join(TIME_LIMIT)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"{words} took longer than {TIME_LIMIT} s")
        out, err = (path.read_text(encoding="utf-8") if path.exists() else "" for path in said)
    return subprocess.CompletedProcess(words, process.exitcode, out, err)


def printed_by(program: str | Path, *arguments: object, cwd: Path | None = None) -> str:
    """What it prints, if all goes well."""
    result = run_program(program, *arguments, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout


def _run(words: list[str], cwd: Path, environment: dict[str, str], said: list[Path]) -> None:
    for number, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).parent))
    runpy.run_path(words[0], run_name="__main__")
