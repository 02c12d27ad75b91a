"""Erasing a person everywhere: log, lake, live state, derived topics, logged reads; begun once, finished always."""

from __future__ import annotations

from penstock.doors.erasure.order import Order, pending
from penstock.doors.erasure.run import Done, erase, resume

__all__ = ["Done", "Order", "erase", "pending", "resume"]
