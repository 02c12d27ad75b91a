"""The compiled kernel: its C functions and memory helpers, typed as Any because cffi has no types."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from penstock.errors import EngineError

__all__ = ["ffi", "lib"]


def _load() -> Any:
    try:
        return import_module("penstock.algebra._kernel")
    except ModuleNotFoundError as error:
        raise EngineError(
            "the C kernel", found="no penstock/algebra/_kernel*.so", remedy="build it: make kernel"
        ) from error


_module = _load()
ffi: Any = _module.ffi
lib: Any = _module.lib
