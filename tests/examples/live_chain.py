"""The live job of the chain example, as a process of its own that may be killed at any moment."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from penstock.clock import ReplayClock
from penstock.doors.deployment import Deployment
from penstock.engine.live.job import LiveJob, Options

EMIT = ("by_card", "settled", "by_terminal", "by_city")


def main(project: Path) -> None:
    """Runs until it is told to stop."""
    with Deployment(project, ReplayClock(0)) as deployment:
        options = Options(max_rows=64, checkpoint_rows=200, memory_dir=project, reserve_bytes=1 << 30)
        job = LiveJob(deployment.plan, deployment.log, project / "live", deployment.clock, emit=EMIT, options=options)
        signal.signal(signal.SIGTERM, lambda *_: job.stop())
        job.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
