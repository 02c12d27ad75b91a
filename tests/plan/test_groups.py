from __future__ import annotations

import pytest

import penstock as ps
from penstock.algebra.layout import Op, SlotKind, WindowKind
from penstock.define import Agg, Definitions
from penstock.define.relation import Group
from penstock.define.stream import Stream
from penstock.define.values import duration_us
from penstock.errors import PlanError
from penstock.plan import plan
from penstock.plan.hops import default_hop_us
from penstock.plan.ir import GroupPlan


def planned(definition: Group) -> GroupPlan:
    return plan(Definitions.of(definition)).groups[definition.name]


@pytest.mark.parametrize(
    ("agg", "shown"),
    [
        (ps.count(), "int not null"),
        (ps.count("rating"), "int not null"),
        (ps.sum("points"), "int"),
        (ps.sum("amount"), "decimal(38,2)"),
        (ps.sum("rating"), "float"),
        (ps.mean("amount"), "float"),
        (ps.mean("points"), "float"),
        (ps.share("ok"), "float"),
        (ps.min("amount"), "decimal(12,2)"),
        (ps.max("at"), "instant"),
        (ps.variance("points"), "float"),
        (ps.std("amount"), "float"),
        (ps.first("shop_id"), "text"),
        (ps.last("at"), "instant"),
        (ps.last_n(3, "shop_id"), "list<text>"),
        (ps.last_n(3, "shop_id", "at"), "list<struct<shop_id: text, at: instant>>"),
        (ps.last_n(3, "shop_id", "points + 1"), "list<struct<shop_id: text, value_2: int>>"),
        (ps.distinct("shop_id"), "int"),
        (ps.distinct("shop_id", approx=True), "int not null"),
        (ps.decayed_sum("amount", "1h"), "float"),
        (ps.decayed_count("1h"), "float"),
        (ps.ratio("points", "amount"), "float"),
        (ps.count().per("shop_id"), "map<text, int>"),
        (ps.sum("amount").per("ok"), "map<bool, decimal(38,2)>"),
    ],
)
def test_every_aggregate_has_its_type(pay: Stream, agg: Agg, shown: str) -> None:
    made = planned(pay.by("card_id").over("1h").features("g", x=agg))
    assert str(made.outputs["x_1h"]) == f"x_1h {shown}"
    assert made.layout.outputs[0].type == str(made.outputs["x_1h"].type)


@pytest.mark.parametrize(
    ("agg", "message"),
    [
        (ps.sum("shop_id"), "sum takes int, float, decimal, duration; found a value of text"),
        (ps.sum("ok"), "use share"),
        (ps.mean("at"), "mean takes"),
        (ps.share("points"), "a condition is true or false"),
        (ps.min("shop_id"), "min takes"),
        (ps.count().where("points"), "a condition is true or false"),
        (ps.count().per("rating"), "a result per value of text, int, bool, date"),
        (ps.sum("amuont"), "did you mean amount"),
        (ps.sum("nosuch(amount)"), "there is no function nosuch"),
        (ps.sum(), "sum needs an argument"),
        (ps.any(), "any folds outcomes of a join"),
    ],
)
def test_an_aggregate_that_does_not_fit_is_refused_with_its_place(pay: Stream, agg: Agg, message: str) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        planned(pay.by("card_id").over("1h").features("g", x=agg))
    assert "test_groups.py:" in str(caught.value)


def test_equal_expressions_share_a_slot_whatever_the_order_written(pay: Stream) -> None:
    aggs = {"b": ps.sum("amount").where("ok"), "a": ps.mean("amount"), "c": ps.count().where(" (ok) ")}
    made = planned(pay.by("card_id").over("1h", "1d").features("g", **aggs))  # type: ignore[arg-type]
    other = planned(pay.by("card_id").over("1h", "1d").features("g", **dict(reversed(aggs.items()))))  # type: ignore[arg-type]
    assert [slot.text for slot in made.layout.slots] == ["amount", "ok"]
    assert [slot.kind for slot in made.layout.slots] == [SlotKind.DECIMAL, SlotKind.BOOL]
    assert made.layout.slots[0].scale == 2
    assert [e.text for e in made.slots] == ["amount", "ok"]
    assert made.layout.slots == other.layout.slots and made.layout.measures == other.layout.measures
    assert made.fingerprint == other.fingerprint
    assert list(made.outputs) == ["b_1h", "b_1d", "a_1h", "a_1d", "c_1h", "c_1d"]


