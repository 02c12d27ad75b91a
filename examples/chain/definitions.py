"""Card payments through one batch stage and four chained stream stages, to a view for one request.

batch   `merchants`: a profile made every night from the payments known by then, usable 30 hours after its day began
stream  1. `known`: each payment with the profile of its merchant
        2. `by_card`: what the card did before it
        3. `settled`: with the charge-backs of the three days after it
        4. `by_terminal`, over the rows of 3, and `by_city`, over the rows of `by_terminal`
view    `decide`: everything at the moment of one payment
"""

import penstock as ps
from penstock import count, max, mean, share, std, sum

card, terminal, city, merchant = ps.entities("card_id", "terminal_id", "city", "merchant_id")

payments = ps.stream(
    "payments",
    ps.files("data/payments.parquet"),
    time="paid_at",
    known="seen_at",
    id="payment_id",
    op="op",
    late="10min",
    corrected="1d",
    clock="source",
    schema={
        "payment_id": "text",
        "paid_at": "instant",
        "seen_at": "instant",
        "op": "text",
        "card_id": "int",
        "terminal_id": "int",
        "merchant_id": "int",
        "city": "text?",
        "amount": "decimal(12,2)",
    },
)
chargebacks = ps.stream(
    "chargebacks",
    ps.files("data/chargebacks.parquet"),
    time="disputed_at",
    known="disputed_at + 1min",
    id="chargeback_id",
    late="1h",
    clock="source",
    schema={"chargeback_id": "text", "payment_id": "text", "disputed_at": "instant"},
)
merchants = ps.table(
    "merchants",
    ps.files("data/merchants"),
    key=merchant,
    time="dt",
    known="dt + 30h",
    zone="UTC",
    schema={"merchant_id": "int", "dt": "date", "usual_amount": "float?", "payments_30d": "int"},
)

# the batch stage: `nightly.py` asks this for every merchant and writes a day of `merchants`
merchant_profile = (
    payments.by(merchant).over("30d").features("merchant_profile", usual=mean("amount"), payments=count())
)

known = payments >> merchants["usual_amount", "payments_30d"]
by_card = (
    known.with_columns(unusual="amount / usual_amount")
    .by(card)
    .over("1h", "1d", "7d", include_self=True)
    .features("by_card", n=count(), total=sum("amount"), top=max("unusual"), spread=std("amount"))
)
settled = by_card.join(chargebacks, on="payment_id", within="3d", grace="1h", name="settled", fraud=ps.any())
by_terminal = (
    settled.by(terminal)
    .over("1d", "7d", offset="3d")
    .features("by_terminal", n=count(), frauds=share("fraud"), busy=mean("by_card.n_1h"))
)
by_city = by_terminal.by(city).over("7d").features("by_city", n=count(), frauds=mean("by_terminal.frauds_7d_ago_3d"))

decide = ps.view(
    "decide",
    ps.inputs(card_id="int", terminal_id="int", merchant_id="int", city="text?", amount="decimal(12,2)"),
    merchants["usual_amount"],
    by_card["n_1d", "total_7d"],
    by_terminal,
    by_city,
    dear="amount / usual_amount > 3",
    today="by_card.n_1d + 1",
)
