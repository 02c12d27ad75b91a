from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import PlanError
from penstock.plan.expr.types import (
    BOOL,
    BYTES,
    DATE,
    DURATION,
    FLOAT,
    INSTANT,
    INT,
    JSON,
    TEXT,
    Column,
    Schema,
    Type,
    decimal,
    list_of,
    map_of,
    struct_of,
)

PLAIN = [BOOL, INT, FLOAT, TEXT, DATE, INSTANT, DURATION, BYTES, JSON, decimal(12, 2), decimal(38, 38)]


def nested(inner: st.SearchStrategy[Type]) -> st.SearchStrategy[Type]:
    names = st.dictionaries(st.sampled_from(["a", "b", "c_1"]), inner, min_size=1)
    return st.one_of(inner.map(list_of), st.builds(map_of, st.sampled_from([TEXT, INT]), inner), names.map(struct_of))


TYPES = st.recursive(st.sampled_from(PLAIN), nested, max_leaves=6)


@given(TYPES)
def test_a_type_reads_back_from_its_text_and_from_arrow(kind: Type) -> None:
    assert Type.parse(str(kind)) == kind
    held = Type.from_arrow(kind.arrow)
    assert held == kind or "json" in str(kind)  # json travels as text
    assert held.arrow == kind.arrow


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("BIGINT", INT),
        ("double precision", FLOAT),
        ("varchar", TEXT),
        ("timestamp with time zone", INSTANT),
        ("TIMESTAMPTZ", INSTANT),
        ("numeric(10, 3)", decimal(10, 3)),
        ("decimal", decimal(18, 3)),
        ("int[][]", list_of(list_of(INT))),
        ("map(text, int)", map_of(TEXT, INT)),
        ("struct(a int, b text)", struct_of({"a": INT, "b": TEXT})),
    ],
)
def test_sql_names(text: str, kind: Type) -> None:
    assert Type.parse(text) == kind


@pytest.mark.parametrize("text", ["", "intt", "decimal(40,2)", "decimal(2,3)", "list<>", "map<text>", "int)", "list<"])
def test_what_is_no_type_is_refused(text: str) -> None:
    with pytest.raises(PlanError):
        Type.parse(text)


@pytest.mark.parametrize(
    ("arrow", "kind"),
    [
        (pa.int8(), INT),
        (pa.uint32(), INT),
        (pa.uint64(), decimal(20, 0)),
        (pa.float16(), FLOAT),
        (pa.large_string(), TEXT),
        (pa.dictionary(pa.int32(), pa.string()), TEXT),
        (pa.timestamp("ns", tz="Asia/Shanghai"), INSTANT),
        (pa.date64(), DATE),
        (pa.duration("s"), DURATION),
        (pa.binary(4), BYTES),
        (pa.decimal256(38, 4), decimal(38, 4)),
        (pa.large_list(pa.int16()), list_of(INT)),
        (pa.list_(pa.float32(), 3), list_of(FLOAT)),
    ],
)
def test_arrow_types_widen(arrow: pa.DataType, kind: Type) -> None:
    assert Type.from_arrow(arrow) == kind


def test_a_local_timestamp_needs_a_zone() -> None:
    with pytest.raises(PlanError, match="until a zone is named"):
        Type.from_arrow(pa.timestamp("us"))
    assert Type.from_arrow(pa.timestamp("us"), zone="UTC") == INSTANT


def test_what_no_type_holds_is_refused_with_its_column() -> None:
    with pytest.raises(PlanError, match="column t: no value type holds"):
        Schema.from_arrow(pa.schema([("t", pa.time32("s"))]))


def test_a_schema_keeps_order_and_names_the_nearest() -> None:
    schema = Schema.of(tail="text", dep_delay="float?")
    assert schema.names == ("tail", "dep_delay")
    assert schema["dep_delay"] == Column("dep_delay", FLOAT, True)
    assert schema.prefixed("x").names == ("x.tail", "x.dep_delay")
    assert schema.plus([Column("n", INT)]).select(["n", "tail"]).names == ("n", "tail")
    assert Schema.from_arrow(schema.arrow) == schema
    assert hash(Schema.from_arrow(schema.arrow)) == hash(schema)
    with pytest.raises(PlanError, match="did you mean dep_delay"):
        schema["dep_dely"]
    with pytest.raises(PlanError, match="occurs twice"):
        schema.plus([Column("tail", INT)])
