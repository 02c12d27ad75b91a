from __future__ import annotations

import pytest

import penstock as ps
from penstock.define import Agg, Definitions
from penstock.define.relation import Joined, Relation
from penstock.define.stream import Stream, Table
from penstock.errors import PlanError
from penstock.plan import plan
from penstock.plan.ir import AsOfPlan, ComputePlan, EnrichPlan, FilterPlan, GroupPlan, JoinPlan


@pytest.fixture
def refund() -> Stream:
    schema = {"at": "instant", "pay_id": "text", "sum": "decimal(12,2)?", "why": "text"}
    return ps.stream("refund", time="at", schema=schema)


@pytest.fixture
def shops() -> Table:
    return ps.table(
        "shops", key=ps.entity("shop_id"), time="at", schema={"shop_id": "text", "at": "instant", "city": "text"}
    )


def counted(relation: Relation) -> GroupPlan:
    """A group over a relation, planned."""
    return plan(Definitions.of(relation.by("card_id").features("g", n=ps.count()))).groups["g"]


def test_rows_are_filtered_and_computed_in_order(pay: Stream) -> None:
    made = counted(pay.where("amount > 100").with_columns(net="amount * 0.8", twice="net * 2")).input
    assert isinstance(made, ComputePlan) and isinstance(made.input, FilterPlan)
    assert [name for name, _ in made.columns] == ["net", "twice"]
    assert made.lineage["twice"] == ("pay.amount",)
    assert [str(c) for c in made.schema.columns[-2:]] == ["net decimal(14,3)", "twice decimal(15,3)"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [({"amount": "1"}, "have such a column already"), ({"x": "y", "y": "1"}, "x: .*there is no column y")],
)
def test_computed_columns_are_new_and_use_those_before(pay: Stream, columns: dict[str, str], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        counted(pay.with_columns(**columns))


def test_a_condition_that_is_no_condition_is_refused(pay: Stream) -> None:
    with pytest.raises(PlanError, match=r"pay\.where: a condition is true or false; found amount is decimal"):
        counted(pay.where("amount"))


def join(pay: Stream, refund: Relation, **reducers: Agg) -> Joined:
    return pay.join(refund, on="pay_id", within="30d", grace="1h", name="paid", **reducers)  # type: ignore[arg-type]


def test_a_join_folds_outcomes_into_typed_columns(pay: Stream, refund: Stream) -> None:
    made = plan(
        Definitions.of(
            join(
                pay,
                refund,
                back=ps.any(),
                n=ps.count(),
                total=ps.sum("sum"),
                first_why=ps.first("why").where("sum > 5"),
                part=ps.share("sum > 5"),
            )
        )
    ).relations["paid"]
    assert isinstance(made, JoinPlan)
    shown = [str(c) for c in made.schema.columns[-5:]]
    assert shown == ["back bool not null", "n int not null", "total decimal(38,2)", "first_why text", "part float"]
    assert made.lineage["first_why"] == ("pay.pay_id", "refund.pay_id", "refund.sum", "refund.why")
    assert (made.within_us, made.grace_us) == (30 * 86_400_000_000, 3_600_000_000)


@pytest.mark.parametrize(
    ("reducers", "message"),
    [
        ({"x": ps.std("sum")}, "a join folds outcomes by any, count"),
        ({"x": ps.count().per("why")}, r"found count\.per"),
        ({"x": ps.sum("why")}, "sum takes"),
        ({"x": ps.sum()}, "sum needs a column"),
        ({"x": ps.sum("smu")}, "did you mean sum"),
        ({"amount": ps.any()}, "have such a column already"),
    ],
)
def test_reducers_fit_the_outcomes(pay: Stream, refund: Stream, reducers: dict[str, Agg], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(Definitions.of(join(pay, refund, **reducers)))


def test_a_join_is_on_equal_types_of_events(pay: Stream, shops: Table) -> None:
    other = ps.stream("other", time="at", schema={"at": "instant", "pay_id": "int"})
    with pytest.raises(PlanError, match="found pay_id is text and int"):
        plan(Definitions.of(join(pay, other, x=ps.any())))
    with pytest.raises(PlanError, match="a join is of events; found table shops"):
        plan(Definitions.of(join(pay, shops, x=ps.any())))
    with pytest.raises(PlanError, match="there is no such column; found 'nope'"):
        plan(Definitions.of(pay.join(other, on="nope", within="1h", name="j", x=ps.any())))


def test_rows_read_a_table_and_a_group_by_key(pay: Stream, shops: Table) -> None:
    by_card = pay.by("card_id").over("1h").features("by_card", n=ps.count())
    made = counted(pay >> shops["city"] >> by_card).input
    assert isinstance(made, EnrichPlan) and isinstance(made.input, EnrichPlan)
    assert str(made.schema["city"]) == "city text"
    assert str(made.schema["by_card.n_1h"]) == "by_card.n_1h int not null"
    assert made.lineage["city"] == ("pay.shop_id", "shops.city")
    read = made.input.lookup
    assert isinstance(read.source, AsOfPlan)
    assert (read.keys, read.columns, read.source.key_names) == (("shop_id",), ("city",), ("shop_id",))


def test_a_key_under_another_name_is_read_by_on(pay: Stream) -> None:
    homes = ps.table("homes", key=ps.entity("place", "place_id"), schema={"place_id": "text", "city": "text"})
    made = counted(pay >> homes["city"].on("shop_id", name="home")).input
    assert "home.city" in made.schema
    with pytest.raises(PlanError, match=r"or say which column holds it: \.on"):
        counted(pay >> homes["city"])
    with pytest.raises(PlanError, match="it is read by a key of text; found card_id is int"):
        counted(pay >> homes["city"].on("card_id"))
    with pytest.raises(PlanError, match="the key has 1 column"):
        counted(pay >> homes["city"].on("shop_id", "card_id"))


def test_reads_do_not_hide_columns(pay: Stream) -> None:
    rates = ps.table("rates", key="shop_id", schema={"shop_id": "text", "rating": "float"})
    with pytest.raises(PlanError, match="have such a column already; found 'rating'"):
        counted(pay >> rates["rating"])


def test_groups_chain_and_call_their_columns_by_their_name(pay: Stream) -> None:
    first = pay.by("card_id").over("1h").features("first", n=ps.count(), total=ps.sum("amount"))
    second = first.by("shop_id").over("1d").features("second", busiest=ps.max("first.n_1h"))
    third = second.by("card_id").over("7d").features("third", x=ps.last("second.busiest_1d"))
    made = plan(Definitions.of(third)).groups
    assert list(made) == ["first", "second", "third"]
    assert str(made["second"].outputs["busiest_1d"]) == "busiest_1d int"
    assert made["third"].lineage["third.x_7d"] == ("pay.card_id", "pay.shop_id")
    assert str(made["second"].schema["second.busiest_1d"]) == "second.busiest_1d int"


def test_a_relation_is_planned_once_however_often_it_is_used(pay: Stream) -> None:
    big = pay.where("amount > 100")
    a = big.by("card_id").features("a", n=ps.count())
    b = big.by("shop_id").features("b", n=ps.count())
    made = plan(Definitions.of(a, b)).groups
    assert made["a"].input is made["b"].input


def test_a_definition_that_rests_on_itself_is_refused(pay: Stream) -> None:
    group = pay.by("card_id").features("g", n=ps.count())
    object.__setattr__(group, "input", group.where("1 = 1"))
    with pytest.raises(PlanError, match="a cycle"):
        plan(Definitions.of(group))
