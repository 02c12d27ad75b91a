"""Reads a project's folder of definitions into one frozen set."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from penstock.define.aggregate import Aggregate
from penstock.define.experiment import Endpoint, Experiment
from penstock.define.function import Function
from penstock.define.model import Model
from penstock.define.relation import Group, Joined
from penstock.define.sample import Samples
from penstock.define.stream import Stream, Table
from penstock.define.view import View
from penstock.define.workflow import Workflow
from penstock.errors import DefinitionError, Location, nearest

__all__ = ["LOCK_FILE", "Definition", "Definitions", "load", "read_lock"]

LOCK_FILE = "penstock.lock"

Definition = Stream | Table | Joined | Group | View | Samples | Model | Experiment | Endpoint | Workflow
_KINDS = (Stream, Table, Joined, Group, View, Samples, Model, Experiment, Endpoint, Workflow)


@dataclass(frozen=True, eq=False)
class Definitions:
    """All named definitions of a project.

    Attributes:
        root: the project's folder.
        named: by stored name, in the order of their first mention.
        functions, aggregates: the user's own code, by name.
        schemas: the pinned (column -> type) of each stream and table, from penstock.lock.
    """

    root: Path
    named: Mapping[str, Definition]
    functions: Mapping[str, Function] = field(default_factory=dict)
    aggregates: Mapping[str, type[Aggregate]] = field(default_factory=dict)
    schemas: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Definition:
        try:
            return self.named[name]
        except KeyError:
            raise DefinitionError(
                f"no definition is called {name!r} in {self.root}",
                found=f"{len(self.named)} definitions",
                remedy=nearest(name, self.named),
            ) from None

    @classmethod
    def of(
        cls,
        *definitions: Definition,
        functions: tuple[Function, ...] = (),
        root: str | Path = ".",
        schemas: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Definitions:
        """A set made of the given definitions and all that they mention.

        Raises:
            DefinitionError: two different definitions have one name.
        """
        named: dict[str, Definition] = {}
        aggregates: dict[str, type[Aggregate]] = {}
        seen: set[int] = set()
        for value in definitions:
            for found in _mentioned(value, seen):
                if isinstance(found, type):
                    aggregates.setdefault(found.__name__, found)
                else:
                    _put(named, found)
        return cls(
            Path(root),
            MappingProxyType(named),
            MappingProxyType({f.name: f for f in functions}),
            MappingProxyType(aggregates),
            MappingProxyType(dict(schemas or {})),
        )


def _put(named: dict[str, Definition], found: Definition) -> None:
    former = named.setdefault(found.name, found)
    if former is not found:
        raise DefinitionError(
            f"two definitions are called {found.name!r}",
            found=f"one at {former.at}",
            remedy="rename one; names are shared by all kinds",
            where=found.at,
        )


def _mentioned(value: Any, seen: set[int]) -> Iterator[Definition | type[Aggregate]]:
    """Depth first, what a definition rests on before itself."""
    if isinstance(value, type):
        if issubclass(value, Aggregate) and value is not Aggregate:
            yield value
        return
    if isinstance(value, tuple | list):
        for item in value:
            if type(item) not in _PLAIN:
                yield from _mentioned(item, seen)
        return
    names = _field_names(type(value))
    if not names or id(value) in seen:
        return
    seen.add(id(value))
    for name in names:
        part = getattr(value, name)
        if type(part) not in _PLAIN:
            yield from _mentioned(part, seen)
    if isinstance(value, _KINDS):
        yield value


_PLAIN = frozenset({str, int, float, bool, type(None), Location})


_FIELDS: dict[type, tuple[str, ...]] = {}


def _field_names(kind: type) -> tuple[str, ...]:
    if kind not in _FIELDS:
        _FIELDS[kind] = tuple(f.name for f in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else ()
    return _FIELDS[kind]


def read_lock(root: Path) -> dict[str, dict[str, str]]:
    """The pinned schemas of a project: {stream: {column: type}}; empty without a lock file.

    Raises:
        DefinitionError: the file is of a newer format or is damaged.
    """
    path = root / LOCK_FILE
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text())
        if data["format"] != 1:
            raise DefinitionError(
                f"{path} is of format 1", found=repr(data["format"]), remedy="upgrade penstock", where=str(path)
            )
        return {str(name): dict(columns) for name, columns in data["schemas"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DefinitionError(
            f"{path} holds the pinned schemas as JSON",
            found=repr(error),
            remedy="restore it, or run `penstock add` again",
            where=str(path),
        ) from error


_serial = itertools.count()


def load(path: str | Path) -> Definitions:
    """Reads a project: `definitions.py` in a folder, or the one file named, and penstock.lock beside it.

    Raises:
        DefinitionError: there is none, or it raises when read (with the file and line that did).
    """
    path = Path(path)
    file = path / "definitions.py" if path.is_dir() else path
    if not file.exists():
        raise DefinitionError(
            f"a project's definitions are in {file}",
            found="no such file",
            remedy="run `penstock new` or name another folder",
        )
    root = file.parent.resolve()
    module = _run(file, root)
    values = list(vars(module).values())
    functions = tuple(v for v in values if isinstance(v, Function))
    definitions = Definitions.of(
        *[v for v in values if isinstance(v, _KINDS)], functions=functions, root=root, schemas=read_lock(root)
    )
    own = {v.__name__: v for v in values if isinstance(v, type) and issubclass(v, Aggregate) and v is not Aggregate}
    return dataclasses.replace(definitions, aggregates=MappingProxyType({**own, **definitions.aggregates}))


def _run(file: Path, root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_penstock_project_{next(_serial)}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(root))
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except DefinitionError:
        raise
    except (Exception, SystemExit) as error:  # a project's file may raise anything; it is told with its own line
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(root)]
        line = error.lineno if isinstance(error, SyntaxError) and error.lineno else frames[-1].lineno if frames else 1
        raise DefinitionError(
            f"{file.name} could not be read",
            found=f"{type(error).__name__}: {error}",
            remedy="mend this line",
            where=Location(str(file), line or 1),
        ) from error
    finally:
        sys.path.remove(str(root))
    return module
