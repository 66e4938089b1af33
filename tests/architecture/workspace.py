"""Where things lie in the workspace."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("vae", "dit", "accel", "pipelines", "export")
MODULES = tuple(f"fastvid_{package}" for package in PACKAGES)


def folder(package: str) -> Path:
    return ROOT / "packages" / package


def source_files(package: str) -> list[Path]:
    return sorted((folder(package) / "src").rglob("*.py"))


def files_of_tests(package: str) -> list[Path]:
    return sorted((folder(package) / "tests").rglob("*.py"))


def read_project(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def last_name(node: ast.expr) -> str:
    """`c` of `a.b.c` and of `c`; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
