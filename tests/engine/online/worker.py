"""A live job on a log that others write: `python -m tests.engine.online.worker LOG STATE MEMORY`."""

from __future__ import annotations

import sys
from pathlib import Path

import penstock.define as ps
from penstock.clock import WallClock
from penstock.define.project import Definitions
from penstock.engine.live.job import LiveJob, Options
from penstock.plan import plan
from penstock.plan.ir import Plan
from penstock.store.log.embedded.log import EmbeddedLog

__all__ = ["definitions"]

EVENTS = {"a": "int", "x": "float?", "m": "decimal(12,2)?", "w": "text?", "at": "instant", "id": "text?", "op": "text?"}


def definitions() -> Plan:
    """Events that are late and corrected, with what followed them; a table whose grades change all at once; a view."""
    ev = ps.stream("ev", time="at", id="id", op="op", schema=EVENTS)
    tab = ps.table("tab", key="g", time="at", schema={"g": "int", "grade": "int", "at": "instant"})
    g = ev.by("a").over("2s", "1min", ps.rows(5), ps.lifetime()).features(
        "g", n=ps.count(), total=ps.sum("m"), mean=ps.mean("x"), top=ps.max("x"), latest=ps.last("w"),
        many=ps.distinct("w"), items=ps.last_n(3, "w", "x"), by_w=ps.count().per("w"),
    )  # fmt: skip
    near = ev.by("w").over(ps.lifetime()).features("near", who=ps.last_n(4, "a"), n=ps.count())
    after = ps.stream("after", time="at", schema={"a": "int", "y": "int", "at": "instant"})
    joined = ev.join(after, on="a", within="50ms", grace="10ms", name="joined", hits=ps.count(), top=ps.max("y"))
    hits = joined.by("a").over("1min").features("hits", n=ps.count(), hits=ps.sum("hits"), top=ps.max("top"))
    own = joined.where("hits >= 0").by("a").over("1min", ps.lifetime(), include_self=True).features(
        "own", n=ps.count(), total=ps.sum("m"), hits=ps.sum("hits"))  # fmt: skip
    view = ps.view("v", ps.inputs(a="int?", w="text?", g="int"), g, near["n_lifetime"], tab["grade"], hits,
                   around=g["n_lifetime"].of(near["who_lifetime"], agg=ps.sum()),
                   share="g.n_2s / nullif(g.n_lifetime, 0)")  # fmt: skip
    return plan(Definitions.of(view, ps.view("asking", ev["a"], own)))


def main(log: str, state: str, memory: str) -> None:
    """Runs until it is killed, with small batches and a checkpoint every half second."""
    clock = WallClock()
    options = Options(
        max_rows=200, checkpoint_s=0.5, memory_dir=Path(memory), reserve_bytes=1 << 30, poll_s=0.01
    )  # fmt: skip
    with EmbeddedLog.open(log, clock=clock, durability="process") as opened:
        job = LiveJob(definitions(), opened, state, clock, options=options)
        sys.stdout.write("running\n")
        sys.stdout.flush()
        job.run()


if __name__ == "__main__":
    main(*sys.argv[1:4])
