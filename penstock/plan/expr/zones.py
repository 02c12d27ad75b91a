"""Instants in zones: local fields, and local times made instants across clock changes.

A local time that occurs twice is the first of the two; one that is skipped is read with the offset before the gap
(02:30 becomes 03:30), the rule of Python's `fold=0`, java.time and ICU.
"""

from __future__ import annotations

import zoneinfo
from functools import lru_cache
from typing import Any

import pyarrow as pa

from penstock.errors import nearest
from penstock.plan.expr.kernels import Kernel, arrow

__all__ = ["UTC", "check_zone", "from_local", "local_of", "to_local"]

UTC = "UTC"
LOCAL = pa.timestamp("us")  # a local time: microseconds since 1970-01-01 00:00 on the zone's clock
_INT = pa.int64()
_INSTANT = pa.timestamp("us", tz="UTC")


@lru_cache(maxsize=1024)
def check_zone(zone: str) -> str:
    """Why `zone` is no zone, in words; empty when it is one."""
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return nearest(zone, zoneinfo.available_timezones())
    return ""


@lru_cache(maxsize=256)
def to_local(zone: str) -> Kernel:
    """The kernel from instants to local times in the zone."""
    if zone == UTC:
        return lambda values: values.cast(LOCAL)
    there, local = pa.timestamp("us", tz=zone), arrow("local_timestamp")
    return lambda values: local(values.cast(there))


@lru_cache(maxsize=256)
def local_of(zone: str, field: str) -> Kernel:
    """The kernel from instants to an Arrow field (`hour`, `day`, ...) of their local time; ints."""
    there, part = pa.timestamp("us", tz=zone), arrow(field)
    return lambda values: part(values.cast(there)).cast(_INT)


@lru_cache(maxsize=256)
def from_local(zone: str) -> Kernel:
    """The kernel from local times in the zone to instants."""
    if zone == UTC:
        return lambda values: values.cast(_INSTANT)
    import pyarrow.compute as pc

    plain = arrow("assume_timezone", pc.AssumeTimezoneOptions(zone, ambiguous="earliest", nonexistent="raise"))
    before = arrow("assume_timezone", pc.AssumeTimezoneOptions(zone, ambiguous="earliest", nonexistent="earliest"))
    local = to_local(zone)
    add, subtract = arrow("add"), arrow("subtract")

    def run(values: Any) -> Any:
        try:
            return plain(values).cast(_INSTANT)
        except pa.ArrowInvalid:
            # `before` puts a skipped time just ahead of the gap; what it lost is the distance into the gap
            held = before(values).cast(_INSTANT)
            lost = subtract(values, local(held))
            return add(held, lost)

    return run
