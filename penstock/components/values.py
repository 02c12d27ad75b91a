"""What a task asks for by name while it runs: the dictionary and secrets."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any, Final

import msgspec

from penstock.errors import WorkflowError, nearest

__all__ = ["DICTIONARY_FILE", "Dictionary", "find_secret"]

DICTIONARY_FILE: Final = "dictionary.json"
"""In the state folder: key -> value, replaced whole by the server at every change, so that tasks need no database."""
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
