"""What `penstock check` runs: the laws of users' aggregates over generated values, and sources against their pins."""

from __future__ import annotations

import copy
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from penstock.algebra.layout import Op
from penstock.define.aggregate import Aggregate
from penstock.doors.sources import open_source
from penstock.errors import PenstockError
from penstock.plan import Plan
from penstock.plan.expr.types import Type

if TYPE_CHECKING:
    from penstock.doors.deployment import Deployment

__all__ = ["Finding", "check_aggregate", "check_aggregates", "check_sources"]

_ROUNDS: Final = 60
_COST_ROWS: Final = 2_000


@dataclass(frozen=True)
class Finding:
    """One law of one subject, and whether it holds; `detail` says how it fails, or what it costs."""

    subject: str
    law: str
    ok: bool
    detail: str = ""


def check_aggregates(plan: Plan) -> list[Finding]:
    """The laws of every user's aggregate of a plan, over values of the types it is used with."""
    found: list[Finding] = []
    seen = set()
    for name, group in plan.groups.items():
        for measure in group.layout.measures:
            if measure.op != Op.CUSTOM or measure.slot is None:
                continue
            types = tuple(group.layout.slots[i].type for i in (measure.slot, *measure.slots))
            if (measure.custom, types) not in seen:
                seen.add((measure.custom, types))
                subject = f"{measure.custom}({', '.join(types)}) of {name}"
                found += check_aggregate(group.customs[measure.custom], [Type.parse(t) for t in types], subject)
    return found


def check_aggregate(aggregate: Aggregate, types: list[Type], subject: str) -> list[Finding]:
    """The laws of one aggregate; values are generated from a fixed seed, so a failure comes again.

    Results are compared after `finalize`, floats within 1e-9.
    """
    return [
        _law(subject, law, run, aggregate, types)
        for law, run in (
            ("a row by itself has a result", _single),
            ("states are plain data", _plain),
            ("lift and merge leave their arguments alone", _pure),
            ("merge is commutative", _commutative),
            ("merge is associative", _associative),
            ("any order and any batches give one result", _batched),
        )
    ] + [_cost(subject, aggregate, types)]


Run = Callable[[Aggregate, Callable[[], list[Any]]], str]


def _law(subject: str, law: str, run: Run, aggregate: Aggregate, types: list[Type]) -> Finding:
    rng = random.Random(20_130_101)  # noqa: S311  generates test values

    def row() -> list[Any]:
        return [_value(kind, rng) for kind in types]

    for _ in range(_ROUNDS):
        try:
            wrong = run(aggregate, row)
        except Exception as error:  # noqa: BLE001  a user's code may raise anything; it is told
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            return Finding(subject, law, False, wrong)
    return Finding(subject, law, True)


def _single(aggregate: Aggregate, row: Callable[[], list[Any]]) -> str:
    aggregate.finalize(aggregate.lift(*row()))
    return ""


def _plain(aggregate: Aggregate, row: Callable[[], list[Any]]) -> str:
    one, other = aggregate.lift(*row()), aggregate.lift(*row())
    for state in (one, aggregate.merge(one, other)):
        strange = next(_strange(state), None)
        if strange is not None:
            return f"{strange!r} in {state!r}"
    return ""


def _strange(state: Any) -> Iterator[Any]:
    match state:
        case None | bool() | int() | float() | str():
            return
        case list():
            for item in state:
                yield from _strange(item)
        case dict():
            for key, item in state.items():
                if not isinstance(key, str | int):
                    yield key
                yield from _strange(item)
        case _:
            yield state


def _pure(aggregate: Aggregate, row: Callable[[], list[Any]]) -> str:
    values = row()
    before = copy.deepcopy(values)
    p, q = aggregate.lift(*values), aggregate.lift(*row())
    if values != before:
        return f"lift changed {before!r} to {values!r}"
    p_before, q_before = copy.deepcopy(p), copy.deepcopy(q)
    merged = aggregate.merge(p, q)
    if p != p_before or q != q_before:
        return f"merge({p_before!r}, {q_before!r}) changed an argument"
    again = copy.deepcopy(merged)
    aggregate.finalize(merged)
    return "" if merged == again else f"finalize changed {again!r}"


def _commutative(aggregate: Aggregate, row: Callable[[], list[Any]]) -> str:
    p, q = _state(aggregate, row, 3), _state(aggregate, row, 2)
    one = aggregate.finalize(aggregate.merge(copy.deepcopy(p), copy.deepcopy(q)))
    other = aggregate.finalize(aggregate.merge(q, p))
    return "" if _same(one, other) else f"{one!r} one way, {other!r} the other"


