"""Online: views for one key or thousands, read from the live state."""

from __future__ import annotations

from penstock.engine.online.answers import Answers
from penstock.engine.online.online import Online
from penstock.engine.online.present import Moment, Present

__all__ = ["Answers", "Moment", "Online", "Present"]
