"""Another system's window and last-join cases: each translated and answered alike, or refused with the reason.

The cases are in SQL, with frames that end at the current row, closed on both sides. A row there sees the rows inserted
before it; here it sees those known at its own position, which is the same thing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from penstock import define as ps
from penstock.define.entity import Entity
from penstock.define.project import Definitions
from penstock.define.window import Window
from penstock.engine.history import History
from penstock.plan.planner import plan

Case = Mapping[str, Any]
TYPES = {"int": "int", "smallint": "int", "bigint": "int", "float": "float", "double": "float", "string": "text",
         "timestamp": "int", "date": "text", "bool": "bool"}  # fmt: skip
AGGREGATES = {"sum": ps.sum, "count": ps.count, "min": ps.min, "max": ps.max, "avg": ps.mean}
UNITS = {"": "ms", "s": "s", "m": "min", "h": "h", "d": "d"}
WORDS = {"union": "union", "maxsize": "bounded count", " open ": "open edge", "limit": "limit",
         "first_value": "by place", "lag(": "by place"}  # fmt: skip
"""Words that a statement over windows is refused for."""

FAR_US = 4_102_444_800_000_000

REASONS = {
    "refused there": "the other system refuses the statement too",
    "float key": "keys are int, text, bool or date: a float is no identity",
    "instant key": "keys are int, text, bool or date: an instant is where a row is, not whose it is",
    "null key": "a null key has no features: rows without a key are nobody's",
    "skipped rows": "a window of rows ends at its newest row; one that leaves out the newest m has no use in serving",
    "no frame before": "a frame that ends after the current row would see the future",
    "open edge": "a window is closed left, right or both; there is no window open on both sides",
    "bounded count": "MAXSIZE cuts a window of time by a count: two windows there, one rule each here",
    "union": "one window over several tables: append them to one stream, where their order is decided once",
    "limit": "LIMIT picks some rows of a result; a feature has one value for each key and instant",
    "by place": "lag and positional first and last read a row by its place; last_n lists the newest rows",
    "expression": "an expression over aggregates stands in a view; a group has aggregates only",
    "inequality": "a read by key is by equality; a range is a window",
    "constant": "a read by key has no constants: filter the stream first",
    "chained join": "several joins are several reads of one view; the statement names its tables anew",
}


DIFFERS = {
    "test_window 21 ROWS": "a sum of 32-bit integers wraps there; here they are 64 bits, and overflow is null",
    "test_window 21 ROWS_RANGE": "a sum of 32-bit integers wraps there; here they are 64 bits, and overflow is null",
    "test_window 26 ROWS_RANGE": "the sum of nothing is 0 there, and null here",
}
"""Cases that can be said here, and whose answer is another one by design."""


class Refused(Exception):
    """The case has no counterpart here; the argument is one of `REASONS`."""


@dataclass(frozen=True)
class Frame:
    """One window of a statement."""

    keys: tuple[str, ...]
    order: str
    ranged: bool
    start: str
    end: str


FRAME = re.compile(
    r"(?:partition by (?P<keys>[\w{}.,` ]+?) )?order by (?P<order>[\w{}.`]+) (?P<kind>rows_range|rows) between "
    r"(?P<start>-?\d+[smhd]?) preceding and (?P<end>current row|-?\d+[smhd]? preceding)",
    re.IGNORECASE,
)
CALL = re.compile(
    r"(?P<op>\w+)\((?P<arg>[\w{}.`]+)\) over (?P<window>\w+|\(.*\))(?: as (?P<alias>\w+))?", re.IGNORECASE
)
JOIN = re.compile(
    r"select (?P<select>.+?) from (?P<left>\{0\}(?: as \w+)?) last join (?P<right>\{1\}(?: as \w+)?)"
    r"(?: order by (?P<order>[\w{}.]+))? on (?P<on>.+?);?$",
    re.IGNORECASE,
)


def _cases(folder: Path) -> list[tuple[str, Case]]:
    found = []
    for file in sorted(folder.glob("*/*.yaml")):
        for case in yaml.safe_load(file.read_text())["cases"]:
            found += [(f"{file.stem} {case['id']} {kind}".strip(), one) for kind, one in _provided(case)]
    return found


def _provided(case: Case) -> list[tuple[str, Case]]:
    """The case once for each value of its provider."""
    sql = " ".join((case.get("sql") or " ".join(case.get("sqls") or ())).split())
    provider = case.get("dataProvider")
    if not provider:
        return [("", {**case, "sql": sql})]
    made: list[tuple[str, Case]] = []
    for i, kind in enumerate(provider[0]):
        expect = {**case["expect"], **case.get("expectProvider", {}).get(i, {})}
        made.append((kind, {**case, "sql": sql.replace("d[0]", kind), "expect": expect}))
    return made


def _plain(name: str) -> str:
    return name.strip().strip("`").rpartition(".")[2]


def _table(given: Case) -> tuple[dict[str, str], list[list[Any]]]:
    columns = {c.split()[0]: c.split()[1].lower() for c in given["columns"]}
    return columns, given["rows"]


def _arrow(columns: Mapping[str, str], rows: list[list[Any]]) -> pa.Table:
    arrow = {"int": pa.int64(), "float": pa.float64(), "text": pa.string(), "bool": pa.bool_()}
    table = {
        name: pa.array([None if row[i] is None else _typed(row[i], kind) for row in rows], arrow[TYPES[kind]])
        for i, (name, kind) in enumerate(columns.items())
    }
    return pa.table({**table, "place": pa.array(range(len(rows)), pa.int64())})


def _typed(value: Any, kind: str) -> Any:
    return str(value) if TYPES[kind] == "text" else value


def _check_keys(columns: Mapping[str, str], rows: list[list[Any]], keys: tuple[str, ...]) -> None:
    names = list(columns)
    for key in keys:
        if columns[key] in ("float", "double"):
            raise Refused("float key")
        if columns[key] == "timestamp":
            raise Refused("instant key")
        if any(row[names.index(key)] is None for row in rows):
            raise Refused("null key")


def _window(frame: Frame, instants: list[Any]) -> tuple[Window, bool]:
    """The frame as a window, and whether it sees rows at its own instant."""
    (start, unit), (end, end_unit) = _amount(frame.start), _amount(frame.end)
    if end < 0 or start < 0:
        raise Refused("no frame before")
    if frame.ranged:
        width = _us(start, unit) - _us(end, end_unit)
        if width < 0:
            raise Refused("no frame before")
        offset = f"{_us(end, end_unit)}us" if end else None
        return ps.window(f"{max(width, 1)}us", hop="exact", offset=offset, closed="both", name="w"), True
    if end > 1 or (end == 1 and len(set(instants)) < len(instants)):
        raise Refused("skipped rows")
    if end == 1:
        return ps.rows(start, name="w"), False
    return ps.rows(start + 1, name="w").with_defaults(None, None, "both"), True


def _amount(text: str) -> tuple[int, str]:
    if text.lower().startswith("current"):
        return 0, ""
    found = re.match(r"(-?\d+)([smhd]?)", text)
    assert found is not None
    return int(found[1]), found[2].lower()


def _us(amount: int, unit: str) -> int:
    return amount * {"": 1_000, "s": 10**6, "m": 60 * 10**6, "h": 3_600 * 10**6, "d": 86_400 * 10**6}[unit]


def _features(case: Case, frame: Frame, calls: list[tuple[str, str, str]]) -> dict[str, list[Any]]:
    """Each call's value for every row, in the order of insertion."""
    columns, rows = _table(case["inputs"][0])
    _check_keys(columns, rows, frame.keys)
    instants = [row[list(columns).index(frame.order)] for row in rows]
    schema = {name: TYPES[kind] + "?" for name, kind in columns.items()}
    stream = ps.stream(
        "rows", ps.files("rows.parquet"), time=f"instant_ms({frame.order})", known="instant_us(place)",
        schema={**schema, "place": "int"},
    )  # fmt: skip
    window, _ = _window(frame, instants)
    measures: dict[str, Any] = {name: AGGREGATES[op](arg) for name, op, arg in calls}
    group = stream.by(*frame.keys).over(window).features("g", **measures)
    history = History(plan(Definitions.of(group)), {"rows": _arrow(columns, rows)})
    names = {name: f"{name}_w" for name, _, _ in calls}
    if "request-unsupport" not in str(case.get("mode", "")):
        found = history.relation("g").sort_by("place")
        return {name: found[f"g.{long}"].to_pylist() for name, long in names.items()}
    asked = _arrow(columns, rows)
    asked = asked.append_column("q", pa.array([t * 1_000 for t in instants], pa.int64()))
    asked = asked.append_column("a", pa.array([FAR_US] * len(rows), pa.int64()))
    answers = history.group("g", asked, a="a").table()
    return {name: answers[long].to_pylist() for name, long in names.items()}


