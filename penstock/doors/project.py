"""A project in a notebook: definitions, plan, features, explanations. Without a server, and beside one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from html import escape
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from penstock.define.project import Definition, Definitions
from penstock.define.relation import Group, Lookup
from penstock.doors.deployment import Deployment
from penstock.doors.explain import Explanation, explain
from penstock.doors.frames import Frame, html_table
from penstock.doors.rows import resolver_for
from penstock.doors.shown import instant_text
from penstock.doors.sources.texts import parse_texts
from penstock.engine.history import History
from penstock.errors import DoorError, EngineError, NotBuiltError, nearest
from penstock.plan import Plan
from penstock.plan.describe import render
from penstock.plan.expr.types import Type
from penstock.plan.ir import GroupPlan, ViewPlan
from penstock.plan.nodes import kind_of, named_nodes
from penstock.plan.scope import shown_type

if TYPE_CHECKING:
    from penstock.engine.online import ReadLog

__all__ = ["Project", "open_project", "read_instant_us", "read_values"]

Instant: TypeAlias = str | datetime | int


class Project:
    """A project's folder, opened for asking. It writes nothing.

    Rows come from the log where they were loaded, else from the sources themselves.

    >>> Project("examples/flights")["by_tail"].version
    1
    """

    def __init__(self, root: str | Path = ".") -> None:
        self._deployment = Deployment(root)
        _ = self._deployment.definitions  # what is wrong with them is told at once

    def __enter__(self) -> Project:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the log."""
        self._deployment.close()

    @property
    def root(self) -> Path:
        """Its folder."""
        return self._deployment.root

    @property
    def definitions(self) -> Definitions:
        """Its definitions."""
        return self._deployment.definitions

    @property
    def plan(self) -> Plan:
        """The checked plan.

        Raises:
            PlanError: the definitions do not fit each other.
        """
        return self._deployment.plan

    def __getitem__(self, name: str) -> Any:
        """A definition by its stored name: `p["by_tail"]`."""
        return self.definitions[name]

    def now_us(self) -> int:
        """The present instant of the deployment's clock, UTC microseconds."""
        return self._deployment.clock.now_us()

    def reload(self) -> Project:
        """The project as it is on disk now."""
        self.close()
        return Project(self.root)

    @cached_property
    def _history(self) -> History:
        return History(self.plan, resolver_for(self._deployment), clock=self._deployment.clock)

    def features(
        self, what: str | Definition | Lookup, queries: Any = None, *, at: Instant | None = None,
        known: Instant | None = None, q: str = "q", a: str | None = None, **keys: Any,
    ) -> Frame:  # fmt: skip
        """Features of a group or a view, point in time.

        Args:
            what: a group or view, by name or as defined; `by_tail["n_12h"]` gives some of its columns.
            queries: a table (Arrow, Polars, pandas) or a Parquet file with the keys (of a view: its inputs) and `q`;
                without it the keys given by name at `at`, or, of a group, every key at `at`.
            at: the instant that cuts event time: "2013-03-01T12:00Z", a datetime with a zone, or microseconds.
            known: the instant that cuts knowledge; `at` by default.
            q, a: columns of `queries` with these instants.

        Raises:
            EngineError: there is no such group or view, or a key is missing.
        """
        plan, columns = self._asked(what)
        types = {c.name: shown_type(c) for c in plan.outputs.columns}
        prefix = f"{plan.name.name}." if isinstance(plan, GroupPlan) else ""
        lineage = {name: plan.lineage.get(prefix + name, ()) for name in types}

        def make() -> pa.Table:
            found = self._answer(plan, queries, (at, known), (q, a), keys)
            if columns is None:
                return found
            return found.select([n for n in found.column_names if n not in types or n in columns])

        title = f"{plan.name.name}" + (f" at {_shown_instant(at)}" if at is not None else "")
        return Frame(title, make, types=types, lineage=lineage)

    def now(self, what: str | Definition, *, logged: bool = False, **keys: Any) -> Frame:
        """Features at this instant, read from the state of a live job; each value with its status.

        Args:
            what: a group or a view.
            logged: keep the read, so that `penstock features replay-check` asks history the same; writes a small file.
            keys: the key, or the view's inputs, by name.

        Raises:
            EngineError: no live job keeps it.
        """
        plan, _ = self._asked(what)
        _request(plan, keys)  # what does not fit is told by its name
        reads = _new_read_log(self._deployment) if logged else None
        online = self._deployment.online(reads)
        if online is None:
            raise EngineError(
                f"a live job keeps {plan.name.name}",
                found="none was started here",
                remedy="penstock features live, or ask history: at=...",
            )
        try:
            if isinstance(plan, GroupPlan):
                found = online.group(plan.name.name, *(keys[name] for name in plan.key_names))
            else:
                found = online.view(plan.name.name, keys)
            table = found.table(statuses=True)
        finally:
            online.close()
            if reads is not None:
                reads.close()
        types = {c.name: shown_type(c) for c in plan.outputs.columns}
        title = (
            f"{plan.name.name} at {instant_text(found.q_us)}, knowing what came until {instant_text(found.known_us)}"
        )
        return Frame(title, lambda: table, types=types)

    @property
    def is_live(self) -> bool:
        """Whether a live job was started on this project."""
        return self._deployment.has_live

    def read(self, what: str | Definition, *, known: Instant | None = None) -> Frame:
        """The rows of a stream, table, join or group, in the order of rows.

        Args:
            known: only rows that count at this instant; by default every version, with `_known_until`.
        """
        name = _name(what)
        found = self.plan.relations.get(name)
        if found is None:
            raise EngineError(
                f"{name!r} is a stream, table, join or group", found="none", remedy=nearest(name, self.plan.relations)
            )
        types = {c.name: shown_type(c) for c in found.schema.columns}
        a_us = None if known is None else read_instant_us(known)
        return Frame(name, lambda: self._history.relation(found, a_us=a_us), types=types, lineage=found.lineage)

    def explain(self, column: str | Lookup, *, at: Instant, known: Instant | None = None, **key: Any) -> Explanation:
        """Why a feature has its value: rows counted, and rows not counted with their reasons.

        Args:
            column: `by_tail["mean_12h"]`, or "by_tail.mean_12h".
            at, known: as in `features`.
            key: the key, by name.
        """
        group, name = _one_column(column)
        return explain(
            self.plan,
            self._history,
            f"{group}.{name}",
            key,
            q_us=read_instant_us(at),
            a_us=None if known is None else read_instant_us(known),
        )

    def samples(self, *_: Any, **__: Any) -> Frame:
        """Sample sets come with the samples issue.

        Raises:
            NotBuiltError: always.
        """
        raise NotBuiltError(
            "sample sets are made in a notebook", found="not built yet", remedy="p.features(view, queries)"
        )

    def _asked(self, what: str | Definition | Lookup) -> tuple[GroupPlan | ViewPlan, tuple[str, ...] | None]:
        columns = None
        if isinstance(what, Lookup):
            if not isinstance(what.source, Group):
                raise EngineError("columns of a group", found=f"of {what.source.name}", remedy="name a group or a view")
            columns, what = what.columns, what.source
        name = _name(what)
        found = self.plan.groups.get(name) or self.plan.views.get(name)
        if found is None:
            known = [*self.plan.groups, *self.plan.views]
            raise EngineError(f"{name!r} is a group or a view", found="none", remedy=nearest(name, known))
        return found, columns

    def _answer(
        self,
        plan: GroupPlan | ViewPlan,
        queries: Any,
        instants: tuple[Instant | None, Instant | None],
        columns: tuple[str, str | None],
        keys: Mapping[str, Any],
    ) -> pa.Table:
        at, known = instants
        ask = self._history.group if isinstance(plan, GroupPlan) else self._history.view
        if queries is not None:
            if keys or at is not None:
                raise DoorError(
                    "keys and instants come from the queries, or by name",
                    found="both",
                    remedy="leave out one of them",
                )
            found: pa.Table = ask(plan, _as_arrow(queries), q=columns[0], a=columns[1]).table()  # type: ignore[arg-type]
            return found
        if at is None:
            raise DoorError("an instant to ask at", found="none", remedy='say at="2013-03-01T12:00Z", or give queries')
        q_us = read_instant_us(at)
        a_us = q_us if known is None else read_instant_us(known)
        if isinstance(plan, GroupPlan) and not keys:
            return self._history.all_keys(plan, q_us, a_us=a_us).table().drop_columns(["q", "a"])
        table = pa.table(_request(plan, keys) | {"q": _instants(q_us), "a": _instants(a_us)})
        found = ask(plan, table, q="q", a="a").table()  # type: ignore[arg-type]
        return found.drop_columns(["q", "a"])

    def __repr__(self) -> str:
        return f"Project {self.root}\n\n{render(self.plan)}"

    def _repr_html_(self) -> str:
        rows = []
        for name, node in named_nodes(self.plan).items():
            schema = node.outputs if isinstance(node, GroupPlan | ViewPlan) else node.schema
            prefix = f"{name}." if isinstance(node, GroupPlan) else ""
            lines = []
            for column in schema.columns:
                source = ", ".join(node.lineage.get(prefix + column.name, ()))
                source = "" if source == f"{name}.{column.name}" else source
                lines.append((column.name, shown_type(column), source))
            rows.append((name, kind_of(node), lines))
        head = "".join(f"<th style='text-align:left;padding-right:12px'>{h}</th>" for h in ("name", "kind", "columns"))
        body = "".join(
            f"<tr style='vertical-align:top'><td><b>{escape(n)}</b></td><td>{escape(k)}</td><td>{_columns(c)}</td></tr>"
            for n, k, c in rows
        )
        return f"<div><b>{escape(str(self.root))}</b></div><table><tr>{head}</tr>{body}</table>"


