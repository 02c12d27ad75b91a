"""The contract of components as tests. Inherit from `ComponentSuite` and give a fixture `found`, one component each."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import ValidationError

from penstock.components.contract import BatchComponent, Parameters
from penstock.components.registry import Found
from penstock.testing.components.lone import LoneContext

__all__ = ["ComponentSuite"]

_OUTPUTS: Final = {
    "file", "folder", "table", "model", "samples", "integer", "number", "string", "boolean", "object", "array", "json",
}  # fmt: skip
_BATCH_FACTS: Final = {"rows", "quality", "snapshot", "model", "watermark", "mature"}
_STREAM_FACTS: Final = {"watermark", "frontier", "offset", "rows", "lag"}
_HEAVY: Final = ("numpy", "pyarrow", "pandas", "polars", "duckdb", "deltalake", "sqlalchemy", "torch")


class ComponentSuite:
    """Tests of a component."""

    def test_it_says_what_it_is(self, found: Found) -> None:
        """Name, version, what it makes, and a first line for lists."""
        described = json.loads(json.dumps(found.describe()))
        assert described["name"].isidentifier()
        assert described["name"].islower()
        assert described["version"]
        assert described["description"]
        known = _BATCH_FACTS if described["kind"] == "batch" else _STREAM_FACTS
        assert set(described["facts"]) <= known
        assert set(described.get("outputs", {}).values()) <= _OUTPUTS

    def test_its_form_is_a_json_schema(self, found: Found) -> None:
        """Of an object that takes no other fields; each field has a title."""
        schema = found.component.parameters.model_json_schema()
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        for name, field in schema.get("properties", {}).items():
            assert {"title", "$ref"} & field.keys(), name

    def test_it_refuses_unknown_parameters(self, found: Found) -> None:
        """With the name of the field."""
        model: type[Parameters] = found.component.parameters
        with pytest.raises(ValidationError, match="no_such_parameter"):
            model.model_validate({**_some(found), "no_such_parameter": 1})

    def test_its_parameters_survive_json(self, found: Found) -> None:
        """What a specification stores is what the component gets."""
        if example := _some(found):
            model = found.component.parameters
            given = model.model_validate(example)
            assert model.model_validate(json.loads(given.model_dump_json())) == given

    def test_it_is_light_to_load(self, found: Found) -> None:
        """Heavy libraries are loaded when it runs, or by a template that has it in `preload`."""
        file = inspect.getfile(found.component)
        code = f"import runpy, sys; runpy.run_path({file!r}); print([m for m in {_HEAVY} if m in sys.modules])"
        done = subprocess.run(  # noqa: S603  the component's own file
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
        )
        assert done.stdout.strip().splitlines()[-1] == "[]"

    def test_its_example_runs(self, found: Found, tmp_path: Path) -> None:
        """And sets only outputs and facts that it declares."""
        component = found.component
        if not issubclass(component, BatchComponent) or component.example is None:
            pytest.skip("it has no example that runs anywhere")
        made = LoneContext(tmp_path).do(component, **component.example)
        assert "*" in component.outputs or made.keys() <= component.outputs.keys()


def _some(found: Found) -> dict[str, Any]:
    example = getattr(found.component, "example", None)
    return dict(example or {})
