"""Snapshots: a new promise, or a new dependency, is seen in the diff."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import penstock

ROOT = Path(__file__).parents[1]
SNAPSHOTS = ROOT / "tests" / "snapshots"
HEAVY = {
    "pyarrow",
    "numpy",
    "duckdb",
    "sqlglot",
    "pydantic",
    "fastapi",
    "yaml",
    "pandas",
    "polars",
    "deltalake",
    "sqlalchemy",
    "starlette",
    "lmdb",
}


def _compare(name: str, lines: list[str]) -> None:
    path = SNAPSHOTS / name
    assert path.read_text().splitlines() == lines, f"{path.name} differs; if the change is meant, write:\n" + "\n".join(
        lines
    )


def test_the_public_names_are_those_promised() -> None:
    _compare("public_api.txt", sorted(penstock.__all__))


def test_every_public_name_is_there_and_documented() -> None:
    for name in penstock.__all__:
        assert getattr(penstock, name).__doc__, name


def test_the_dependencies_are_those_promised() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [f"core {d}" for d in project["dependencies"]]
    for extra, found in project["optional-dependencies"].items():
        lines += [f"{extra} {d}" for d in found]
    _compare("dependencies.txt", sorted(lines))


def test_every_dependency_has_its_reason_beside_it() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.findall(r'^    "[a-z0-9_-]+(?:\[[a-z]+\])?[><=~].*$', text, flags=re.MULTILINE)
    assert listed
    assert [line for line in listed if "# " not in line] == []


def test_importing_penstock_brings_no_heavy_library() -> None:
    code = "import sys, penstock; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert HEAVY & set(out.stdout.split()) == set()
