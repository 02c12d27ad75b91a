"""Bytewax as the peer of the recovery benchmark: the flow of `bench.live_peers`, going on where its snapshots end.

`python -m bench.recovery_peer EVENTS FOLDER` runs it to the end, or until it is killed, and prints its version, then
after each batch how many rows are out. It is run inside an environment that has no more than Bytewax and pyarrow.
"""

from __future__ import annotations

import argparse
import os
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bench.live_peers import SCHEMA, flow

__all__ = ["CHECKPOINT_S", "OUT", "ROW_BYTES"]

CHECKPOINT_S = 1.0
OUT = "out.bin"
ROW_BYTES = 8 * len(SCHEMA)


def run(events: Path, folder: Path) -> None:
    """Snapshots every second; rows synced per batch and cut back on resuming, as Bytewax's own file sink does."""
    from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
    from bytewax.recovery import RecoveryConfig, init_db_dir
    from bytewax.testing import run_main

    class Writer(StatefulSinkPartition[Any, int]):  # type: ignore[misc]
        def __init__(self, done: int) -> None:
            self.file = (folder / OUT).open("ab")
            self.file.truncate(done)
            self.file.seek(done)

        def write_batch(self, rows: list[Any]) -> None:
            self.file.write(np.array(rows, np.float64).tobytes())
            self.file.flush()
            os.fsync(self.file.fileno())
            print(self.file.tell() // ROW_BYTES, flush=True)

        def snapshot(self) -> int:
            return self.file.tell()

        def close(self) -> None:
            self.file.close()

    class Sink(FixedPartitionedSink[Any, int]):  # type: ignore[misc]
        def list_parts(self) -> list[str]:
            return [OUT]

        def part_fn(self, item_key: str) -> int:
            return 0

        def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Writer:
            return Writer(resume_state or 0)

    snapshots = folder / "snapshots"
    if not snapshots.exists():
        snapshots.mkdir()
        init_db_dir(snapshots, 1)
    interval = timedelta(seconds=CHECKPOINT_S)
    run_main(flow(events, Sink()), epoch_interval=interval, recovery_config=RecoveryConfig(str(snapshots)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    print(version("bytewax"), flush=True)
    run(args.events, args.folder)


if __name__ == "__main__":
    main()
