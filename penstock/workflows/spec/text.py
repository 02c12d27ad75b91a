"""Specifications as JSON and YAML, in and out, with the published schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.errors import Location, WorkflowError
from penstock.names import Fingerprint, fingerprint
from penstock.workflows.spec.convert import Places, validated
from penstock.workflows.spec.model import SPEC_FORMAT, WorkflowSpec

__all__ = ["from_file", "from_text", "plain", "schema", "spec_fingerprint", "to_json", "to_yaml"]


def schema() -> dict[str, Any]:
    """The JSON Schema of a specification."""
    return WorkflowSpec.model_json_schema()


def plain(spec: WorkflowSpec) -> dict[str, Any]:
    """A specification as plain data, without what is at its default."""
    data = spec.model_dump(mode="json", exclude_defaults=True)
    return {"format": SPEC_FORMAT, "name": spec.name, **data}


def to_json(spec: WorkflowSpec) -> str:
    """A specification as JSON; `from_text` reads it back unchanged."""
    return json.dumps(plain(spec), ensure_ascii=False, indent=2)


def to_yaml(spec: WorkflowSpec) -> str:
    """A specification as YAML; `from_text` reads it back unchanged."""
    import yaml  # a server that is only asked for JSON starts without it

    return str(yaml.safe_dump(plain(spec), sort_keys=False, allow_unicode=True, width=120))


def spec_fingerprint(spec: WorkflowSpec) -> Fingerprint:
    """What a specification says, without notes such as places on a canvas."""
    return fingerprint({key: value for key, value in plain(spec).items() if key != "notes"})


def from_file(path: Path) -> tuple[WorkflowSpec, Places]:
    """Reads a specification from a `.yaml`, `.yml` or `.json` file.

    Raises:
        WorkflowError: the file cannot be read, or does not hold a specification.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise WorkflowError(
            "read a workflow", found=str(error), remedy="give a file of JSON or YAML", where=str(path)
        ) from error
    return from_text(text, str(path))


def from_text(text: str, where: str = "the text") -> tuple[WorkflowSpec, Places]:
    """Reads a specification from JSON or YAML (of which JSON is a part), and the lines of its nodes.

    Raises:
        WorkflowError: it does not parse, does not fit the schema, or is of a newer format.
    """
    import yaml

    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = Location(where, mark.line + 1) if mark else where
        raise WorkflowError(
            "a workflow is YAML or JSON", found=str(getattr(error, "problem", error)), remedy="mend it", where=place
        ) from error
    if not isinstance(data, Mapping):
        raise WorkflowError("a workflow is an object with fields", found=repr(data)[:80], remedy="begin with `name:`")
    found = data.get("format", SPEC_FORMAT)
    if isinstance(found, int) and found > SPEC_FORMAT:
        raise WorkflowError(
            f"this Penstock reads workflows of format {SPEC_FORMAT}",
            found=f"format {found}",
            remedy="upgrade Penstock",
            where=where,
        )
    places = Places(Location(where, 1), _lines(tree, where))
    return validated(data, f"workflow {data.get('name', '')}".rstrip(), where), places


def _lines(tree: Any, where: str) -> dict[str, Location | str | None]:
    """The line of each node, by its name."""
    lines: dict[str, Location | str | None] = {}
    for node in _field(tree, "nodes"):
        for name in _field(node, "name", scalar=True):
            lines[str(name.value)] = Location(where, node.start_mark.line + 1)
    return lines


def _field(tree: Any, name: str, *, scalar: bool = False) -> list[Any]:
    if getattr(tree, "id", "") != "mapping":
        return []
    found = [value for key, value in tree.value if key.value == name]
    if scalar:
        return [value for value in found if value.id == "scalar"]
    return [item for value in found if value.id == "sequence" for item in value.value]
