"""One batch stage, four chained stream stages and a view: equal to the oracle, though the job is killed on the way."""

from __future__ import annotations

import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from penstock.clock import ReplayClock
from penstock.define import load
from penstock.define.project import Definitions
from penstock.doors.deployment import Deployment
from penstock.engine.history import History, LogRows
from penstock.engine.online import Online
from penstock.plan.ir import SourcePlan
from penstock.semantics.columns import EVENT_TIME, ID, KNOWN_TIME, OFFSET, OP, OP_NAMES, ORDINAL, PARTITION
from penstock.testing.oracle import Oracle, Row
from penstock.testing.oracle.rows import plain

EXAMPLE = Path(__file__).parents[2] / "examples" / "chain"
JOB = Path(__file__).with_name("live_chain.py")
SOURCES = ("payments", "chargebacks", "merchants")
STAGES = ("by_card", "settled", "by_terminal", "by_city")
KILLS = 6


def project(folder: Path, n: int, days: int) -> Path:
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("data", ".penstock", "__pycache__"))
    runpy.run_path(str(folder / "make_data.py"))["write"](folder / "data", n, days)
    runpy.run_path(str(folder / "nightly.py"))["profiles"](folder)
    return folder


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(JOB), str(folder)])


def replay_under_kills(deployment: Deployment, folder: Path, seed: int) -> subprocess.Popen[bytes]:
    """Replays everything while the job runs, is killed at random moments and started again; the job that is left."""
    rng = random.Random(seed)
    job = start(folder)
    for number, _ in enumerate(deployment.replay(SOURCES, clock=ReplayClock(0), step_rows=64).steps()):
        if number < KILLS:
            time.sleep(rng.uniform(0.3, 3.0))  # from before it has opened its state to well into its batches
            job.send_signal(signal.SIGKILL)
            job.wait()
            job = start(folder)
    assert number >= KILLS
    settle(deployment)
    return job


def settle(deployment: Deployment, patience_s: float = 60) -> None:
    """Until the derived topics stand still."""
    began_s, former, since_s = time.monotonic(), None, time.monotonic()
    while time.monotonic() - began_s < patience_s:
        names = deployment.log.topics()
        ends = [deployment.log.topic(name).end().offsets for name in names]
        if ends != former or len(names) < len(SOURCES) + len(STAGES):
            former, since_s = ends, time.monotonic()
        elif time.monotonic() - since_s > 3:
            return
        time.sleep(0.1)
    raise AssertionError("the live job does not come to an end")


def rows_in(deployment: Deployment, name: str) -> list[Row]:
    relation = deployment.plan.relations[name]
    topic = deployment.log.topic(relation.name)  # type: ignore[union-attr]
    found: list[Row] = []
    for batch in LogRows(topic).batches(relation.schema.names):
        for line in batch.to_pylist():
            values = {k: v for k, v in line.items() if not k.startswith("_")}
            found.append(
                Row(line[EVENT_TIME], line[KNOWN_TIME], values, line[ID], OP_NAMES[line[OP]], line[ORDINAL],
                    line[PARTITION], line[OFFSET])
            )  # fmt: skip
    return found


def newest(rows: Sequence[Row]) -> dict[Any, Row]:
    """The version of each event that counts in the end."""
    last = {row.id: row for row in rows}
    return {key: row for key, row in last.items() if row.op != "delete"}


def oracle_of(definitions: Definitions, deployment: Deployment) -> Oracle:
    return Oracle(definitions, {name: rows_in(deployment, name) for name in SOURCES})


def assert_view_is_oracle(online: Online, definitions: Definitions, oracle: Oracle, folder: Path) -> None:
    """The view for some payments as a request of the present brings them."""
    view, names = definitions["decide"], ["card_id", "terminal_id", "merchant_id", "city", "amount"]
    requests = pq.read_table(folder / "data" / "payments.parquet").select(names).slice(150, 40).to_pylist()
    answers = online.view("decide", requests)
    seen = 0
    for request, line in zip(requests, answers.rows(), strict=True):
        cells = oracle.view(view, request, answers.q_us, answers.known_us)  # type: ignore[arg-type]
        seen += sum(cell.value is not None and cell.value != 0 for cell in cells.values())
        assert same(line, {name: cell.value for name, cell in cells.items()}), (request, line)
    assert seen > 10 * len(requests)


def test_the_chain_equals_the_oracle_under_kills(tmp_path: Path) -> None:
    folder = project(tmp_path / "chain", n=220, days=10)
    definitions = load(folder)
    with Deployment(folder, ReplayClock(0)) as deployment:
        job = replay_under_kills(deployment, folder, seed=11)
        oracle = oracle_of(definitions, deployment)
        online = Online(deployment.plan, folder / "live", ReplayClock(0))
        assert_view_is_oracle(online, definitions, oracle, folder)
        online.close()
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=60) == 0
        for stage in STAGES:
            found = newest(rows_in(deployment, stage))
            expected = newest(oracle.rows(definitions[stage], 2**61))  # type: ignore[arg-type]
            assert found.keys() == expected.keys(), stage
            for key, row in expected.items():
                assert (found[key].t, found[key].k) == (row.t, row.k), (stage, key)
                assert same(found[key].values, row.values), (stage, key, found[key].values, row.values)


def same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    for name, value in expected.items():
        other, value = plain(found[name]), plain(value)  # noqa: PLW2901 instants as microseconds
        close = (
            isinstance(value, float) and isinstance(other, float) and abs(value - other) <= 1e-9 * max(1, abs(value))
        )
        if not close and other != value:
            return False
    return True


def test_the_view_of_history_equals_the_oracle(tmp_path: Path) -> None:
    folder = project(tmp_path / "chain", n=150, days=8)
    definitions = load(folder)
    with Deployment(folder, ReplayClock(0)) as deployment:
        for _ in deployment.replay(SOURCES, clock=ReplayClock(0)).steps():
            pass
        oracle = oracle_of(definitions, deployment)
        sources = [r for r in deployment.plan.relations.values() if isinstance(r, SourcePlan)]
        history = History(deployment.plan, {s.name.name: LogRows(deployment.log.topic(s.name)) for s in sources})
        inputs = ["card_id", "terminal_id", "merchant_id", "city", "amount"]
        asked = pq.read_table(folder / "data" / "payments.parquet").select([*inputs, "seen_at"]).slice(40, 40)
        asked = asked.rename_columns([*inputs, "q"])
        found = history.view("decide", asked).table().to_pylist()
        for request, line in zip(asked.to_pylist(), found, strict=True):
            q = int(request["q"].timestamp() * 1e6 + 0.5)
            expected = oracle.view(definitions["decide"], {n: request[n] for n in inputs}, q, q)  # type: ignore[arg-type]
            assert same(line, {name: cell.value for name, cell in expected.items()}), (request, line)