def _associative(aggregate: Aggregate, row: Callable[[], list[Any]]) -> str:
    p, q, r = (_state(aggregate, row, n) for n in (2, 1, 3))
    merge = aggregate.merge
    one = aggregate.finalize(merge(merge(copy.deepcopy(p), copy.deepcopy(q)), copy.deepcopy(r)))
    other = aggregate.finalize(merge(p, merge(q, r)))
    return "" if _same(one, other) else f"{one!r} from (p q) r, {other!r} from p (q r)"


def _batched(aggregate: Aggregate, row: Callable[[], list[Any]]) -> str:
    rows = [row() for _ in range(12)]
    expected = aggregate.finalize(_fold(aggregate, [aggregate.lift(*r) for r in rows]))
    shuffled = rows[7:] + rows[:7][::-1]
    halves = [_fold(aggregate, [aggregate.lift(*r) for r in part]) for part in (shuffled[:5], shuffled[5:])]
    found = aggregate.finalize(_fold(aggregate, halves))
    return "" if _same(expected, found) else f"{expected!r} in order, {found!r} in two shuffled batches"


def _state(aggregate: Aggregate, row: Callable[[], list[Any]], n: int) -> Any:
    return _fold(aggregate, [aggregate.lift(*row()) for _ in range(n)])


def _fold(aggregate: Aggregate, states: list[Any]) -> Any:
    total = states[0]
    for state in states[1:]:
        total = aggregate.merge(total, state)
    return total


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        if not (isinstance(one, int | float) and isinstance(other, int | float)):
            return False
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    return bool(one == other)


def _cost(subject: str, aggregate: Aggregate, types: list[Type]) -> Finding:
    rng = random.Random(1)  # noqa: S311  generates test values
    rows = [[_value(kind, rng) for kind in types] for _ in range(_COST_ROWS)]
    try:
        start_s = time.process_time()
        state = _fold(aggregate, [aggregate.lift(*row) for row in rows])
        spent_us = (time.process_time() - start_s) / _COST_ROWS * 1e6
        size = len(json.dumps(state))
    except Exception as error:  # noqa: BLE001  a user's code may raise anything; it is told
        return Finding(subject, "cost", False, f"{type(error).__name__}: {error}")
    return Finding(subject, "cost", True, f"{spent_us:.1f} us a row; a state of {_COST_ROWS:,} rows has {size:,} bytes")


def _value(kind: Type, rng: random.Random) -> Any:
    """A value as an aggregate is given it: often small, so that values repeat."""
    match kind.name:
        case "bool":
            return rng.random() < 0.5
        case "int":
            return rng.choice([rng.randint(-3, 3), rng.randint(-(10**9), 10**9)])
        case "float":
            return rng.choice([float(rng.randint(-2, 2)), rng.uniform(-1e6, 1e6), rng.lognormvariate(0, 8)])
        case "text" | "json":
            return rng.choice(["", "a", "b", "é", f"k{rng.randint(0, 40)}"])
        case "list":
            return [_value(kind.element, rng) for _ in range(rng.randint(0, 3))]
        case "map":
            return {f"k{rng.randint(0, 5)}": _value(kind.element, rng) for _ in range(rng.randint(0, 3))}
    import pyarrow as pa

    whole = pa.scalar(rng.randint(0, 20_000), pa.int64())
    if kind.name == "bytes":
        return rng.randbytes(rng.randint(0, 4))
    if kind.name == "struct":
        return {name: _value(part, rng) for name, part in kind.args}
    if kind.name == "date":
        return whole.cast(pa.int32()).cast(kind.arrow).as_py()
    return whole.cast(kind.arrow).as_py()


def check_sources(deployment: Deployment) -> list[Finding]:
    """Whether each source can be read and still has the columns that are pinned."""
    found = []
    for name, source in deployment.sources.items():
        plugin, options = open_source(source.source, deployment.root)
        if plugin.pushed:
            continue
        try:
            columns = set(plugin.schema(options).names)
        except PenstockError as error:
            found.append(Finding(name, "its source can be read", False, str(error).replace("\n", " ")))
            continue
        missing = [c.name for c in source.schema.columns if c.name not in columns]
        new = sorted(columns - set(source.schema.names))
        detail = f"missing: {', '.join(missing)}" if missing else f"not pinned: {', '.join(new)}" if new else ""
        found.append(Finding(name, "its source has the pinned columns", not missing, detail))
    return found
