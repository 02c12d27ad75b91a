"""Zones against Python's zoneinfo, at and around every change of many zones and at instants between."""

from __future__ import annotations

import datetime as dt
import io
import zoneinfo
from importlib import resources

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.plan.expr.zonefile import offsets_of, zone_names
from penstock.plan.expr.zones import from_local, to_local

ZONES = ["America/New_York", "Asia/Shanghai", "Asia/Kolkata", "Europe/Dublin", "Africa/Casablanca", "Asia/Gaza", "UTC"]
ZONES += [
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "America/Havana",
    "Pacific/Apia",
    "America/Nuuk",
    "Asia/Kathmandu",
]
ZONES += ["Africa/Monrovia", "Antarctica/Troll"]
EPOCH = dt.datetime(1970, 1, 1)
US = dt.timedelta(microseconds=1)


def python_zone(name: str) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo.from_file(
        io.BytesIO(resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()), name
    )


def local_by_python(us: int, zone: zoneinfo.ZoneInfo) -> int:
    at = (EPOCH + us * US).replace(tzinfo=dt.UTC).astimezone(zone).replace(tzinfo=None)
    return (at - EPOCH) // US


def instant_by_python(us: int, zone: zoneinfo.ZoneInfo) -> int:
    at = (EPOCH + us * US).replace(tzinfo=zone).astimezone(dt.UTC).replace(tzinfo=None)
    return (at - EPOCH) // US


def compare(name: str, instants: list[int]) -> None:
    zone = python_zone(name)
    given_ = pa.array(instants, pa.int64())
    local = to_local(name)(given_.cast(pa.timestamp("us", "UTC"))).cast(pa.int64()).to_pylist()
    assert local == [local_by_python(us, zone) for us in instants]
    back = from_local(name)(given_.cast(pa.timestamp("us"))).cast(pa.int64()).to_pylist()
    assert back == [instant_by_python(us, zone) for us in instants]


@pytest.mark.parametrize("name", ZONES)
def test_every_change(name: str) -> None:
    table = offsets_of(name)
    # Python reads before the first change with the first standard time, the file's first offset is the older one
    changes = [int(at) for at in table.instants[1:] if at < 16_000_000_000_000_000]
    step = 1_800_000_000
    near = [at + shift for at in changes for shift in (-2 * step, -step, -1, 0, 1, step, 2 * step)]
    local = [at + int(offset) for at in changes for offset in (table.offsets[0], table.offsets[-1])]
    compare(name, near + local + [at + 3_600_000_000 for at in local])


@given(st.sampled_from(ZONES), st.lists(st.integers(-(10**15), 16 * 10**15), min_size=1, max_size=20))
def test_instants_between(name: str, instants: list[int]) -> None:
    compare(name, instants)


def test_every_zone_is_read() -> None:
    for name in sorted(zone_names())[::7]:
        compare(name, [0, 1_700_000_000_000_000, 4_000_000_000_000_000])


def test_no_local_time_outside_the_years_1_to_9999() -> None:
    found = to_local("America/New_York")(pa.array([2**62, None, 0], pa.timestamp("us", "UTC")))
    assert found.is_valid().to_pylist() == [False, False, True]
