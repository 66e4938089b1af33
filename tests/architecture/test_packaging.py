"""Every package can stand alone on an index: its papers in order, and no sibling among its dependencies."""

import re
from pathlib import Path
from typing import Any

import pytest
from fastvid_pipelines.commands.doctor import OPTIONAL

from .workspace import MODULES, PACKAGES, folder, read_project, source_files


def sibling_dependencies(project: dict[str, Any], own: str) -> list[str]:
    """Requirements on siblings, but for the extra `all` of pipelines."""
    table = project["project"]
    groups = {"dependencies": table.get("dependencies", [])}
    groups |= table.get("optional-dependencies", {}) | project.get("dependency-groups", {})
    if own == "fastvid_pipelines":
        groups.pop("all", None)
    siblings = set(MODULES) - {own}
    requirements = [item for items in groups.values() for item in items if isinstance(item, str)]
    return [item for item in requirements if re.split(r"[^\w.-]", item.strip())[0].replace("-", "_") in siblings]


def missing_papers(package: Path) -> list[str]:
    """What README, CHANGELOG, LICENSE and the marker of typed packages leave to be wished for."""
    project = read_project(package / "pyproject.toml")["project"]
    name, version = project["name"], project["version"]
    missing = []
    readme, changelog = package / "README.md", package / "CHANGELOG.md"
    if not readme.is_file() or not readme.read_text(encoding="utf-8").startswith(f"# {name}\n"):
        missing.append(f"README.md that starts with the heading {name}")
    text = changelog.read_text(encoding="utf-8") if changelog.is_file() else ""
    headings = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    if headings[:1] != ["Unreleased"] or version not in headings:
        missing.append(f"CHANGELOG.md with Unreleased on top and {version}")
    if project.get("license-files") != ["LICENSE"] or not (package / "LICENSE").is_file():
        missing.append("LICENSE, which its wheel has to hold")
    if not (package / "src" / name.replace("-", "_") / "py.typed").is_file():
        missing.append("py.typed")
    return missing


def foreign_entry_points(project: dict[str, Any], own: str) -> list[str]:
    """Entry points and scripts that lead into another package."""
    table = project["project"]
    groups = [*table.get("entry-points", {}).values(), table.get("scripts", {})]
    return [target for group in groups for target in group.values() if re.split(r"[.:]", target)[0] != own]


def unknown_extras(text: str) -> list[str]:
    """Extras that a text tells people to install and no package offers."""
    offered = {package: read_project(folder(package) / "pyproject.toml")["project"] for package in PACKAGES}
    return [
        f"{package}[{extra}]"
        for package, extra in re.findall(r"fastvid-(\w+)\[(\w+)\]", text)
        if package not in offered or extra not in offered[package].get("optional-dependencies", {})
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_extras_that_are_named_exist(package: str) -> None:
    texts = [path.read_text(encoding="utf-8") for path in (*source_files(package), folder(package) / "README.md")]
    assert unknown_extras("".join(texts)) == []


def test_what_doctor_looks_for_is_what_its_extras_install() -> None:
    for names, line in OPTIONAL.items():
        extras = re.findall(r"fastvid-(\w+)\[(\w+)\]", line)
        installed = [
            requirement
            for package, extra in extras
            for requirement in read_project(folder(package) / "pyproject.toml")["project"]["optional-dependencies"][
                extra
            ]
        ]
        if extras:
            assert set(names) <= {re.split(r"[^\w.-]", requirement)[0] for requirement in installed}


@pytest.mark.parametrize("text", ["fastvid-export[onnx]", "'fastvid-what[ort]'", "fastvid-accel[ort]"])
def test_an_unknown_extra_is_seen(text: str) -> None:
    assert unknown_extras(f"fastvid-export[ort] {text}") == [text.strip("'").removeprefix("fastvid-")]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_sibling_among_the_dependencies(package: str) -> None:
    project = read_project(folder(package) / "pyproject.toml")
    assert sibling_dependencies(project, f"fastvid_{package}") == []


@pytest.mark.parametrize("package", PACKAGES)
def test_papers_are_in_order(package: str) -> None:
    assert missing_papers(folder(package)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_entry_points_lead_into_their_own_package(package: str) -> None:
    project = read_project(folder(package) / "pyproject.toml")
    assert foreign_entry_points(project, f"fastvid_{package}") == []


@pytest.mark.parametrize(
    "project",
    [
        {"project": {"dependencies": ["torch", "fastvid-dit"]}},
        {"project": {"dependencies": ["fastvid_dit>=0.1"]}},
        {"project": {"optional-dependencies": {"all": ["fastvid-dit[x]; python_version > '3'"]}}},
        {"project": {}, "dependency-groups": {"test": ["fastvid-pipelines ==0.1.0"]}},
    ],
)
def test_a_sibling_dependency_is_seen(project: dict[str, Any]) -> None:
    assert sibling_dependencies(project, "fastvid_vae")


def test_pipelines_may_name_siblings_in_the_extra_all_only() -> None:
    assert (
        sibling_dependencies({"project": {"optional-dependencies": {"all": ["fastvid-vae"]}}}, "fastvid_pipelines")
        == []
    )
    assert sibling_dependencies({"project": {"optional-dependencies": {"most": ["fastvid-vae"]}}}, "fastvid_pipelines")


def test_a_foreign_entry_point_is_seen() -> None:
    project = {
        "project": {"entry-points": {"fastvid.transformer": {"X": "fastvid_dit:X"}}, "scripts": {"x": "os:abort"}}
    }
    assert foreign_entry_points(project, "fastvid_vae") == ["fastvid_dit:X", "os:abort"]


PAPERS = {
    "pyproject.toml": '[project]\nname = "fastvid-new"\nversion = "0.2.0"\nlicense-files = ["LICENSE"]\n',
    "README.md": "# fastvid-new\n",
    "LICENSE": "Apache License",
    "CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n\n## [0.2.0]\n",
    "src/fastvid_new/py.typed": "",
}


@pytest.mark.parametrize(
    ("path", "text", "number"),
    [
        ("README.md", None, 1),
        ("README.md", "# something else\n", 1),
        ("CHANGELOG.md", None, 1),
        ("CHANGELOG.md", "## [Unreleased]\n\n## [0.1.0]\n", 1),
        ("CHANGELOG.md", "## [0.2.0]\n", 1),
        ("src/fastvid_new/py.typed", None, 1),
        ("LICENSE", None, 1),
        ("pyproject.toml", '[project]\nname = "fastvid-new"\nversion = "0.2.0"\n', 1),
        ("README.md", "# fastvid-new\n\nText.\n", 0),
    ],
)
def test_missing_papers_are_seen(tmp_path: Path, path: str, text: str | None, number: int) -> None:
    for name, content in (PAPERS | {path: text}).items():
        if content is not None:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content, encoding="utf-8")
    assert len(missing_papers(tmp_path)) == number
