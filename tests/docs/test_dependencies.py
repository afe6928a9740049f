"""docs/dependencies.md names exactly what pyproject.toml asks for, and constraints.txt lies within."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LISTED = dict(
    re.findall(
        r"^\| ([\w-]+) \| ([<>=][^|]+) \|",
        (ROOT / "docs" / "dependencies.md").read_text("utf-8"),
        re.MULTILINE,
    )
)


def asked() -> dict[str, Requirement]:
    """Every requirement but those on the project's own extras."""
    texts = [*PROJECT["dependencies"], *(text for texts in EXTRAS.values() for text in texts)]
    found = {requirement.name: requirement for requirement in map(Requirement, texts)}
    return {name: requirement for name, requirement in found.items() if name != PROJECT["name"]}


def test_the_page_lists_every_dependency_with_its_bounds() -> None:
    stated = {name: Requirement(f"{name}{versions}").specifier for name, versions in LISTED.items()}
    assert stated == {name: requirement.specifier for name, requirement in asked().items()}


def test_a_package_of_several_extras_has_the_same_bounds_in_each() -> None:
    texts = [text for texts in EXTRAS.values() for text in texts]
    by_name: dict[str, set[str]] = {}
    for requirement in map(Requirement, texts):
        by_name.setdefault(requirement.name, set()).add(str(requirement.specifier))
    assert {name: bounds for name, bounds in by_name.items() if len(bounds) > 1} == {}


def test_what_users_install_is_bounded_below_and_above() -> None:
    development = {Requirement(text).name for text in EXTRAS["dev"]}
    for name, requirement in asked().items():
        operators = {bound.operator for bound in requirement.specifier}
        assert operators == ({">="} if name in development else {">=", "<"}), requirement


def test_every_package_is_used() -> None:
    """Users install what the source imports; development what tests or benchmarks import besides, and its tools."""
    tools = {"ruff", "mypy", "pytest-xdist", "pytest-timeout"}
    brought_to = {"onnxscript"}  # torch's exporter imports it
    development = {Requirement(text).name for text in EXTRAS["dev"]}
    ours, theirs = (_python_of(*folders) for folders in (["src"], ["tests", "benchmarks"]))
    for name in asked().keys() - tools - brought_to:
        code = theirs if name in development else ours
        assert re.search(rf"(import|from) {_module(name)}\b|\"{_module(name)}\"", code), name


def _module(name: str) -> str:
    return name.replace("-", "_")


def _python_of(*folders: str) -> str:
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def test_the_lock_lies_within_the_bounds() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    locked = dict(line.split("==") for line in lines)
    locked = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in locked.items()}
    outside = [
        str(requirement)
        for name, requirement in asked().items()
        if name not in locked or locked[name] not in requirement.specifier
    ]
    assert outside == []


def test_the_sdist_is_told_to_hold_all_folders_of_the_checkout() -> None:
    """And so what the tests read: a page, a benchmark, a recorded number."""
    manifest = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    assert {f"graft {folder}" for folder in ("tests", "docs", "benchmarks")} <= set(manifest)
    (files,) = (line.split()[1:] for line in manifest if line.startswith("include "))
    assert all((ROOT / name).is_file() for name in files)
    assert {"Makefile", "constraints.txt"} <= set(files)
