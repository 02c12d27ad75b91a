"""Parts of nested values: fields of structs, elements of lists, values of map keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.plan.expr import operators
from penstock.plan.expr.bound import Bound, apply
from penstock.plan.expr.kernels import arrow, ints, length_of, vector
from penstock.plan.expr.syntax import Node
from penstock.plan.expr.types import INT, TEXT

__all__ = ["bind_index", "element_places", "entry_count", "entry_lists", "list_at", "map_at", "map_has", "struct_field"]

_take, _equal, _and = arrow("take"), arrow("equal"), arrow("and")


def struct_field(value: Bound, field: str, node: Node) -> Bound:
    """A field of a struct; null where the struct is."""
    kind = dict(value.type.args)[field]
    options = pc.StructFieldOptions([[name for name, _ in value.type.args].index(field)])
    quoted = field.replace("'", "''").replace("{", "{{").replace("}", "}}")
    return apply(node, arrow("struct_field", options), (value,), kind, True, f"struct_extract({{0}}, '{quoted}')")


def bind_index(value: Bound, index: Bound, node: Node, zone: str) -> Bound | None:
    """`value[index]`: a list's element from 1 (from the end with -1), a map's value; null where there is none."""
    match value.type.name:
        case "list":
            at = operators.convert(index, INT, zone)
            return at and apply(node, list_at, (value, at), value.type.element, True, "({0})[{1}]")
        case "map":
            key = operators.convert(index, value.type.args[0], zone)
            return key and apply(node, map_at, (value, key), value.type.element, True, "({0})[{1}]")
        case "text":
            at = operators.convert(index, INT, zone)
            if at is None:
                return None
            from penstock.plan.expr.functions.text import character

            return apply(node, character, (value, at), TEXT, True, "nullif(({0})[{1}], '')")
    return None


def _spans(nested: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Offsets of the first element of each row and the number of its elements; 0 of them where the row is null."""
    offsets = nested.offsets.to_numpy()
    begin, length = offsets[:-1].astype(np.int64), np.diff(offsets).astype(np.int64)
    if nested.null_count:
        length = np.where(nested.is_valid().to_numpy(zero_copy_only=False), length, 0)
    return begin, length


def list_at(lists: Any, index: Any) -> Any:
    """Elements of lists by 1-based position, row by row; negative positions count from the end."""
    n = length_of((lists, index))
    lists, index = vector(lists, n), vector(index, n)
    begin, length = _spans(lists)
    at = index.fill_null(0).to_numpy(zero_copy_only=False)
    place = np.where(at > 0, at - 1, at + length)
    there = (at != 0) & (place >= 0) & (place < length)
    return _take(lists.values, pa.array(np.where(there, begin + place, 0), mask=~there))


def _entries(begin: np.ndarray[Any, Any], length: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Where the elements of all rows lie, row after row."""
    starts = np.cumsum(length) - length
    found: np.ndarray[Any, Any] = np.arange(int(length.sum())) - np.repeat(starts - begin, length)
    return found


def element_places(
    lists: Any,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Where the elements of all rows lie in the lists' values, and of each its row and its position there, from 1."""
    begin, length = _spans(lists)
    rows = np.repeat(np.arange(len(lists)), length)
    first = np.repeat(np.cumsum(length) - length, length)
    return _entries(begin, length), rows, np.arange(len(rows)) - first + 1


def map_at(maps: Any, key: Any) -> Any:
    """Values of maps by key, row by row; the first of equal keys."""
    place, found = _find(maps, key)
    return _take(_flat(maps, key)[0].items, pa.array(place, mask=~found))


def map_has(maps: Any, key: Any) -> Any:
    """Whether the key occurs, row by row."""
    _, found = _find(maps, key)
    held, wanted = _flat(maps, key)
    answers = pa.array(found)
    known = _and(held.is_valid(), wanted.is_valid())
    return arrow("if_else")(known, answers, pa.nulls(1, pa.bool_())[0])


def _flat(maps: Any, key: Any) -> tuple[Any, Any]:
    n = length_of((maps, key))
    return vector(maps, n), vector(key, n)


def _find(maps: Any, key: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Where the entry of each row's key lies, and whether there is one."""
    maps, key = _flat(maps, key)
    begin, length = _spans(maps)
    rows, entries = np.repeat(np.arange(len(maps)), length), _entries(begin, length)
    same = _equal(_take(maps.keys, ints(entries)), _take(key, ints(rows))).fill_null(False)
    hits = np.flatnonzero(same.to_numpy(zero_copy_only=False))[::-1]
    place, found = np.zeros(len(maps), np.int64), np.zeros(len(maps), bool)
    place[rows[hits]] = entries[hits]
    found[rows[hits]] = True
    return place, found


def entry_count(maps: Any) -> Any:
    """Number of entries of maps."""
    _, length = _spans(maps)
    return pa.array(length, mask=maps.is_null().to_numpy(zero_copy_only=False))


def entry_lists(maps: Any, keys: bool) -> Any:
    """The keys, or the values, of maps as lists."""
    begin, length = _spans(maps)
    child = _take(maps.keys if keys else maps.items, ints(_entries(begin, length)))
    offsets = ints(np.concatenate(([0], np.cumsum(length)))).cast(pa.int32())
    return pa.ListArray.from_arrays(offsets, child, mask=maps.is_null() if maps.null_count else None)
