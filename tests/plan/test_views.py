from __future__ import annotations

import pytest

import penstock as ps
from penstock.define import Definitions
from penstock.define.relation import Group
from penstock.define.stream import Stream, Table
from penstock.define.view import View
from penstock.errors import PlanError
from penstock.plan import Plan, plan
from penstock.plan.ir import ViewPlan


def planned(view: View) -> ViewPlan:
    return plan(Definitions.of(view)).views[view.name]


@pytest.fixture
def by_card(pay: Stream) -> Group:
    return pay.by("card_id").over("1h").features("by_card", n=ps.count(), total=ps.sum("amount"))


@pytest.fixture
def shops() -> Table:
    return ps.table("shops", key=ps.entity("shop_id"), schema={"shop_id": "text", "city": "text", "amount": "int"})


def test_a_request_brings_what_is_put_out_used_as_a_key_or_in_an_expression(pay: Stream, by_card: Group) -> None:
    made = planned(ps.view("v", pay["amount"], by_card, late="hour(at, 'UTC') > 20", rate="by_card.n_1h / 2"))
    assert list(made.inputs) == ["at", "card_id", "amount"]
    assert list(made.outputs) == ["amount", "by_card.n_1h", "by_card.total_1h", "late", "rate"]
    assert made.base == ("amount",)
    assert made.lineage["rate"] == ("pay.card_id",)


def test_expressions_use_those_before_them(pay: Stream) -> None:
    made = planned(ps.view("v", pay["amount"], twice="amount * 2", more="twice + 1"))
    assert made.lineage["more"] == ("pay.amount",)
    with pytest.raises(PlanError, match=r"there is no column more yet(.|\n)*say more before twice"):
        planned(ps.view("v", pay["amount"], twice="more * 2", more="amount + 1"))


def test_a_circle_of_expressions_is_drawn(pay: Stream) -> None:
    with pytest.raises(PlanError, match="found a cycle: a -> b -> c -> a") as refused:
        planned(ps.view("v", pay["amount"], a="b + amount", b="c * 2", c="a - 1"))
    assert "test_views.py" in str(refused.value.where)
    with pytest.raises(PlanError, match="found a cycle: a -> a"):
        planned(ps.view("v", pay["amount"], a="a + 1"))
    with pytest.raises(PlanError, match="found a cycle: y -> z -> y"):
        planned(ps.view("v", pay.with_columns(x="y", y="z", z="y")["amount"]))
    with pytest.raises(PlanError, match="there is no column nothing"):
        planned(ps.view("v", pay["amount"], a="nothing + 1", b="a"))


def test_request_inputs_are_all_needed(by_card: Group) -> None:
    made = planned(ps.view("v", ps.inputs(card_id="int", note="text?"), by_card["n_1h"]))
    assert [str(c) for c in made.inputs.columns] == ["card_id int not null", "note text"]
    assert made.observation is None
    with pytest.raises(PlanError, match="found card_id is text"):
        planned(ps.view("v", ps.inputs(card_id="text"), by_card["n_1h"]))


def test_a_read_may_hide_a_column_of_the_base_that_nothing_needs(pay: Stream, shops: Table) -> None:
    made = planned(ps.view("v", pay["card_id"], shops["amount"], more="amount + 1"))
    assert str(made.outputs["amount"]) == "amount int"
    assert "amount" not in made.inputs
    assert made.lineage["more"] == ("pay.shop_id", "shops.amount")


def test_two_columns_of_one_name_are_refused(pay: Stream, shops: Table) -> None:
    with pytest.raises(PlanError, match="two of its columns have one name; found 'amount'"):
        planned(ps.view("v", pay["amount"], shops["amount"]))
    with pytest.raises(PlanError, match="two of its columns have one name; found 'amount'"):
        planned(ps.view("v", pay["card_id"], shops["amount"], amount="1"))


def test_a_name_cannot_stand_for_a_needed_column_and_another(pay: Stream, shops: Table) -> None:
    with pytest.raises(PlanError, match="needed, and for another"):
        planned(ps.view("v", pay["card_id"], shops["city"], early="amount", amount="1"))


def test_a_key_that_a_read_hides_is_told(pay: Stream, by_card: Group) -> None:
    owners = ps.table("owners", key="shop_id", schema={"shop_id": "text", "card_id": "int"})
    with pytest.raises(PlanError, match="needed, and for another; found 'card_id'"):
        planned(ps.view("v", pay["amount"], owners["card_id"], by_card))


def test_a_read_goes_by_what_an_earlier_read_found(pay: Stream) -> None:
    items = ps.table("items", key="shop_id", schema={"shop_id": "text", "seller": "int"})
    by_seller = pay.with_columns(seller="points").by("seller").over("1d").features("by_seller", n=ps.count())
    newest = pay.by("card_id").features("newest", shop=ps.last("shop_id"))
    made = planned(
        ps.view("v", pay["card_id"], newest, items["seller"].on("newest.shop"), by_seller, more="by_seller.n_1d + 1")
    )
    assert list(made.inputs) == ["card_id"]
    assert made.lookups[1].keys == ("newest.shop",) and made.lookups[2].keys == ("seller",)
    assert made.lineage["more"] == ("items.seller", "pay.card_id", "pay.points", "pay.shop_id")
    with pytest.raises(PlanError, match="v, by_seller, key: there is no such column; found 'seller'"):
        planned(ps.view("v", pay["shop_id"], by_seller, items["seller"]))
    with pytest.raises(PlanError, match=r"it is read by a key of int; found newest\.shop is text"):
        planned(ps.view("v", pay["card_id"], newest, by_seller.on("newest.shop")))


