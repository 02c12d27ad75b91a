"""Names of stored things and fingerprints of definitions."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import Any, NewType

from penstock.errors import DefinitionError

__all__ = ["Fingerprint", "Name", "fingerprint"]

Fingerprint = NewType("Fingerprint", str)

_PART = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """The full name of a stored thing: (environment, project, fork, name, version).

    >>> str(Name.parse("other_team/user_ctr@3"))
    'dev/other_team/main/user_ctr@3'
    """

    environment: str
    project: str
    fork: str
    name: str
    version: int = 1

    def __post_init__(self) -> None:
        for label in ("environment", "project", "fork", "name"):
            part = getattr(self, label)
            if not _PART.match(part):
                raise DefinitionError(
                    f"a {label} is lower-case letters, digits and _, starting with a letter, at most 63",
                    found=repr(part),
                    remedy="rename it",
                )
        if self.version < 1:
            raise DefinitionError("a version counts from 1", found=repr(self.version), remedy="use @1 or above")

    @classmethod
    def parse(cls, text: str, default: Name | None = None) -> Name:
        """Reads `[environment/][project/][fork/]name[@version]`; what is left out comes from `default`.

        With two parts the first is the project, with three project and fork.

        Raises:
            DefinitionError: the text is no legal name.
        """
        default = default or cls("dev", "default", "main", "x")
        path, _, version = text.partition("@")
        if version and not version.isdigit():
            raise DefinitionError("a version is a number after @", found=repr(text), remedy="write name@3")
        parts = path.split("/")
        match parts:
            case [name]:
                named = replace(default, name=name)
            case [project, name]:
                named = replace(default, project=project, name=name)
            case [project, fork, name]:
                named = replace(default, project=project, fork=fork, name=name)
            case [environment, project, fork, name]:
                named = cls(environment, project, fork, name)
            case _:
                raise DefinitionError(
                    "a name has at most four parts", found=repr(text), remedy="write environment/project/fork/name@1"
                )
        return replace(named, version=int(version) if version else 1)

    def __str__(self) -> str:
        return f"{self.environment}/{self.project}/{self.fork}/{self.name}@{self.version}"


def fingerprint(spec: Any) -> Fingerprint:
    """The fingerprint of plain data (dicts, lists, text, numbers, bools, None): 128 bits as hex.

    Equal data give equal fingerprints whatever the order of their dict keys.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Fingerprint(hashlib.blake2b(text.encode(), digest_size=16).hexdigest())
