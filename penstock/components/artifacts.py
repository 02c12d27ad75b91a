"""Artifacts among JSON values: how a typed reference travels between nodes, and how its content is named."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from penstock.components.contract import Artifact
from penstock.errors import WorkflowError

__all__ = ["ARTIFACT", "artifacts_in", "content_hash", "local_path", "pack_value", "unpack_value"]

ARTIFACT: Final = "$artifact"
"""The one key of an object that stands for an artifact."""


def pack_value(value: Any) -> Any:
    """A value as JSON data; artifacts, also within lists and objects, as `{"$artifact": {...}}`.

    Raises:
        WorkflowError: it is no JSON value.

    >>> pack_value([1, Artifact(kind="file", uri="file:///a")])
    [1, {'$artifact': {'kind': 'file', 'uri': 'file:///a', 'version': ''}}]
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Artifact():
            return {ARTIFACT: value.model_dump()}
        case list() | tuple():
            return [pack_value(v) for v in value]
        case dict():
            if not all(isinstance(k, str) for k in value):
                raise WorkflowError("an object with text for keys", found=repr(value)[:200])
            return {k: pack_value(v) for k, v in value.items()}
    raise WorkflowError(
        "an output is a JSON value or an artifact",
        found=f"{type(value).__name__} {repr(value)[:100]}",
        remedy="put plain data, or write a file and hand it over: context.output(name)",
    )


def unpack_value(value: Any) -> Any:
    """The value again, with its artifacts.

    >>> unpack_value({"a": {"$artifact": {"kind": "table", "uri": "items", "version": "3"}}})
    {'a': Artifact(kind='table', uri='items', version='3')}
    """
    if isinstance(value, dict):
        if value.keys() == {ARTIFACT}:
            return Artifact.model_validate(value[ARTIFACT])
        return {k: unpack_value(v) for k, v in value.items()}
    return [unpack_value(v) for v in value] if isinstance(value, list) else value


def artifacts_in(value: Any) -> list[Artifact]:
    """All artifacts of a packed value: its lineage."""
    if isinstance(value, dict):
        if value.keys() == {ARTIFACT}:
            return [Artifact.model_validate(value[ARTIFACT])]
        return [a for v in value.values() for a in artifacts_in(v)]
    return [a for v in value for a in artifacts_in(v)] if isinstance(value, list) else []


def local_path(artifact: Artifact) -> Path:
    """Where a file or folder lies on this machine.

    Raises:
        WorkflowError: it is another kind of artifact, or lies elsewhere.
    """
    parts = urlsplit(artifact.uri)
    if artifact.kind not in ("file", "folder") or parts.scheme != "file":
        raise WorkflowError("a file or folder of this machine", found=f"{artifact.kind} {artifact.uri}")
    return Path(unquote(parts.path))


def content_hash(path: Path) -> str:
    """Names the content of a file, or of a folder with all below it.

    >>> content_hash(Path("/dev/null"))[:15]
    'sha256:e3b0c442'
    """
    if not path.is_dir():
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    whole = hashlib.sha256()
    for below in sorted(p for p in path.rglob("*") if not p.is_dir()):
        whole.update(f"{below.relative_to(path)}\0{content_hash(below)}\n".encode())
    return f"sha256:{whole.hexdigest()}"