def open_project(path: str | Path = ".") -> Project:
    """Opens a project's folder for a notebook.

    Raises:
        NotBuiltError: a URL: the team's server comes later.
        DefinitionError: the folder holds no definitions.
    """
    if "://" in str(path):
        raise NotBuiltError("a team's server is opened by URL", found=repr(path), remedy='open a folder: ps.open(".")')
    return Project(path)


def read_instant_us(instant: Instant) -> int:
    """An instant as UTC microseconds.

    Raises:
        DoorError: it has no zone, or is no time.

    >>> read_instant_us("2013-03-01T12:00Z")
    1362139200000000
    """
    if isinstance(instant, int):
        return int(instant)
    try:
        found = datetime.fromisoformat(instant) if isinstance(instant, str) else instant
        if found.tzinfo is None:
            raise ValueError("no zone")
    except (ValueError, TypeError, AttributeError) as error:
        raise DoorError(
            "an instant is ISO 8601 with a zone, a datetime with a zone, or microseconds since 1970",
            found=f"{instant!r}: {error}",
            remedy="write 2013-03-01T12:00Z",
        ) from error
    delta = found.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def read_values(plan: Plan, name: str, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Values written as text, in the types of a group's key or of a view's inputs.

    Raises:
        EngineError: a name or a value does not fit.
    """
    kinds = _kinds(plan.groups.get(name) or plan.views.get(name))
    values: dict[str, Any] = {}
    for key, text in pairs:
        if key not in kinds:
            raise EngineError(f"{name} takes {key!r}", found="it does not", remedy=nearest(key, kinds))
        kind = kinds[key].arrow
        parsed, bad = parse_texts(pa.array([text], pa.string()), kind)
        if bad is not None:
            raise EngineError(f"{key} is {kinds[key]}", found=repr(text), remedy="give a value of that type")
        values[key] = parsed[0].as_py()
    return values


def _kinds(plan: GroupPlan | ViewPlan | None) -> dict[str, Type]:
    """The types of what a request brings."""
    match plan:
        case GroupPlan():
            return dict(zip(plan.key_names, plan.key_types, strict=True))
        case ViewPlan():
            return {c.name: c.type for c in plan.inputs.columns}
    return {}


def _new_read_log(deployment: Deployment) -> ReadLog:
    """A read log of this process alone."""
    from penstock.engine.online import ReadLog  # the kernel is loaded by those that read it

    return ReadLog(deployment.reads, name=uuid.uuid4().hex[:12])


def _shown_instant(instant: Instant) -> str:
    return str(instant_text(read_instant_us(instant)))


def _instants(us: int) -> pa.Array:
    return pa.array([us], pa.timestamp("us", "UTC"))


def _name(what: Any) -> str:
    return what if isinstance(what, str) else str(what.name)


def _one_column(column: str | Lookup) -> tuple[str, str]:
    if isinstance(column, str):
        group, dot, name = column.partition(".")
        if dot:
            return group, name
    elif column.columns is not None and len(column.columns) == 1:
        return str(column.source.name), column.columns[0]
    raise EngineError(
        "one column of a group", found=repr(column)[:200], remedy='write by_tail["mean_12h"] or "by_tail.mean_12h"'
    )


def _request(plan: GroupPlan | ViewPlan, keys: Mapping[str, Any]) -> dict[str, pa.Array]:
    """One row of the key, or of a view's inputs."""
    kinds = _kinds(plan)
    optional = {c.name for c in plan.inputs.columns if c.nullable} if isinstance(plan, ViewPlan) else set()
    for name in keys:
        if name not in kinds:
            raise EngineError(f"{plan.name.name} takes {name!r}", found="it does not", remedy=nearest(name, kinds))
    missing = [name for name in kinds if name not in keys and name not in optional]
    if missing:
        raise EngineError(
            f"{plan.name.name} needs {', '.join(kinds)}", found=repr(sorted(keys)), remedy=f"say {missing[0]}=..."
        )
    request = {}
    for name, kind in kinds.items():
        try:
            request[name] = pa.array([keys.get(name)], kind.arrow)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise EngineError(
                f"{name} is {kind}", found=repr(keys[name]), remedy="give a value of that type"
            ) from error
    return request


def _as_arrow(queries: Any) -> Any:
    """Polars and pandas frames as Arrow; paths as they are."""
    if isinstance(queries, pa.Table | pa.RecordBatch | str | Path):
        return queries
    if hasattr(queries, "to_arrow"):
        return queries.to_arrow()
    if hasattr(queries, "__arrow_c_stream__"):
        return pa.table(queries)
    return pa.Table.from_pandas(queries, preserve_index=False)


def _columns(lines: list[tuple[str, str, str]]) -> str:
    return html_table([], [(name, kind, f"from {source}" if source else "") for name, kind, source in lines])
