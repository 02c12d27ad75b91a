"""`feature_check` over real reads of a live job's state, and one read whose answer is altered afterwards."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from penstock.components.feature_check import FeatureCheck
from penstock.doors.deployment import Deployment
from penstock.engine.online import Answers, ReadLog
from penstock.testing.components import LoneContext

DEFINITIONS = """
import penstock as ps
ev = ps.stream("ev", ps.files("ev.csv"), time="at", schema={"at": "instant", "who": "text"})
by_who = ev.by("who").over("1h").features("by_who", n=ps.count())
"""
SECOND = 1_000_000


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A log with a live job's state."""
    rows = [f"1970-01-01T00:00:{i:02d}Z,{who}" for i, who in enumerate(("ann", "bob", "ann", "eve"))]
    (tmp_path / "ev.csv").write_text("\n".join(["at,who", *rows]) + "\n")
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    with Deployment(tmp_path) as d:
        for _ in d.replay(["ev"]).steps():
            pass
        job = d.live_job([], memory_dir=tmp_path)
        job.drain()
        job.checkpoint(wait=True)
        job.close()
    return tmp_path


def read(project: Path, q_us: int, wrong: int = 0) -> None:
    """Reads two keys online; what is logged is altered by so much."""
    with Deployment(project) as d:
        log = ReadLog(d.reads)
        online = d.online(None if wrong else log)
        assert online is not None
        a = online.group("by_who", ["ann", "bob"], q_us=q_us)
        if wrong:
            made = pa.array([n + wrong for n in a.columns["n_1h"].to_pylist()], a.columns["n_1h"].type)
            told = Answers({"n_1h": made}, {}, {}, q_us, a.known_us, a.batch, a.positions, a.fingerprint)
            log.append("group", "by_who", pa.record_batch({"who": ["ann", "bob"]}), told)
        online.close()
        log.close()


def test_without_reads_there_is_nothing_to_differ(project: Path) -> None:
    context = LoneContext(project)
    made = context.do(FeatureCheck)
    assert (made["reads"], made["values"], made["different"], made["examples"]) == (0, 0, 0, [])
    assert context.facts[("", "quality")] == "pass"


def test_an_interval_checks_the_reads_of_its_instants_only(project: Path) -> None:
    for q_s in (10, 20, 30):
        read(project, q_s * SECOND)
    read(project, 25 * SECOND, wrong=1)

    def check(*interval: int) -> tuple[dict[str, object], object]:
        low, high = interval
        context = LoneContext(project, interval=(low * SECOND, high * SECOND))
        return context.do(FeatureCheck, examples=1), context.facts[("", "quality")]

    made, quality = check(10, 25)
    assert (made["reads"], made["different"], quality) == (4, 0, "pass"), "the end is not in it"
    made, quality = check(25, 26)
    assert (made["reads"], made["different"], quality) == (2, 2, "fail")
    assert made["examples"] == ["by_who.n_1h of {'who': 'ann'} at q = 25000000: read 3, history says 2"]
    everything = LoneContext(project).do(FeatureCheck)
    assert (everything["reads"], everything["different"]) == (8, 2)