def _windows(case: Case) -> list[list[Any]]:
    """A window statement's result, in the order of insertion."""
    sql = case["sql"].rstrip(";")
    for word, reason in WORDS.items():
        if word in sql.lower():
            raise Refused(reason)
    frames = {m[1]: m[2] for m in re.finditer(r"(\w+) as \(((?:partition|order)[^()]*)\)", sql, re.IGNORECASE)}
    select = re.split(r" from ", sql, maxsplit=1, flags=re.IGNORECASE)[0][len("select ") :]
    inline = re.search(r"over \(([^()]*)\)", select, re.IGNORECASE)
    if inline:
        frames["inline"] = inline[1]
        select = select.replace(f"({inline[1]})", "inline")
    columns, rows = _table(case["inputs"][0])
    results: list[list[Any]] = []
    for item in re.split(r",(?![^()]*\))", select):
        call = CALL.fullmatch(item.strip())
        if call is None:
            if _plain(item) not in columns:
                raise Refused("expression")
            results.append([row[list(columns).index(_plain(item))] for row in rows])
            continue
        if call["op"].lower() not in AGGREGATES:
            raise Refused("by place")
        found = FRAME.search(frames[call["window"]])
        if found is None or not found["keys"]:
            raise Refused("expression")
        frame = Frame(
            tuple(_plain(k) for k in found["keys"].split(",")), _plain(found["order"]),
            found["kind"].lower() == "rows_range", found["start"], found["end"],
        )  # fmt: skip
        results.append(_features(case, frame, [("x", call["op"].lower(), _plain(call["arg"]))])["x"])
    return [list(row) for row in zip(*results, strict=True)]


