"""Writes proposals into a project: statements behind what stands in definitions.py, schemas into penstock.lock."""

from __future__ import annotations

import ast
import json
import keyword
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penstock.define.project import LOCK_FILE, Definitions, read_lock
from penstock.define.source import Source
from penstock.define.stream import stream, table
from penstock.doors.propose.profile import words
from penstock.doors.propose.proposal import Proposal
from penstock.errors import DefinitionError, Location
from penstock.plan.planner import plan

__all__ = ["Written", "write"]

_DEFINITIONS = "definitions.py"


@dataclass(frozen=True)
class Written:
    """What was written, or would be.

    Attributes:
        text: the lines added to definitions.py; "" where nothing is new.
        added, standing: names of definitions added, and of those that stood there already and were left alone.
        pinned: names whose schemas were pinned.
    """

    path: Path
    text: str
    added: tuple[str, ...]
    standing: tuple[tuple[str, int], ...]
    pinned: tuple[str, ...]


def write(proposals: Sequence[Proposal], root: Path, *, dry_run: bool = False) -> Written:
    """Adds what is new; nothing that stands is changed, and either all is written or nothing.

    Raises:
        DefinitionError: definitions.py does not parse.
        PlanError: a proposal does not pass the planner; nothing is written.
    """
    path = root / _DEFINITIONS
    before = path.read_text() if path.exists() else ""
    module = _Module(before, path)
    lock = read_lock(root)
    standing = [(p.name, module.definitions[p.name]) for p in proposals if p.name in module.definitions]
    new = _renamed([p for p in proposals if p.name not in module.definitions])
    for proposal in new:
        check(proposal, root)
    pinned = {p.name: p.schema for p in proposals if p.name not in lock} | {p.name: p.schema for p in new}
    text = module.statements(new)
    if not dry_run:
        if pinned:
            _replace(root / LOCK_FILE, _lock_text({**lock, **pinned}))
        if text:
            _replace(path, before + text)
    return Written(path, text, tuple(p.name for p in new), tuple(standing), tuple(pinned))


def check(proposal: Proposal, root: Path) -> None:
    """Plans a proposal by itself.

    Raises:
        PlanError: it does not pass.
    """
    arguments: dict[str, Any] = dict(proposal.arguments)
    make = stream if proposal.kind == "stream" else table
    plan(Definitions.of(make(proposal.name, proposal.source, **arguments, schema=proposal.schema), root=root))


def _renamed(proposals: list[Proposal]) -> list[Proposal]:
    """The proposals with names that differ."""
    seen: set[str] = set()
    found = []
    for proposal in proposals:
        name, n = proposal.name, 2
        while name in seen:
            name, n = f"{proposal.name}_{n}", n + 1
        seen.add(name)
        found.append(replace(proposal, name=name))
    return found


class _Module:
    """What a definitions.py names already."""

    def __init__(self, text: str, path: Path) -> None:
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            raise DefinitionError(
                f"{path.name} is Python",
                found=error.msg,
                remedy="mend this line, then add again",
                where=Location(str(path), error.lineno or 1),
            ) from None
        self.text = text
        self.variables: set[str] = set()
        self.definitions: dict[str, int] = {}
        self.entities: set[str] = set()
        self.alias: str | None = None
        for node in ast.walk(tree):
            match node:
                case ast.Import(names=names):
                    self.variables |= {(a.asname or a.name).partition(".")[0] for a in names}
                    self.alias = next((a.asname or a.name for a in names if a.name == "penstock"), self.alias)
                case ast.ImportFrom(names=names):
                    self.variables |= {a.asname or a.name for a in names}
                case ast.Name(id=name, ctx=ast.Store()):
                    self.variables.add(name)
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    self.variables.add(name)
                case ast.Call(func=ast.Attribute(attr=called) | ast.Name(id=called), args=args):
                    self._called(called, [a.value for a in args if isinstance(a, ast.Constant)], node.lineno)

    def _called(self, called: str, texts: list[Any], line: int) -> None:
        if called in ("entity", "entities"):
            self.entities |= {str(t) for t in texts}
        elif called in ("stream", "table", "join", "features", "view", "samples") and texts:
            self.definitions.setdefault(str(texts[0]), line)

    def statements(self, proposals: Sequence[Proposal]) -> str:
        """The lines to add behind the text."""
        if not proposals:
            return ""
        lines = []
        alias = self.alias
        if alias is None:
            alias = "ps"
            lines += ["import penstock as ps", ""]
        for proposal in proposals:
            lines += [f"# {note}" for note in proposal.notes]
            lines.append(f"{self._variable(proposal.name)} = {_statement(proposal, alias)}")
        keys = list(dict.fromkeys(k for p in proposals if p.kind == "stream" for k in p.entities))
        keys = [k for k in keys if k not in self.entities and _entity_name(k) not in self.entities]
        plain = [k for k in keys if _entity_name(k) == k]
        if plain:
            names = ", ".join(self._variable(k, "_key") for k in plain)
            listed = ", ".join(f'"{k}"' for k in plain)
            made = f'{alias}.entity("{plain[0]}")' if len(plain) == 1 else f"{alias}.entities({listed})"
            lines += ["", f"{names} = {made}"]
        for key in keys:
            if key not in plain:
                name = _entity_name(key)
                lines.append(f"{self._variable(name, '_key')} = {alias}.entity({_text(name)}, {_text(key)})")
        gap = "" if not self.text else "\n" if self.text.endswith("\n") else "\n\n"
        return gap + "\n".join(lines) + "\n"

    def _variable(self, name: str, ending: str = "_rows") -> str:
        """A free Python name like the definition's."""
        found = name if not keyword.iskeyword(name) else name + ending
        while found in self.variables:
            found += ending
        self.variables.add(found)
        return found


def _entity_name(column: str) -> str:
    """A legal name of an entity: `CustomerID` -> `customer_id`."""
    name = "_".join(words(column))
    return name if name and not name[0].isdigit() else f"k_{name}"


def _statement(proposal: Proposal, alias: str) -> str:
    parts = [_text(proposal.name), _source(proposal.source, alias)]
    parts += [f"{name}={_text(value)}" for name, value in proposal.arguments]
    line = f"{alias}.{proposal.kind}({', '.join(parts)})"
    if len(line) + len(proposal.name) + 3 <= 120:
        return line
    return f"{alias}.{proposal.kind}(\n" + "".join(f"    {part},\n" for part in parts) + ")"


def _source(source: Source, alias: str) -> str:
    options = dict(source.options)
    if source.kind == "files":
        first = _text(str(options.pop("path")))
        return f"{alias}.files({', '.join([first, *(f'{k}={v!r}' for k, v in options.items())])})"
    return f"{alias}.sql({', '.join(_text(str(options[k])) for k in ('url', 'table', 'cursor'))})"


def _text(value: str) -> str:
    """A Python string literal with double quotes where that is plain."""
    plain = '"' not in value and "\\" not in value and value.isprintable()
    return f'"{value}"' if plain else repr(value)


def _lock_text(schemas: dict[str, dict[str, str]]) -> str:
    return json.dumps({"format": 1, "schemas": schemas}, indent=2, ensure_ascii=False) + "\n"


def _replace(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    part = path.with_name(f".{path.name}.tmp")
    try:
        with part.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
