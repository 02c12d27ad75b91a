"""Observations later than declared: history answers them, once, whatever dies in between."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import penstock.define as ps
from penstock.clock import ReplayClock
from penstock.define.project import Definitions
from penstock.define.stream import Stream
from penstock.engine.live import flow, joins
from penstock.engine.live.job import LiveJob, Options
from penstock.plan import plan
from penstock.store.log.embedded.log import EmbeddedLog
from penstock.testing.conformance import END_US, Case, RowsQuery, check
from penstock.testing.oracle import Row
from penstock.testing.strategies import cases, chains
from tests.engine.live.tempo import Crashing, LiveTempo, feed, run
from tests.engine.live.test_conformance import SLOW, rows_only

SECOND = 1_000_000
START_US = 1_767_225_600_000_000
LATE = ("0s", "1s", "1h")
SCHEMA = {"id": "text", "at": "instant", "user": "int", "item": "text?", "price": "int?", "op": "text?"}


@pytest.fixture(autouse=True, scope="module")
def forgets_at_once() -> Iterator[None]:
    """State forgets with each batch whatever it may, so that an answer from it would be wrong."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "_SHARDS_A_BATCH", 1024)
        patch.setattr(flow, "READABLE_BATCHES", 0)
        patch.setattr(joins, "LATEST_US", 0)
        yield


def definitions() -> Definitions:
    """Windows of seconds over rows of which some come minutes late: alone, chained, read by another stream, joined."""
    ev = ps.stream("ev", time="at", id="id", op="op", schema=SCHEMA)
    out = ps.stream("out", time="at", schema=SCHEMA)
    by_user = ev.by("user").over("2s", "5s").features(
        "by_user", observations_late="1s", n=ps.count(), spent=ps.sum("price"), newest=ps.last("item")
    )  # fmt: skip
    own = ev.by("item").over("2s", include_self=True).features("own", observations_late="0s", spent=ps.sum("price"))
    chained = by_user.by("item").over("3s").features("chained", observations_late="0s", top=ps.max("by_user.n_2s"))
    read = (out >> by_user).by("item").over("4s").features("read", observations_late="2s", top=ps.max("by_user.n_5s"))
    closed = out.join(
        ev, on="user", within="2s", name="closed", hit=ps.any(), hits=ps.count(), price2=ps.max("price")
    )  # fmt: skip
    matched = out.join(
        ev, on="user", within="2s", grace="1s", name="matched", emit="match", hit=ps.any(), hits=ps.count()
    )  # fmt: skip
    over_closed = closed.by("item").over("3s").features("over_closed", observations_late="0s", n=ps.count())
    over_matched = matched.by("item").over("3s").features("over_matched", observations_late="0s", n=ps.count())
    return Definitions.of(own, chained, read, over_closed, over_matched)


NAMES = ("by_user", "own", "chained", "read", "closed", "matched", "over_closed", "over_matched")


def arrivals(seed: int, n: int = 40) -> dict[str, list[Row]]:
    rng, k = random.Random(seed), START_US
    found: dict[str, list[Row]] = {"ev": [], "out": []}
    for number in range(n):
        k += rng.choice((0, 300_000, SECOND))
        name = rng.choice(("ev", "ev", "out"))
        id, op = f"e{number}", "insert"
        if name == "ev" and rng.random() < 0.15 and found["ev"]:
            id, op = rng.choice(found["ev"]).id or id, rng.choice(("upsert", "delete"))
        t = k - rng.choice((0, 0, 0, 400_000, 4 * SECOND, 9 * SECOND, 60 * SECOND))
        values = {"id": id, "at": t, "user": rng.choice((1, 2)), "item": rng.choice(("a", "b", None)), "op": op,
                  "price": rng.choice((None, 1, 5))}  # fmt: skip
        event = (id, op) if name == "ev" else (None, "insert")
        found[name].append(Row(t, k, values, id=event[0], op=event[1], offset=len(found[name])))
    return found


@given(st.integers(0, 10_000), st.lists(st.integers(1, 12), max_size=4), st.integers(1, 12))
@settings(max_examples=8, deadline=None, suppress_health_check=SLOW)
def test_late_observations_are_answered_as_if_nothing_were_forgotten(
    seed: int, crashes: list[int], max_rows: int
) -> None:
    case = Case(definitions(), arrivals(seed), [RowsQuery(name, END_US) for name in NAMES])
    check(case, LiveTempo(crashes, max_rows))


@given(st.one_of(cases(late=LATE), chains(late=LATE)), st.lists(st.integers(1, 12), max_size=4), st.integers(1, 8))
@settings(max_examples=25, deadline=None, suppress_health_check=[*SLOW, HealthCheck.filter_too_much])
def test_any_group_may_declare_a_short_delay(case: Case, crashes: list[int], max_rows: int) -> None:
    joined = case.title.startswith(("join", "match"))
    stream = case.definitions.named["ev"]
    assert isinstance(stream, Stream)
    # Of joined rows, whose k is another, a reader cannot tell how far back a correction of the observation reached.
    assume(not joined or stream.op is None or stream.corrected_us is None)
    check(rows_only(case, *(["g", "j"] if joined else ["g"])), LiveTempo(crashes, max_rows))


@pytest.mark.parametrize("crashes", [(), (3, 5, 2, 9, 4)])
def test_each_is_counted_once(crashes: tuple[int, ...]) -> None:
    planned, rows = plan(definitions()), arrivals(5, 60)
    with tempfile.TemporaryDirectory() as name:
        folder, clock = Path(name), ReplayClock(1)
        options = Options(max_rows=5, checkpoint_rows=15, memory_dir=folder, reserve_bytes=1 << 28)
        with EmbeddedLog.open(folder / "log", clock=clock, durability="process") as log:
            feed(log, planned, rows)
            job = run(
                lambda crash: LiveJob(
                    planned, log, folder / "state", clock, serve=(), emit=["own"], options=options, on_step=crash
                ),
                Crashing(crashes),
            )
            newest_us, late = START_US - 10**12, 0
            for row in rows["ev"]:
                late += row.op != "delete" and row.t < min(row.k, newest_us)
                newest_us = max(newest_us, row.t)
            assert late > 5
            assert job.metrics.late_observations == late
            job.close()
