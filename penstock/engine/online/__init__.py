"""Online: views for one key or thousands, read from the live state."""

from __future__ import annotations

from penstock.engine.online.answers import Answers
from penstock.engine.online.online import Online
from penstock.engine.online.present import Moment, Present
from penstock.engine.online.readlog import LoggedReads, ReadLog, logged_reads
from penstock.engine.online.replay import Replayed, replay_check

__all__ = [
    "Answers",
    "LoggedReads",
    "Moment",
    "Online",
    "Present",
    "ReadLog",
    "Replayed",
    "logged_reads",
    "replay_check",
]
