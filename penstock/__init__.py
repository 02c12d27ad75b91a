"""Penstock: real-time machine learning. Define once; live, history and request give one answer."""

from __future__ import annotations

from penstock import define
from penstock.define import *  # noqa: F403  the surface a user writes is `define`'s
from penstock.errors import PenstockError

__version__ = "0.1.0"

__all__ = [*define.__all__, "PenstockError"]  # noqa: PLE0604  names of the surface
