"""A program that appends to a log and says so: `python -m penstock.testing.log_writer PATH PRODUCER COUNT [ROWS KEEP]`.

After each append that returned it writes a line `sequence first_offset known_time` to standard output, and, if the
environment names one by PENSTOCK_ACKNOWLEDGED, to that file. With KEEP it also confirms what is stored and trims the
log to so many bytes, now and then. Crash tests kill it, start it again, and compare.
"""

from __future__ import annotations

import os
import sys

import pyarrow as pa

from penstock.clock import WallClock
from penstock.store.log import Log, ProducerId, Retention, TopicConfig

__all__ = ["SCHEMA", "TOPIC", "batch", "main"]

TOPIC = "crash"
SCHEMA = pa.schema([("producer", pa.string()), ("sequence", pa.int64()), ("row", pa.int64())])


def batch(producer: str, sequence: int, n_rows: int) -> pa.RecordBatch:
    """The rows of an append: they name its producer, sequence and place."""
    return pa.record_batch(
        {
            "_event_time": [1] * n_rows,
            "_id": [f"{producer}/{sequence}/{row}" for row in range(n_rows)],
            "producer": [producer] * n_rows,
            "sequence": [sequence] * n_rows,
            "row": list(range(n_rows)),
        }
    )


def main(arguments: list[str]) -> None:
    """Appends from the producer's last sequence on."""
    path, producer, count = arguments[0], arguments[1], int(arguments[2])
    n_rows = int(arguments[3]) if len(arguments) > 3 else 10
    keep_bytes = int(arguments[4]) if len(arguments) > 4 else None
    acknowledged = os.environ.get("PENSTOCK_ACKNOWLEDGED")
    descriptor = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if acknowledged else -1
    with Log.open(path, clock=WallClock()) as log:
        topic = log.create_topic(TOPIC, SCHEMA, TopicConfig(ids=True, dedup_us=60_000_000))
        start = topic.last_sequence(ProducerId(producer)) + 1
        for sequence in range(start, start + count):
            result = topic.append(batch(producer, sequence, n_rows), producer=ProducerId(producer), sequence=sequence)
            line = f"{sequence} {result.first_offset} {result.known_time}\n"
            if descriptor >= 0:
                os.write(descriptor, line.encode())
            sys.stdout.write(line)
            sys.stdout.flush()
            if keep_bytes is not None and sequence % 5 == 4:
                topic.confirm(topic.end(), "lake", sequence)
                topic.trim(Retention(max_bytes=keep_bytes))


if __name__ == "__main__":
    main(sys.argv[1:])
