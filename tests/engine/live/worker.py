"""A live job in a process of its own, to be killed: `python -m tests.engine.live.worker FOLDER` runs it to the end.

With `--fork` it waits for lines `DELAY_MS`: each forks a job, which is killed -9 after the delay; the answer is
`killed` or `done`. A negative delay lets the job finish. The memory of a fork is clean, so nothing is carried over.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import tempfile
from pathlib import Path

import penstock.define as ps
from penstock.clock import WallClock
from penstock.define.project import Definitions
from penstock.engine.live.job import LiveJob, Options
from penstock.plan import plan
from penstock.plan.ir import Plan
from penstock.store.lake import Lake
from penstock.store.log.embedded.log import EmbeddedLog

EMIT = ("seen", "chained", "totals")


def named() -> Definitions:
    """A join, a group over the joined rows, a group over that group's rows, and one with corrections over all time."""
    click = ps.stream("click", time="at", id="id", op="op", late="5s",
                      schema={"id": "text", "at": "instant", "imp": "text", "user": "int", "op": "text?"})  # fmt: skip
    show = ps.stream("show", time="at", id="id", op="op", late="5s",
                     schema={"id": "text", "at": "instant", "imp": "text", "user": "int?", "item": "text?",
                             "price": "decimal(12,2)?", "op": "text?"})  # fmt: skip
    seen = show.join(click, on="imp", within="20s", grace="2s", name="seen", clicked=ps.any(), clicks=ps.count())
    by_user = seen.by("user").over("10s", "1min").features(
        "by_user", n=ps.count(), rate=ps.share("clicked"), spent=ps.sum("price"), items=ps.distinct("item")
    )  # fmt: skip
    chained = by_user.by("item").over("1min").features("chained", busiest=ps.max("by_user.n_1min"), n=ps.count())
    totals = show.by("user").features("totals", n=ps.count(), spent=ps.sum("price"), newest=ps.last("item"))
    return Definitions.of(chained, totals)


def definitions() -> Plan:
    """The same, planned."""
    return plan(named())


def job(folder: Path) -> tuple[EmbeddedLog, LiveJob]:
    """The job on the log of a folder."""
    log = EmbeddedLog.open(folder / "log", clock=WallClock())
    options = Options(max_rows=40, checkpoint_rows=60, memory_dir=memory(folder), reserve_bytes=1 << 28)
    lake = Lake.open(folder / "lake", clock=WallClock())
    return log, LiveJob(
        definitions(), log, folder / "state", WallClock(), emit=EMIT, options=options,
        lake=(lambda: lake) if lake.tables() else None,
    )  # fmt: skip


def memory(folder: Path) -> Path:
    """Where its arena goes: not into the folder, of which copies are made."""
    made = Path(tempfile.gettempdir(), f"penstock-kills-{os.getuid()}-{folder.name}")
    made.mkdir(exist_ok=True)
    return made


def finish(folder: Path) -> None:
    """Runs until everything is applied."""
    log, made = job(folder)
    made.drain()
    made.close()
    log.close()


def fork(folder: Path, delay_ms: float) -> bool:
    """Runs a job in a fork; whether it finished before it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            finish(folder)
            code = 0
        finally:
            os._exit(code)
    handle = os.pidfd_open(child)
    ready, _, _ = select.select([handle], [], [], delay_ms / 1e3 if delay_ms >= 0 else None)
    os.close(handle)
    if not ready:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"the job failed with status {status}")
    return os.WIFEXITED(status)


def main() -> None:
    folder = Path(sys.argv[1])
    if "--fork" not in sys.argv:
        finish(folder)
        return
    for line in sys.stdin:
        sys.stdout.write("done\n" if fork(folder, float(line)) else "killed\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
