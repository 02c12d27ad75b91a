"""Functions of maps. A key occurs once; of equal keys the first counts."""

from __future__ import annotations

from typing import Any

from penstock.plan.expr.access import entry_count, entry_lists, map_at, map_has
from penstock.plan.expr.kernels import rowwise
from penstock.plan.expr.registry import Family

__all__ = ["MAPS"]

MAPS = Family("maps", "Maps")
_add = MAPS.add
Pairs = list[tuple[Any, Any]]

_add(
    "element_at(map<K, V>, K) -> V",
    "The value of a key; map[key] too.",
    kernel=map_at,
    nulls="maybe",
    duckdb="({0})[{1}]",
    rule="null where there is no such key",
    aliases=("map_extract_value",),
)
_add("cardinality(map<K, V>) -> int", "Number of entries.", kernel=entry_count)
_add("map_keys(map<K, V>) -> list<K>", "The keys, in order.", kernel=lambda maps: entry_lists(maps, True))
_add(
    "map_values(map<K, V>) -> list<V>",
    "The values, in the order of the keys.",
    kernel=lambda maps: entry_lists(maps, False),
)
_add(
    "map_contains(map<K, V>, K) -> bool",
    "True if the key occurs.",
    kernel=map_has,
)


def _map(keys: list[Any], values: list[Any]) -> Pairs | None:
    if len(keys) != len(values) or None in keys or len(set(keys)) != len(keys):
        return None
    return list(zip(keys, values, strict=True))


_add(
    "map(list<K>, list<V>) -> map<K, V>",
    "The map of keys to values.",
    row=_map,
    nulls="maybe",
    duckdb="TRY(map({0}, {1}))",
    rule="null where lengths differ, or a key is null or repeats",
)


def _total(pairs: Pairs) -> float | None:
    kept = [value for _, value in pairs if value is not None]
    return float(sum(kept)) if kept else None


_add(
    "map_sum(map<K, float>) -> float",
    "Sum of the values.",
    row=_total,
    nulls="maybe",
    duckdb="list_sum(map_values({0}))",
    rule="nulls left out; null for none left",
)


def _heaviest(pairs: Pairs) -> Any:
    best: Any = None
    for key, value in pairs:
        if value is not None and (best is None or (-value, key) < (-best[1], best[0])):
            best = (key, value)
    return None if best is None else best[0]


_add(
    "map_argmax(map<K, float>) -> K",
    "The key of the greatest value, the least of them in a tie.",
    nulls="maybe",
    duckdb=None,
    make=lambda site: rowwise(_heaviest, site.types, site.result),
)
