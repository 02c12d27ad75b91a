from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from penstock.semantics.columns import NEVER_US, OP_DELETE, OP_INSERT, OP_UPSERT
from penstock.semantics.versions import ACCEPTED, DUPLICATE, NO_ID, NO_OP, Seen, accept, resolve_versions

Row = tuple[int, int, int]  # (id, op, known time)


def naive_accept(rows: list[Row], dedup_us: int, corrected_us: int | None) -> list[tuple[int, int]]:
    """time.md's door, one row at a time."""
    inserts: dict[int, list[int]] = {}
    versions: dict[int, int] = {}
    decided = []
    for code, op, k in rows:
        known = code in versions and (corrected_us is None or versions[code] >= k - corrected_us)
        if op == OP_DELETE and not known:
            decided.append((NO_OP, op))
        elif code == NO_ID:
            decided.append((ACCEPTED, OP_INSERT))
        elif op == OP_INSERT and any(earlier >= k - dedup_us for earlier in inserts.get(code, [])):
            decided.append((DUPLICATE, op))
        else:
            effective = OP_INSERT if op == OP_UPSERT and not known else op
            if effective == OP_INSERT:
                inserts.setdefault(code, []).append(k)
            versions[code] = k
            decided.append((ACCEPTED, effective))
    return decided


ROWS = st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 2), st.integers(0, 3)), max_size=120).map(
    lambda rows: [
        (code, op, k) for (code, op, _), k in zip(rows, np.cumsum([step for *_, step in rows]).tolist(), strict=True)
    ]
)


@given(ROWS, st.integers(0, 20), st.none() | st.integers(0, 20))
def test_decisions_are_those_of_one_row_at_a_time(rows: list[Row], dedup_us: int, corrected_us: int | None) -> None:
    ids, ops, known = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    decisions = accept(ids, ops.astype(np.int8), known, dedup_us, corrected_us=corrected_us)
    decided = list(zip(decisions.kind.tolist(), decisions.op.tolist(), strict=True))
    assert decided == naive_accept(rows, dedup_us, corrected_us)


@given(ROWS, st.integers(0, 20), st.integers(0, 120))
def test_deciding_in_two_parts_is_deciding_at_once(rows: list[Row], dedup_us: int, cut: int) -> None:
    ids, ops, known = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    ops8 = ops.astype(np.int8)
    whole = accept(ids, ops8, known, dedup_us)
    first = accept(ids[:cut], ops8[:cut], known[:cut], dedup_us)
    seen = Seen.nothing(5)
    for row, code in enumerate(ids[:cut]):
        if code != NO_ID:
            seen.inserted_us[code] = first.inserted_us[row]
            if first.kind[row] == ACCEPTED:
                seen.versioned_us[code] = known[row]
    second = accept(ids[cut:], ops8[cut:], known[cut:], dedup_us, seen)
    assert np.r_[first.kind, second.kind].tolist() == whole.kind.tolist()
    assert np.r_[first.op, second.op].tolist() == whole.op.tolist()


def test_a_duplicate_does_not_extend_the_span() -> None:
    decisions = accept(np.zeros(3, np.int64), np.zeros(3, np.int8), np.array([0, 8, 12]), 10)
    assert decisions.kind.tolist() == [ACCEPTED, DUPLICATE, ACCEPTED]
    assert decisions.previous.tolist() == [-1, 0, 0]


def versions(rows: Sequence[tuple[str | None, int, int, int, int]]) -> pa.Table:
    names = ["_id", "_op", "_known_time", "_partition", "_offset"]
    types = [pa.string(), pa.int8(), pa.int64(), pa.int32(), pa.int64()]
    columns = [[row[i] for row in rows] for i in range(5)]
    return pa.table({name: pa.array(c, t) for name, c, t in zip(names, columns, types, strict=True)})


@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 2), st.integers(0, 2)), max_size=30))
def test_at_any_time_an_id_has_its_greatest_version_or_none(rows: list[tuple[str | None, int, int]]) -> None:
    known = np.cumsum([step for *_, step in rows]).tolist()
    log = [
        (code, op if code else OP_INSERT, k, 0, i) for i, ((code, op, _), k) in enumerate(zip(rows, known, strict=True))
    ]
    resolved = resolve_versions(versions(log)).to_pylist()
    for at in range(60):
        expected = {row[4] for row in log if row[0] is None and row[2] <= at}
        for code in ("a", "b"):
            visible = [row for row in log if row[0] == code and row[2] <= at]
            if visible and visible[-1][1] != OP_DELETE:
                expected.add(visible[-1][4])
        counting = {row["_offset"] for row in resolved if row["_known_time"] <= at < row["_known_until"]}
        assert counting == expected


def test_a_move_ends_the_version_in_the_old_partition_only() -> None:
    log = [("a", OP_INSERT, 5, 0, 0), ("a", OP_DELETE, 9, 0, 1), ("a", OP_UPSERT, 9, 1, 0)]
    table = resolve_versions(versions(log), positions=True)
    assert table["_known_until"].to_pylist() == [9, NEVER_US]
    assert table["_until_offset"].to_pylist() == [1, NEVER_US]


def test_a_row_beyond_the_correction_horizon_is_a_new_event() -> None:
    log = versions([("a", OP_INSERT, 0, 0, 0), ("a", OP_UPSERT, 10, 0, 1), ("a", OP_UPSERT, 21, 0, 2)])
    resolved = resolve_versions(log, horizon_us=10).to_pylist()
    assert [row["_known_until"] for row in resolved] == [10, NEVER_US, NEVER_US]


def test_rows_of_a_stream_without_corrections_never_end() -> None:
    log = versions([("a", OP_INSERT, 0, 0, 0), ("a", OP_INSERT, 10, 0, 1)])
    assert [row["_known_until"] for row in resolve_versions(log, corrected=False).to_pylist()] == [NEVER_US, NEVER_US]
