from __future__ import annotations

import pyarrow as pa
import pytest

import penstock as ps
from penstock.define import Definitions
from penstock.define.stream import Stream, Table
from penstock.errors import PlanError
from penstock.plan import plan
from penstock.plan.ir import SourcePlan


def source(definition: Stream | Table) -> SourcePlan:
    found = plan(Definitions.of(definition)).relations[definition.name]
    assert isinstance(found, SourcePlan)
    return found


def test_a_time_may_be_computed_and_known_before_it() -> None:
    made = source(ps.stream("s", time="at", known="at - 30d", schema={"at": "instant"}))
    assert made.known is not None and made.known.text == "at - 30d"
    assert made.max_ahead_us is None


def test_a_date_of_a_source_with_a_zone_is_its_local_midnight() -> None:
    made = source(
        ps.table("t", key="k", time="dt", known="dt + 30h", zone="Asia/Shanghai", schema={"k": "int", "dt": "date"})
    )
    assert made.time is not None and made.known is not None
    rows = pa.table({"k": [1], "dt": pa.array([20_000], pa.date32())})
    midnight_us = 20_000 * 86_400_000_000 - 8 * 3_600_000_000
    assert made.time.evaluate(rows).cast(pa.int64()).to_pylist() == [midnight_us]
    assert made.known.evaluate(rows).cast(pa.int64()).to_pylist() == [midnight_us + 30 * 3_600_000_000]


@pytest.mark.parametrize(
    ("schema", "time", "message"),
    [
        ({"at": "date"}, "at", "a date is an instant only in a zone"),
        ({"at": "date"}, "at + 3h", "a date is an instant only in a zone"),
        ({"at": "text"}, "at", "read it as an instant"),
        ({"at": "int"}, "at", "say its unit"),
        ({"at": "instant"}, "att", "did you mean at"),
        ({"at": "instant", "_offset": "int"}, "at", "start with _"),
        ({"at": "instant", "a.b": "int"}, "at", "no dot"),
        ({"at": "timestamp"}, "at", "no type"),
        ({}, "at", "no columns"),
    ],
)
def test_a_stream_without_a_sure_time_is_refused(schema: dict[str, str], time: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        source(ps.stream("s", time=time, schema=schema))


def test_a_table_from_files_declares_its_delay() -> None:
    schema = {"k": "int", "at": "instant"}
    with pytest.raises(PlanError, match="must be declared, there is no default"):
        source(ps.table("t", ps.files("t.parquet"), key="k", time="at", schema=schema))
    assert source(ps.table("t", ps.files("t", arrivals="watch"), key="k", schema=schema)).known is None
    assert source(ps.table("t", key="k", schema=schema)).time is None


def test_a_replayed_stream_without_a_known_time_is_warned_of() -> None:
    made = plan(Definitions.of(ps.stream("s", ps.files("s.parquet"), time="at", schema={"at": "instant"})))
    [(name, warning)] = made.warnings
    assert name == "s" and "no known time" in warning


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"op": "kind"}, "by its id"),
        ({"id": "knd"}, "did you mean kind"),
        ({"id": "price"}, "id: it is text or int"),
        ({"id": "kind", "op": "price"}, "op: it is text"),
        ({"clock": "source"}, "takes the known time from the row"),
    ],
)
def test_ids_ops_and_clocks_fit_the_columns(options: dict[str, str], message: str) -> None:
    schema = {"at": "instant", "kind": "text", "price": "float"}
    with pytest.raises(PlanError, match=message):
        source(ps.stream("s", time="at", schema=schema, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["float", "decimal(9,2)", "instant", "list<int>"])
def test_keys_are_int_text_bool_or_date(kind: str) -> None:
    with pytest.raises(PlanError, match="a key is int, text, bool or date"):
        source(ps.table("t", key="k", schema={"k": kind}))


def test_an_entity_has_one_type_of_key() -> None:
    user = ps.entity("user_id")
    a = ps.stream("a", time="at", schema={"at": "instant", "user_id": "int"}).by(user).features("fa", n=ps.count())
    b = ps.stream("b", time="at", schema={"at": "instant", "user_id": "text"}).by(user).features("fb", n=ps.count())
    with pytest.raises(PlanError, match="one type everywhere; found text here, int in group fa"):
        plan(Definitions.of(a, b))
