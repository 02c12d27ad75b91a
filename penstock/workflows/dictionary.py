"""The dictionary: run-time values by key, typed, in versions, with who changed them and why.

The database holds every version; the file that tasks and streams read (`components/values.py`) is written anew, whole,
after each change, and when the dictionary is opened, so that a crash between the two is mended.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from penstock.components.values import DICTIONARY_FILE
from penstock.engine.live.durable import replace_file
from penstock.errors import WorkflowError, nearest
from penstock.names import fingerprint
from penstock.store.meta import Meta
from penstock.store.meta.interface import Definition
from penstock.workflows.spec import template
from penstock.workflows.spec.check import value_fits
from penstock.workflows.spec.model import Parameter, WorkflowSpec

__all__ = ["TYPES", "Dictionary", "Entry", "readers"]

TYPES: Final = ("integer", "number", "string", "boolean", "date", "instant", "duration", "json")
_PREFIX: Final = "dict/"
_KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")


@dataclass(frozen=True, slots=True)
class Entry:
    """A version of a key. `value` is None in a version that takes the key away; `is_there` tells."""

    key: str
    version: int
    value: Any
    type: str
    description: str
    is_there: bool
    author: str
    reason: str
    created_us: int


class Dictionary:
    """The dictionary of a deployment.

    Args:
        meta: where the versions are.
        state: the project's `.penstock`.
    """

    def __init__(self, meta: Meta, state: Path) -> None:
        self._meta, self._file = meta, state / DICTIONARY_FILE
        self._write()

    def put(
        self,
        key: str,
        value: Any,
        *,
        type: str | None = None,
        description: str | None = None,
        author: str,
        reason: str,
        expect: int | None = None,
    ) -> Entry:
        """Sets a key.

        Args:
            key: lower-case letters, digits and _.
            value: of its type.
            type: what values the key takes; it stays as it was, and for a new key follows from the value.
            description: what it is for; stays as it was.
            author, reason: on record with the version.
            expect: the version that this one follows (0 for none); by default whatever is there.

        Raises:
            WorkflowError: the key or the value does not fit.
            StoreError: somebody else has changed it.
        """
        if not _KEY.match(key):
            raise WorkflowError(
                "a dictionary key is lower-case letters, digits and _, starting with a letter",
                found=repr(key),
                remedy="rename it",
            )
        former = self._newest(key)
        of = type or (former.type if former and former.is_there else _type_of(value))
        if of not in TYPES:
            raise WorkflowError(f"a type of {key}", found=repr(of), remedy=nearest(of, TYPES))
        if not value_fits(Parameter(name=key, type=of), value):  # type: ignore[arg-type]
            raise WorkflowError(f"{key} takes a value of type {of}", found=repr(value), remedy="give one of that type")
        text = description if description is not None else former.description if former else ""
        data = {"value": value, "type": of, "description": text}
        return self._put(key, data, former, author=author, reason=reason, expect=expect)

    def remove(self, key: str, *, author: str, reason: str) -> Entry:
        """Takes a key away; its versions stay.

        Raises:
            WorkflowError: there is no such key.
        """
        former = self.get(key)
        return self._put(key, {"removed": True}, former, author=author, reason=reason, expect=former.version)

    def get(self, key: str) -> Entry:
        """The newest version.

        Raises:
            WorkflowError: there is no such key.
        """
        entry = self._newest(key)
        if entry is None or not entry.is_there:
            valid = [e.key for e in self.list()]
            raise WorkflowError(f"the dictionary has {key!r}", found="no such key", remedy=nearest(key, valid))
        return entry

    def history(self, key: str) -> list[Entry]:
        """Every version of a key, oldest first; empty if it never was there."""
        return [_entry(d) for d in self._meta.list_definitions(_PREFIX + key)]

    def _newest(self, key: str) -> Entry | None:
        found = self._meta.get_definition(_PREFIX + key)
        return _entry(found) if found else None

    def _put(
        self, key: str, data: dict[str, Any], former: Entry | None, *, author: str, reason: str, expect: int | None
    ) -> Entry:
        version = expect if expect is not None else former.version if former else 0
        spec = msgspec.json.encode(data).decode()
        definition = self._meta.put_definition(
            _PREFIX + key, fingerprint(data), spec, author=author, reason=reason, expect=version
        )
        self._write()
        return _entry(definition)

    def _write(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._file, msgspec.json.encode({entry.key: entry.value for entry in self.list()}))

    def list(self) -> list[Entry]:
        """The newest version of every key that is there, by key."""
        found = [_entry(d) for d in self._meta.list_definitions() if d.name.startswith(_PREFIX)]
        return [entry for entry in found if entry.is_there]


def readers(key: str, workflows: Iterable[WorkflowSpec]) -> list[str]:
    """The nodes, as `workflow.node`, whose parameters mention a key."""
    return [
        f"{spec.name}.{node.name}"
        for spec in workflows
        for node in spec.nodes
        if f"dict.{key}" in template.names(node.parameters)
    ]


def _entry(definition: Definition) -> Entry:
    data = msgspec.json.decode(definition.spec)
    return Entry(
        definition.name.removeprefix(_PREFIX),
        definition.version,
        data.get("value"),
        data.get("type", "json"),
        data.get("description", ""),
        "removed" not in data,
        definition.author,
        definition.reason,
        definition.created_us,
    )


def _type_of(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
    return "json"