def _last_join(case: Case) -> list[list[Any]]:
    """A last join's result, in the order of the left table."""
    sql = case["sql"].rstrip(";")
    if "limit" in sql.lower():
        raise Refused("limit")
    if sql.lower().count("last join") > 1:
        raise Refused("chained join")
    found = JOIN.fullmatch(sql)
    assert found is not None, sql
    names = {"{0}": 0, "{1}": 1}
    for i, side in enumerate((found["left"], found["right"])):
        names[side.split()[-1]] = i
    (left, left_rows), (right, right_rows) = _table(case["inputs"][0]), _table(case["inputs"][1])
    keys = _equalities(found["on"], names)
    _check_keys(left, left_rows, tuple(key for key, _ in keys))
    _check_keys(right, right_rows, tuple(key for _, key in keys))
    order = _plain(found["order"]) if found["order"] else "place"
    schema = {**{name: TYPES[kind] + "?" for name, kind in right.items()}, "place": "int"}
    stream = ps.stream(
        "right", ps.files("right.parquet"), time=f"instant_ms({order})", known="instant_us(place)", schema=schema
    )
    entity = Entity("row", tuple(key for _, key in keys), ())
    view = ps.view("v", ps.inputs({key: TYPES[right[key]] for _, key in keys}), stream.asof(entity).lookup())
    asked = _arrow(left, left_rows)
    queries = {right_key: asked[left_key] for left_key, right_key in keys}
    queries["q"] = pa.array([FAR_US] * len(left_rows), pa.int64())
    rows = {"right": _arrow(right, right_rows)}
    answers = History(plan(Definitions.of(view)), rows).view("v", pa.table(queries)).table()
    wanted = []
    for item in found["select"].split(","):
        side, _, column = re.sub(r" as \w+$", "", item.strip()).rpartition(".")
        if side not in names:
            raise Refused("expression")
        source = asked if names[side] == 0 else answers
        wanted.append(source[column.strip()].to_pylist())
    return [list(row) for row in zip(*wanted, strict=True)]


def _equalities(on: str, names: Mapping[str, int]) -> list[tuple[str, str]]:
    keys = []
    for condition in re.split(r" and ", on, flags=re.IGNORECASE):
        match = re.fullmatch(r"\s*([\w{}]+)\.(\w+)\s*=\s*([\w{}]+)\.(\w+)\s*", condition)
        if match is None:
            columns = re.findall(r"[\w{}]+\.[a-z]\w*", condition)
            raise Refused("inequality" if len(columns) == 2 else "constant")
        sides = {names[match[1]]: match[2], names[match[3]]: match[4]}
        keys.append((sides[0], sides[1]))
    return keys


def _answer(case: Case) -> list[list[Any]]:
    if case["expect"].get("success") is False:
        raise Refused("refused there")
    return _last_join(case) if "last join" in case["sql"].lower() else _windows(case)


def _normal(rows: list[list[Any]]) -> list[tuple[str, ...]]:
    return sorted(tuple(_shown(value) for value in row) for row in rows)


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def test_each_case_is_answered_alike_or_refused_with_its_reason(real: Callable[[str], Path]) -> None:
    cases = _cases(real("window-cases"))
    refused: Counter[str] = Counter()
    alike, wrong = 0, []
    for title, case in cases:
        try:
            found = _answer(case)
        except Refused as reason:
            refused[REASONS[str(reason)]] += 1
            continue
        expected = [[_typed_like(v) for v in row] for row in case["expect"]["rows"]]
        if _normal([[_typed_like(v) for v in row] for row in found]) == _normal(expected):
            assert title not in DIFFERS
            alike += 1
        elif title not in DIFFERS:
            wrong.append(f"{title}: expected {expected}, found {found}")
    assert not wrong, "\n".join(wrong)
    assert alike + refused.total() + len(DIFFERS) == len(cases)
    assert set(refused) == set(REASONS.values())
    assert alike > 100


def _typed_like(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