def test_one_source_is_read_twice_under_two_names(pay: Stream) -> None:
    stays = ps.stream("stays", time="at", schema={"at": "instant", "a": "text", "b": "text"})
    n = stays.by(ps.entity("town").on("a")).over("1d").features("stay", n=ps.count())
    made = planned(ps.view("v", stays["a"], n.on("a", name="here"), there=n["n_1d"].on("b")))
    assert list(made.outputs) == ["a", "here.n_1d", "there.n_1d"]


def test_counts_are_never_null_whatever_the_key(pay: Stream) -> None:
    by_shop = pay.by("shop_id").over("1h").features("by_shop", n=ps.count())
    made = planned(ps.view("v", pay["shop_id"], by_shop))
    assert made.inputs["shop_id"].nullable and not made.outputs["by_shop.n_1h"].nullable


def test_an_asking_row_that_counts_brings_what_is_aggregated(pay: Stream) -> None:
    rows = pay.where("ok").with_columns(net="amount - points")
    group = rows.by("card_id").over("1d", include_self=True).features("g", x=ps.sum("net"), n=ps.count())
    plain = ps.view("plain", pay["card_id"], group["n_1d"])
    asked = ps.view("asked", ps.inputs(card_id="int"), group["n_1d"])
    made = plan(Definitions.of(plain, asked)).views
    assert made["plain"].lookups[0].self_columns == ("amount", "card_id", "ok", "points")
    assert set(made["plain"].inputs) == {"card_id", "amount", "points", "ok"}
    assert made["asked"].lookups[0].self_columns is None


def test_an_asking_row_is_followed_through_joins_and_groups(pay: Stream) -> None:
    back = ps.stream("back", time="at", schema={"at": "instant", "pay_id": "text"})
    joined = pay.join(back, on="pay_id", within="1h", name="joined", back=ps.any())
    first = joined.by("card_id").over("1d", include_self=True).features("first", x=ps.sum("amount"))
    group = first.where("ok").by("card_id").over("1d", include_self=True).features("g", y=ps.sum("first.x_1d"))
    folded = joined.by("card_id").over("1d", include_self=True).features("folded", x=ps.share("back"))
    made = plan(Definitions.of(ps.view("v", pay["card_id"], group, folded)))
    assert [x.self_columns for x in made.views["v"].lookups] == [("amount", "card_id", "ok"), ("card_id", "pay_id")]
    assert not [text for name, text in made.warnings if name == "v"]


def test_two_hops_find_the_key_in_a_list_of_structs(feed: Plan) -> None:
    [near] = feed.views["rank"].two_hops
    assert (near.list_column, near.field, near.first, near.op, str(near.type)) == (
        "recent.items",
        "item_id",
        5,
        "mean",
        "float",
    )
    assert near.value.keys == () and near.value.columns == ("ctr_1h",)
    assert near.keys.keys == ("user_id",)


@pytest.mark.parametrize(
    ("items", "agg", "message"),
    [
        (ps.last_n(5, "shop_id"), ps.sum(), "is read by int; found the list holds text"),
        (ps.last_n(5, "shop_id", "amount"), ps.sum(), "found card_id is none of shop_id, amount"),
        (ps.count(), ps.sum(), "the keys of a two-hop read come from a list"),
        (ps.last_n(5, "card_id"), ps.std("x"), "the answers are folded by any, count"),
        (ps.last_n(5, "card_id"), ps.mean("x"), "of nothing but themselves"),
    ],
)
def test_two_hops_that_do_not_fit_are_refused(
    pay: Stream, by_card: Group, items: ps.Agg, agg: ps.Agg, message: str
) -> None:
    recent = pay.by("shop_id").features("recent", items=items)
    with pytest.raises(PlanError, match=message):
        planned(ps.view("v", pay["shop_id"], near=by_card["n_1h"].of(recent["items"], agg=agg)))


def test_two_hops_go_through_a_list_of_keys(pay: Stream, by_card: Group) -> None:
    recent = pay.by("shop_id").features("recent", items=ps.last_n(5, "card_id"))
    made = planned(ps.view("v", pay["shop_id"], near=by_card["n_1h"].of(recent["items"], agg=ps.count())))
    [near] = made.two_hops
    assert near.field is None and str(made.outputs["near"]) == "near int not null"


def test_lineage_goes_through_relations_groups_and_views(feed: Plan, flights: Plan) -> None:
    assert feed.views["rank"].lineage["fit_cat"] == (
        "click.imp_id",
        "items.category",
        "show.imp_id",
        "show.item_id",
        "show.user_id",
    )
    assert feed.views["rank"].lineage["tier"] == ("items.price", "show.item_id")
    assert flights.views["rich"].lineage["surge"] == ("departures.dep_delay", "departures.origin", "schedule.origin")


def test_a_wrong_expression_is_told_with_its_view_and_line(pay: Stream) -> None:
    with pytest.raises(PlanError, match=r"test_views\.py:\d+: PS300 view v, x: .*amuont"):
        planned(ps.view("v", pay["amount"], x="amuont * 2"))
