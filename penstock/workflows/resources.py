"""Resources: versioned files of a deployment, named `resource://name@version` in a node's parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from penstock.components.values import RESOURCES_FILE, references, replaced
from penstock.engine.live.durable import replace_file
from penstock.errors import WorkflowError, nearest
from penstock.names import fingerprint
from penstock.store.blob import Blob
from penstock.store.meta import Meta
from penstock.store.meta.interface import Definition
from penstock.workflows.spec.model import WorkflowSpec

__all__ = ["Resource", "Resources", "users"]

_PREFIX: Final = "resource/"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")


@dataclass(frozen=True, slots=True)
class Resource:
    """A version of a file: its size in bytes and the hash of its content."""

    name: str
    version: int
    size: int
    content_hash: str
    author: str
    reason: str
    created_us: int

    @property
    def uri(self) -> str:
        """How a parameter names it."""
        return f"resource://{self.name}@{self.version}"


class Resources:
    """The resources of a deployment: contents in the blob store under their hash, versions in the metadata.

    Tasks find them by a file of hashes, written anew after each change and when this is opened.

    Args:
        meta: where the versions are.
        blob: where the contents are: `.penstock/blobs`, for tasks read them there.
        state: the project's `.penstock`.
    """

    def __init__(self, meta: Meta, blob: Blob, state: Path) -> None:
        self._meta, self._blob, self._file = meta, blob, state / RESOURCES_FILE
        self._write()

    def put(self, name: str, data: bytes | Path, *, author: str, reason: str) -> Resource:
        """Adds a version; the same content again adds none.

        Raises:
            WorkflowError: the name is none.
        """
        if not _NAME.match(name):
            raise WorkflowError(
                "a resource's name is letters, digits, _, - and .", found=repr(name), remedy="rename it"
            )
        newest = self._meta.get_definition(_PREFIX + name)
        staged = self._blob.put(f"resources/{name}/incoming", data)
        kept = f"resources/{name}/{staged.content_hash}"
        if kept not in set(self._blob.list(f"resources/{name}/")):
            self._blob.put(kept, data)
        self._blob.delete(staged.path)
        facts = {"size": staged.size, "hash": staged.content_hash}
        definition = self._meta.put_definition(
            _PREFIX + name,
            fingerprint(facts),
            msgspec.json.encode(facts).decode(),
            author=author,
            reason=reason,
            expect=newest.version if newest else 0,
        )
        self._write()
        return _resource(definition)

    def pinned(self, value: Any) -> Any:
        """A JSON value in which every `resource://NAME` names its version, the newest where it named none.

        Raises:
            WorkflowError: there is no such resource or version.
        """
        return replaced(value, lambda name, version: self.get(name, version).uri)

    def _write(self) -> None:
        found = {r.name: [version.content_hash for version in self.history(r.name)] for r in self.list()}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._file, msgspec.json.encode(found))

    def get(self, name: str, version: int | None = None) -> Resource:
        """A version, the newest by default.

        Raises:
            WorkflowError: there is none.
        """
        found = self._meta.get_definition(_PREFIX + name, version)
        if found is None:
            valid = [resource.name for resource in self.list()]
            asked = name if version is None else f"{name}@{version}"
            raise WorkflowError(f"the resource {asked!r}", found="none", remedy=nearest(name, valid))
        return _resource(found)

    def fetch(self, resource: Resource, target: Path) -> None:
        """Copies the content to a file, which appears only when it is whole and of the right hash."""
        path = f"resources/{resource.name}/{resource.content_hash}"
        self._blob.get_to(path, target, expect_hash=resource.content_hash)

    def history(self, name: str) -> list[Resource]:
        """Every version, oldest first."""
        return [_resource(d) for d in self._meta.list_definitions(_PREFIX + name)]

    def list(self) -> list[Resource]:
        """The newest version of every resource, by name."""
        return [_resource(d) for d in self._meta.list_definitions() if d.name.startswith(_PREFIX)]


def users(name: str, workflows: Iterable[WorkflowSpec]) -> list[str]:
    """The nodes, as `workflow.node`, whose parameters name a resource."""
    return [
        f"{spec.name}.{node.name}"
        for spec in workflows
        for node in spec.nodes
        if any(found == name for found, _ in references(node.parameters))
    ]


def _resource(definition: Definition) -> Resource:
    facts = msgspec.json.decode(definition.spec)
    return Resource(
        definition.name.removeprefix(_PREFIX),
        definition.version,
        facts["size"],
        facts["hash"],
        definition.author,
        definition.reason,
        definition.created_us,
    )
