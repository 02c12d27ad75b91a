"""Distances on the earth, in kilometres on a sphere of radius 6,371.0088 km; angles in degrees."""

from __future__ import annotations

from typing import Any

import numpy as np

from penstock.plan.expr.kernels import numpy_float
from penstock.plan.expr.registry import Family

__all__ = ["DISTANCE", "EARTH_KM"]

DISTANCE = Family("distance", "Distance")
_add = DISTANCE.add
EARTH_KM = 6371.0088
_GEOHASH = "0123456789bcdefghjkmnpqrstuvwxyz"


def _on_earth(*degrees: Any) -> Any:
    inside = True
    for at, value in enumerate(degrees):
        limit = 180.0 if at % 2 else 90.0
        inside = inside & (np.abs(value) <= limit)
    return inside


def _haversine(lat1: Any, lon1: Any, lat2: Any, lon2: Any) -> Any:
    a, b = np.radians(lat1), np.radians(lat2)
    half = np.sin((b - a) / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin(np.radians(np.subtract(lon2, lon1)) / 2) ** 2
    found = 2 * EARTH_KM * np.arcsin(np.sqrt(np.minimum(half, 1.0)))
    return np.where(_on_earth(lat1, lon1, lat2, lon2), found, np.nan)


def _bearing(lat1: Any, lon1: Any, lat2: Any, lon2: Any) -> Any:
    a, b, turn = np.radians(lat1), np.radians(lat2), np.radians(np.subtract(lon2, lon1))
    east = np.sin(turn) * np.cos(b)
    north = np.cos(a) * np.sin(b) - np.sin(a) * np.cos(b) * np.cos(turn)
    found = np.degrees(np.arctan2(east, north)) % 360.0
    return np.where(_on_earth(lat1, lon1, lat2, lon2), found, np.nan)


_PLACES = "null outside -90 to 90 and -180 to 180"
_INSIDE = " AND ".join(f"abs({{{at}}}) <= {180 if at % 2 else 90}" for at in range(4))
_add(
    "haversine(float, float, float, float) -> float",
    "Great-circle distance of (lat, lon) and (lat, lon), in km.",
    kernel=numpy_float(_haversine),
    nulls="maybe",
    rule=_PLACES,
    duckdb=f"CASE WHEN {_INSIDE} THEN 2 * {EARTH_KM} * asin(sqrt(least(1.0, pow(sin(radians({{2}} - {{0}}) / 2), 2) + "
    "cos(radians({0})) * cos(radians({2})) * pow(sin(radians({3} - {1}) / 2), 2)))) END",
)
_add(
    "bearing(float, float, float, float) -> float",
    "Direction from the first (lat, lon) to the second, degrees from north.",
    kernel=numpy_float(_bearing),
    nulls="maybe",
    rule=_PLACES,
    duckdb=None,
)


def _geohash(lat: float, lon: float, n: int) -> str | None:
    if not (abs(lat) <= 90 and abs(lon) <= 180 and 1 <= n <= 12):
        return None
    ranges = [[-180.0, 180.0], [-90.0, 90.0]]
    bits, value = [], (lon, lat)
    for at in range(5 * n):
        low, high = ranges[at % 2]
        middle = (low + high) / 2
        upper = value[at % 2] >= middle
        bits.append(upper)
        ranges[at % 2][not upper] = middle
    numbers = (sum(bit << (4 - k) for k, bit in enumerate(bits[5 * at : 5 * at + 5])) for at in range(n))
    return "".join(_GEOHASH[number] for number in numbers)


_add(
    "geohash(float, float, int) -> text",
    "Geohash of (lat, lon) with 1 to 12 characters.",
    row=_geohash,
    nulls="maybe",
    duckdb=None,
    rule=_PLACES,
)
