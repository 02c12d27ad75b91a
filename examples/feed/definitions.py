"""Click-through rate of a feed: impressions, clicks, and what a user clicked last."""

import penstock as ps
from penstock import count, distinct, label, last_n, mean, share

user, item = ps.entities("user_id", "item_id")
show = ps.stream("show", ps.kafka("$KAFKA/show"), time="shown_at", id="imp_id", late="5min")
click = ps.stream("click", ps.kafka("$KAFKA/click"), time="clicked_at", id="event_id", late="5min")
items = ps.table("items", ps.hive("dw.item_profile", partition="dt"), key=item, known="dt + 30h", zone="Asia/Shanghai")
seen = show.join(click, on="imp_id", within="30min", clicked=ps.any(), name="seen") >> items["category"]
u_ctr = (
    seen.by(user)
    .over("1h", "1d", "7d")
    .features("u_ctr", n=count(), ctr=share("clicked"), cat=share("clicked").per("category"))
)
i_ctr = (
    seen.by(item)
    .over("10min", "1h", ps.today("Asia/Shanghai"))
    .features("i_ctr", n=count(), ctr=share("clicked"), users=distinct("user_id"))
)
recent = click.by(user).features("recent", items=last_n(50, "item_id", "clicked_at"))


@ps.function
def tier(price: float | None) -> str:
    """The price's tier, as shown in reports."""
    return "none" if price is None else "high" if price > 300 else "low"


class Entropy(ps.Aggregate):
    """Entropy of the values in the window, in bits."""

    def lift(self, x: str) -> dict[str, int]:
        """One value, seen once."""
        return {x: 1}

    def merge(self, p: dict[str, int], q: dict[str, int]) -> dict[str, int]:
        """Counts add."""
        return {k: p.get(k, 0) + q.get(k, 0) for k in p | q}

    def finalize(self, s: dict[str, int]) -> float:
        """The entropy of the counts."""
        return ps.stats.entropy(s.values())


taste = click.by(user).over("7d").features("taste", spread=Entropy.of("item_id"))

rank = ps.view(
    "rank",
    show["user_id", "item_id"],
    items["price", "category"],
    u_ctr,
    i_ctr,
    recent,
    taste,
    tier="tier(price)",
    near=i_ctr["ctr_1h"].of(recent["items"], first=5, agg=mean()),
    fit_cat="u_ctr.cat_7d[category]",
)
ctr = ps.samples(
    "ctr",
    show,
    features=rank,
    click=label(click, on="imp_id", within="30min", absent=0),
    keep_negatives=0.1,
)
gbdt = ps.model("gbdt", ctr, trainer=ps.lightgbm())
ftrl = ps.model("ftrl", ctr, trainer=ps.ftrl())
feed = ps.experiment(
    "feed",
    unit="user_id",
    layer="rank",
    arms={gbdt: 90, ftrl: 10},
    metrics=[ps.ratio("click", "show"), ps.gauc("click")],
)
