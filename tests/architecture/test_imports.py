"""No package names another in an import, in whatever way it is written."""

import ast

import pytest

from .workspace import MODULES, PACKAGES, calls, files_of_tests, last_name, source_files

IMPORTERS = ("import_module", "__import__", "find_spec", "resolve_name", "run_module")
COMPUTING_IMPORTERS = ("import_module", "__import__")


def forbidden_imports(source: str, own: str) -> list[str]:
    """Lines that import another fastvid package than `own`, or a module whose name is computed."""
    siblings = set(MODULES) - {own}
    found = []
    tree = ast.parse(source)
    aliases = {name: name for name in IMPORTERS}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
            aliases |= {alias.asname: alias.name for alias in node.names if alias.asname and alias.name in IMPORTERS}
        found += [f"{node.lineno}: {name}" for name in names if name.split(".")[0] in siblings]
    for call in calls(tree):
        importer = aliases.get(last_name(call.func))
        if importer is None:
            continue
        argument = (call.args or [keyword.value for keyword in call.keywords] or [ast.Constant("")])[0]
        if isinstance(argument, ast.Constant):
            if str(argument.value).split(".")[0].split(":")[0] in siblings:
                found.append(f"{call.lineno}: {argument.value}")
        elif importer in COMPUTING_IMPORTERS and not inside_own_package(argument):
            found.append(f"{call.lineno}: {ast.unparse(argument)}")
    return found


def inside_own_package(name: ast.expr) -> bool:
    """Whether the name of a module is written as f"{__name__}.something"."""
    if not isinstance(name, ast.JoinedStr) or len(name.values) < 2:
        return False
    first, second = name.values[:2]
    starts = isinstance(first, ast.FormattedValue) and last_name(first.value) == "__name__"
    return starts and isinstance(second, ast.Constant) and str(second.value).startswith(".")


@pytest.mark.parametrize("package", PACKAGES)
def test_sources_and_tests_of_a_package_import_only_it(package: str) -> None:
    files = source_files(package) + files_of_tests(package)
    assert files
    found = {
        str(file): lines
        for file in files
        if (lines := forbidden_imports(file.read_text(encoding="utf-8"), f"fastvid_{package}"))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "import fastvid_dit",
        "import torch, fastvid_dit.attention as attention",
        "from fastvid_dit import sdpa",
        "from fastvid_dit.attention import sdpa",
        "def lazy():\n    import fastvid_dit",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fastvid_dit import AttentionOp",
        "try:\n    import fastvid_dit\nexcept ImportError:\n    fastvid_dit = None",
        "import importlib\nimportlib.import_module('fastvid_dit')",
        "import importlib\nimportlib.import_module(name='fastvid_dit.attention')",
        "from importlib import import_module\nimport_module('fastvid_dit.attention')",
        "from importlib import import_module as load\nload('fastvid_dit')",
        "import importlib\nimportlib.import_module('fastvid_' + 'dit')",
        "import importlib\nname = 'fastvid_dit'\nimportlib.import_module(name)",
        "import importlib\nimportlib.import_module(f'{root}.attention')",
        "import importlib\nimportlib.import_module(f'{__name__[:7]}_dit')",
        "__import__('fastvid_dit')",
        "__import__(f'fastvid_{package}')",
        "from importlib.util import find_spec\nfind_spec('fastvid_dit')",
        "import pkgutil\npkgutil.resolve_name('fastvid_dit:sdpa')",
    ],
)
def test_every_way_to_import_a_sibling_is_seen(source: str) -> None:
    assert forbidden_imports(source, "fastvid_vae")


@pytest.mark.parametrize(
    "source",
    [
        "import fastvid_vae",
        "from fastvid_vae.layers import norm",
        "from . import fastvid_dit",
        "message = 'pip install fastvid_dit'",
        "import importlib\nimportlib.import_module('torch')",
        "from importlib.util import find_spec\nfind_spec(name)",
        "entry_point.load()",
        "import importlib\nimportlib.import_module(f'{__name__}.{name}')",
    ],
)
def test_what_is_no_sibling_import_passes(source: str) -> None:
    assert forbidden_imports(source, "fastvid_vae") == []
