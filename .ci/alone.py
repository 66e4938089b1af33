"""Each package alone: built as a wheel, installed with only its own dependencies, imported against the clock, tested.

Two packages at a time, each on a core of its own. The environments take the versions of `uv.lock`, so that they are
hard links into uv's cache; with `--torch` another torch, and whatever goes with it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("vae", "dit", "accel", "pipelines", "export")
LONGEST_FIRST = ("export", "vae", "accel", "pipelines", "dit")
IMPORT_LIMITS = {"export": 1.0}  # seconds beyond torch's own import
IMPORT_LIMIT = 2.0  # of the others
IMPORTS = {"pipelines": "from fastvid_pipelines import FSVideoPipeline, save_video"}  # lazy: nothing comes unasked
SIBLING_PROBE = "import importlib.util, sys; print(*[n for n in sys.argv[1:] if importlib.util.find_spec(n)])"


def run(*command: str | Path, cwd: Path = ROOT, quiet: bool = False) -> str:
    """Run a command, stop the program if it fails; return what it printed when `quiet`."""
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        check=False,
        text=True,
        stdout=subprocess.PIPE if quiet else None,
    )
    if result.returncode:
        sys.exit(f"failed with {result.returncode}: {' '.join(map(str, command))}\n{result.stdout or ''}")
    return result.stdout or ""


def constraints(folder: Path, torch: str | None) -> Path:
    """The locked versions of everything but the workspace's own packages, or only the wanted version of torch."""
    path = folder / "constraints.txt"
    if torch:
        path.write_text(f"torch=={torch}.*\n")
        return path
    run(
        *("uv", "export", "--frozen", "--all-packages", "--all-groups", "--no-emit-workspace", "--no-hashes"),
        *("--no-header", "--no-annotate", "--quiet", "--output-file", path),
        quiet=True,
    )
    return path


def import_seconds(python: Path, statement: str, cwd: Path) -> float:
    """Processor time of `statement` after torch was imported, the least of two, as other work must not count."""
    timed = f"import time, torch; start = time.process_time(); {statement}; print(time.process_time() - start)"
    return min(float(run(python, "-W", "ignore", "-c", timed, cwd=cwd, quiet=True)) for _ in range(2))


def check_alone(package: str, folder: Path, locked: Path, interpreter: str) -> None:
    """Build, install, look for siblings, time the import, run the tests."""
    module = f"fastvid_{package}"
    run("uv", "build", "--quiet", "--wheel", "--package", f"fastvid-{package}", "--out-dir", folder / "dist")
    (wheel,) = (folder / "dist").glob(f"{module}-*.whl")
    environment = folder / package
    python = environment / "bin" / "python"
    run("uv", "venv", "--quiet", "--python", interpreter, environment)
    install = ("uv", "pip", "install", "--quiet", "--python", python, "--constraint", locked)
    run(*install, wheel)
    limit = IMPORT_LIMITS.get(package, IMPORT_LIMIT)
    seconds = import_seconds(python, IMPORTS.get(package, f"import {module}"), folder)
    print(f"{module}: imported in {seconds:.2f} s beyond torch, {limit:.0f} s are allowed", flush=True)
    if seconds > limit:
        sys.exit(f"{module} takes too long to import")
    run(*install, "--group", ROOT / "packages" / package / "pyproject.toml:test")
    siblings = [f"fastvid_{other}" for other in PACKAGES if other != package]
    found = run(python, "-c", SIBLING_PROBE, *siblings, cwd=folder, quiet=True).split()
    if found:
        sys.exit(f"{module} brings its siblings {found}")
    tests = folder / "tests" / package
    shutil.copytree(ROOT / "packages" / package / "tests", tests, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder / "tests" / "pyproject.toml")
    run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests, cwd=folder / "tests")
    shutil.rmtree(environment)


def check_apart(package: str, flags: list[str]) -> int:
    """One package by this program, in a process of its own; its lines are printed when it is done."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, package, *flags]
    result = subprocess.run(
        command, check=False, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    print(result.stdout, end="", flush=True)
    return result.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", metavar="package", help=f"of {', '.join(PACKAGES)}; all by default")
    parser.add_argument("--torch", metavar="VERSION", help="such as 2.11; the locked one by default")
    parser.add_argument("--python", default=sys.executable, metavar="VERSION", help="such as 3.12; this one by default")
    arguments = parser.parse_args()
    packages = arguments.packages or PACKAGES
    if unknown := set(packages) - set(PACKAGES):
        parser.error(f"no package {sorted(unknown)}; there are {', '.join(PACKAGES)}")
    if len(packages) > 1:
        flags = [] if arguments.torch is None else ["--torch", arguments.torch]
        flags += ["--python", arguments.python]
        ordered = sorted(packages, key=LONGEST_FIRST.index)
        with ThreadPoolExecutor(max_workers=2) as pool:
            sys.exit(max(pool.map(check_apart, ordered, [flags] * len(ordered))))
    # In the environment of the checkout: git ignores it, and uv can link into it instead of copying.
    with tempfile.TemporaryDirectory(prefix="alone-", dir=sys.prefix) as folder:
        locked = constraints(Path(folder), arguments.torch)
        for package in packages:
            print(f"== fastvid-{package} alone", flush=True)
            check_alone(package, Path(folder), locked, arguments.python)


if __name__ == "__main__":
    main()
