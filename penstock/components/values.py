"""What a task asks for by name while it runs: the dictionary, secrets, resources."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from penstock.errors import WorkflowError, nearest

__all__ = ["DICTIONARY_FILE", "RESOURCES_FILE", "Dictionary", "find_resource", "find_secret", "references", "replaced"]
__all__ += ["secret_names", "set_secret", "with_resources"]

DICTIONARY_FILE: Final = "dictionary.json"
"""In the state folder: key -> value, replaced whole by the server at every change, so that tasks need no database."""
RESOURCES_FILE: Final = "resources.json"
"""In the state folder: name -> content hashes of its versions, oldest first."""
_REFERENCE: Final = re.compile(r"resource://([A-Za-z0-9][A-Za-z0-9_.-]*?)(?:@(\d+))?(?![A-Za-z0-9_.@-])")
_SECRET_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Dictionary:
    """Run-time values of a deployment, read anew at every look.

    Args:
        state: the project's `.penstock`.
    """

    def __init__(self, state: Path) -> None:
        self._file = state / DICTIONARY_FILE

    def __getitem__(self, key: str) -> Any:
        """The present value.

        Raises:
            WorkflowError: there is no such key.
        """
        try:
            values = msgspec.json.decode(self._file.read_bytes(), type=dict[str, Any])
        except FileNotFoundError:
            values = {}
        if key not in values:
            raise WorkflowError(f"the dictionary has {key!r}", found="no such key", remedy=nearest(key, values))
        return values[key]


def find_secret(state: Path, name: str) -> str:
    """A secret: from the variable `PENSTOCK_SECRET_NAME`, else a file `NAME`, without its last line break.

    Files are looked for in the folder that `PENSTOCK_SECRETS` names (where a vault's agent puts them), then in
    `.penstock/secrets`; there only the owner may be able to read them.

    Raises:
        WorkflowError: there is no such secret, or others can read its file.
    """
    if not _SECRET_NAME.fullmatch(name):
        raise WorkflowError("a secret's name is letters, digits, '_', '-' and '.'", found=repr(name))
    variable = "PENSTOCK_SECRET_" + re.sub(r"[-.]", "_", name).upper()
    if (value := os.environ.get(variable)) is not None:
        return value
    mounted = os.environ.get("PENSTOCK_SECRETS")
    for folder in [*([Path(mounted)] if mounted else []), state / "secrets"]:
        file = folder / name
        if file.is_file():
            if folder == state / "secrets" and stat.S_IMODE(file.stat().st_mode) & 0o077:
                raise WorkflowError(
                    f"only the owner reads the secret {name!r}",
                    found=f"mode {stat.S_IMODE(file.stat().st_mode):o}",
                    remedy=f"chmod 600 {file}",
                )
            return file.read_text().removesuffix("\n")
    raise WorkflowError(
        f"the secret {name!r}",
        found="none",
        remedy=f"set {variable}, or write it to {state / 'secrets' / name} (mode 0600)",
    )


def set_secret(state: Path, name: str, value: str | None) -> None:
    """Keeps a secret in `.penstock/secrets`, readable by the owner only; None takes it away.

    Raises:
        WorkflowError: the name is none.
    """
    if not _SECRET_NAME.fullmatch(name):
        raise WorkflowError("a secret's name is letters, digits, '_', '-' and '.'", found=repr(name))
    folder = state / "secrets"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / name
    if value is None:
        file.unlink(missing_ok=True)
        return
    part = folder / f".{name}.{os.getpid()}"
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(value + "\n")
    part.replace(file)


def secret_names(state: Path) -> list[str]:
    """The names of the secrets that are kept here; never their values."""
    folder = state / "secrets"
    return sorted(file.name for file in folder.iterdir() if not file.name.startswith(".")) if folder.is_dir() else []


def references(value: Any) -> Iterator[tuple[str, int | None]]:
    """(name, version or None for the newest) of every `resource://` that a JSON value names."""
    match value:
        case str():
            for match in _REFERENCE.finditer(value):
                yield match[1], int(match[2]) if match[2] else None
        case dict():
            for part in value.values():
                yield from references(part)
        case list() | tuple():
            for part in value:
                yield from references(part)


def replaced(value: Any, by: Callable[[str, int | None], str]) -> Any:
    """A JSON value with each `resource://` replaced by what `by(name, version)` says."""
    match value:
        case str():
            return _REFERENCE.sub(lambda match: by(match[1], int(match[2]) if match[2] else None), value)
        case dict():
            return {key: replaced(part, by) for key, part in value.items()}
        case list() | tuple():
            return [replaced(part, by) for part in value]
    return value


def with_resources(state: Path, value: Any) -> Any:
    """A JSON value with each `resource://NAME@VERSION` replaced by the path of its file."""
    return replaced(value, lambda name, version: str(find_resource(state, name, version)))


def find_resource(state: Path, name: str, version: int | None = None) -> Path:
    """The file of a resource's version, the newest by default; it must not be written.

    Raises:
        WorkflowError: there is no such resource.
    """
    try:
        hashes = msgspec.json.decode((state / RESOURCES_FILE).read_bytes(), type=dict[str, list[str]])
    except FileNotFoundError:
        hashes = {}
    versions = hashes.get(name, [])
    number = version if version is not None else len(versions)
    if not 1 <= number <= len(versions):
        asked = name if version is None else f"{name}@{version}"
        raise WorkflowError(f"the resource {asked!r}", found="none", remedy=nearest(name, hashes))
    return state / "blobs" / "resources" / name / versions[number - 1]
