from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from hypothesis import settings

from penstock.clock import Clock
from penstock.store.log import Log
from penstock.store.log.interface import Log as LogInterface
from penstock.store.log.interface import Topic
from penstock.testing.stores import log_machine


def open_log(path: Path, clock: Clock) -> Log:
    return Log.open(path, clock=clock, durability="process")


TestLogMachine = log_machine(open_log).TestCase
TestLogMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_the_embedded_log_has_every_method(log: Log) -> None:
    topic = log.create_topic("t", pa.schema([("n", pa.int64())]))
    assert isinstance(log, LogInterface)
    assert isinstance(topic, Topic)