def test_a_group_without_windows_is_over_a_lifetime_under_bare_names(pay: Stream) -> None:
    made = planned(pay.by("card_id").features("g", items=ps.last_n(5, "shop_id", "amount")))
    assert made.layout.windows[0].kind is WindowKind.LIFETIME
    assert list(made.outputs) == ["items"]
    [measure] = made.layout.measures
    assert (measure.op, measure.n, measure.slot, measure.slots) == (Op.LAST_N, 5, 0, (1,))


@pytest.mark.parametrize(
    ("width", "hop"),
    [
        ("1s", "0s"),
        ("23s", "0s"),
        ("24s", "1s"),
        ("10min", "10s"),
        ("1h", "1min"),
        ("2h", "5min"),
        ("6h", "15min"),
        ("1d", "1h"),
        ("6d", "6h"),
        ("7d", "6h"),
        ("24d", "1d"),
        ("365d", "1d"),
    ],
)
def test_the_default_hop_is_the_longest_usual_step_of_a_24th(width: str, hop: str) -> None:
    assert default_hop_us(duration_us(width)) == duration_us(hop)


def test_a_hop_that_is_said_is_kept(pay: Stream) -> None:
    group = pay.by("card_id").over("1h", ps.window("1d", hop="exact"), hop="7min").features("g", n=ps.count())
    assert [w.hop_us for w in planned(group).layout.windows] == [420_000_000, 0]


def test_windows_are_over_event_time() -> None:
    table = ps.table("t", key="k", schema={"k": "int", "v": "int"})
    with pytest.raises(PlanError, match="windows are over event time"):
        planned(table.by("k").over("1h").features("g", n=ps.count()))


@pytest.mark.parametrize(
    ("known", "legal"), [("at - 30d", True), ("booked", True), ("at + 30h", False), ("at", False), (None, False)]
)
def test_a_window_looks_ahead_only_where_the_future_is_known(known: str | None, legal: bool) -> None:
    stream = ps.stream("s", time="at", known=known, schema={"at": "instant", "booked": "instant", "k": "int"})
    ahead = stream.by("k").over("1d", offset="-1d").features("g", n=ps.count())
    if legal:
        assert list(planned(ahead).outputs) == ["n_1d_ahead_1d"]
    else:
        with pytest.raises(PlanError, match="it looks ahead"):
            planned(ahead)


def test_keys_of_several_entities_stand_under_their_own_names(pay: Stream) -> None:
    buyer, shop = ps.entity("card", "card_id"), ps.entity("shop")
    made = planned(pay.by(buyer, shop.on("shop_id")).over("1h").features("g", n=ps.count()))
    assert made.keys == ("card_id", "shop_id")
    assert made.key_names == ("card_id", "shop")
    assert [str(t) for t in made.key_types] == ["int", "text"]


def test_two_columns_of_one_name_are_refused(pay: Stream) -> None:
    windows = [ps.window("1h", name="x_1h"), ps.window("1h")]
    with pytest.raises(PlanError, match="two of its columns are called n_x_1h"):
        planned(pay.by("card_id").over(*windows).features("g", n=ps.count(), n_x=ps.count()))


class Spread(ps.Aggregate):
    def lift(self, x: float, y: float) -> list[float]:
        return [x, y]

    def merge(self, p: list[float], q: list[float]) -> list[float]:
        return [min(p[0], q[0]), max(p[1], q[1])]

    def finalize(self, s: list[float]) -> float:
        return s[1] - s[0]


def test_a_users_aggregate_gives_what_finalize_says(pay: Stream) -> None:
    made = planned(pay.by("card_id").over("1h").features("g", x=Spread.of("rating", "rating + 1")))
    assert str(made.outputs["x_1h"]) == "x_1h float"
    assert isinstance(made.customs["Spread"], Spread)
    [measure] = made.layout.measures
    assert (measure.custom, measure.slot, measure.slots) == ("Spread", 0, (1,))
    with pytest.raises(PlanError, match=r"lift takes 2 value\(s\); found 1 argument"):
        planned(pay.by("card_id").over("1h").features("g", x=Spread.of("rating")))
