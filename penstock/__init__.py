"""Penstock: real-time machine learning. Define once; live, history and request give one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock import define
from penstock.define import *  # noqa: F403  the surface a user writes is `define`'s
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.doors.client import Client
    from penstock.doors.project import Project

__version__ = "0.1.0"

__all__ = [*define.__all__, "Client", "PenstockError", "open"]  # noqa: PLE0604  names of the surface


def open(path: str | Path = ".") -> Project:
    """Opens a project's folder: `p = ps.open(".")`. Needs no server, writes nothing."""
    from penstock.doors.project import open_project  # definitions import without Arrow

    return open_project(path)


def __getattr__(name: str) -> Any:
    if name == "Client":
        from penstock.doors.client import Client  # definitions import without HTTP

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
