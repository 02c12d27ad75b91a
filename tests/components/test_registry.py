from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from penstock.components.registry import GROUP, discover
from penstock.errors import WorkflowError

OWN = '''
from penstock.components.contract import BatchComponent, Parameters

class GreetParameters(Parameters):
    """Parameters of greet."""
    whom: str = "world"

class Greet(BatchComponent):
    """Says hello."""
    name = "greet"
    version = "3"
    parameters = GreetParameters
    outputs = {"said": "string"}
    example = {"whom": "you"}

    def run(self, context, parameters):
        context.put("said", f"hello {parameters.whom}")
'''


def test_the_built_in_components_are_there() -> None:
    registry = discover(points=())
    assert {"shell", "python", "sql", "http", "wait", "feature_backfill"} <= set(registry)
    assert not registry.broken


def test_a_projects_components_are_found_and_a_broken_one_breaks_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "components"
    folder.mkdir()
    (folder / "greet.py").write_text(OWN)
    (folder / "raises.py").write_text("raise RuntimeError('no network')\n")
    (folder / "exits.py").write_text("import sys; sys.exit(3)\n")
    (folder / "syntax.py").write_text("def (:\n")
    (folder / "again.py").write_text(OWN)
    (folder / "silent.py").write_text(OWN.replace('"greet"', '"silent"').split("    def run")[0])
    (folder / "misnamed.py").write_text(OWN.replace('"greet"', '"not a name"'))
    registry = discover(tmp_path, points=())
    assert registry["greet"].version == "3"
    assert registry.found["greet"].origin == "components/again.py"
    reasons = {broken.origin: broken.reason for broken in registry.broken}
    assert set(reasons) == {f"components/{n}.py" for n in ("raises", "exits", "syntax", "greet", "silent", "misnamed")}
    assert reasons["components/raises.py"] == "RuntimeError: no network"
    assert "belongs to the component of components/again.py" in reasons["components/greet.py"]
    assert "does not say what to run" in reasons["components/silent.py"]
    assert "no identifier" in reasons["components/misnamed.py"]
    with pytest.raises(WorkflowError, match="no network"):
        registry["raises"]
    with pytest.raises(WorkflowError, match="did you mean greet"):
        registry["gret"]


def test_an_entry_point_that_fails_is_told() -> None:
    points = [
        EntryPoint("gone", "no_such_package:Thing", GROUP),
        EntryPoint("other", "json:loads", GROUP),
        EntryPoint("renamed", "penstock.components.shell:Shell", GROUP),
        EntryPoint("shell", "penstock.components.python:Python", GROUP),
    ]
    registry = discover(points=points)
    reasons = {broken.name: broken.reason for broken in registry.broken}
    assert "no_such_package" in reasons["gone"]
    assert "no subclass" in reasons["other"]
    assert "its entry point is called 'renamed'" in reasons["shell"] or "'shell'" in reasons["shell"]
    assert registry["shell"].__name__ == "Shell"


def test_parameters_without_a_schema_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "components"
    folder.mkdir()
    bad = OWN.replace(
        'whom: str = "world"', "whom: object = None\n    model_config = {'arbitrary_types_allowed': True}"
    )
    bad = bad.replace("whom: object", "whom: type(lambda: 0)")
    (folder / "bad.py").write_text(bad)
    registry = discover(tmp_path, points=())
    assert [b.origin for b in registry.broken] == ["components/bad.py"]
    assert "no JSON Schema" in registry.broken[0].reason


def test_a_wheel_from_outside_appears_unchanged(tmp_path: Path) -> None:
    wheel = tmp_path / "greetings-1.2-py3-none-any.whl"
    info = "greetings-1.2.dist-info"
    files = {
        "greetings.py": OWN,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: greetings\nVersion: 1.2\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[{GROUP}]\ngreet = greetings:Greet\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*pip, str(target), str(wheel)], check=True, timeout=120)
    code = (
        f"import sys, json; sys.path.append({str(target)!r})\n"
        "from penstock.components.registry import discover\n"
        "found = discover().found['greet']\n"
        "print(json.dumps(found.describe()))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    described = json.loads(done.stdout)
    assert described["origin"] == "greetings 1.2"
    assert (described["name"], described["version"], described["outputs"]) == ("greet", "3", {"said": "string"})
    assert described["parameters"]["properties"]["whom"] == {"default": "world", "title": "Whom", "type": "string"}
