"""What every source must do, whoever wrote it: one suite to run over it.

A test module of a plug-in builds a `SourceCase` over real data and runs `CHECKS`:

    @pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
    def test_my_source(check, tmp_path):
        check(make_case(tmp_path))
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final

import pyarrow as pa

from penstock.doors.sources.interface import Options, SourcePlugin, SourcePosition, check_options
from penstock.errors import PenstockError
from penstock.semantics.columns import KNOWN_TIME

__all__ = ["CHECKS", "SourceCase"]


@dataclass(frozen=True)
class SourceCase:
    """A source over real data, with what it must give.

    Attributes:
        rows: all rows in the order of `read`, in the types of `schema`; more than one batch of them shows most.
        append: adds these rows to the data, to be read after all others; None: the data cannot grow.
        more: the rows that `append` adds.
        broken: options that name data which are not there.
    """

    plugin: SourcePlugin
    options: Options
    rows: pa.Table
    append: Callable[[], None] | None = None
    more: pa.Table | None = None
    broken: Options | None = None


def _read(case: SourceCase, position: SourcePosition | None = None) -> list[tuple[pa.RecordBatch, SourcePosition]]:
    # A position is used only after it has been text, as it is when a process starts again.
    return [(b, json.loads(json.dumps(p))) for b, p in case.plugin.read(case.options, position)]


def _table(case: SourceCase, found: list[tuple[pa.RecordBatch, SourcePosition]]) -> pa.Table:
    batches = [b.drop_columns([KNOWN_TIME]) if KNOWN_TIME in b.schema.names else b for b, _ in found]
    return pa.Table.from_batches(batches, None if batches else case.rows.schema)


def check_names_itself(case: SourceCase) -> None:
    """It has a kind and takes the options of the case."""
    assert case.plugin.kind and not case.plugin.pushed
    check_options(case.plugin, case.options)


def check_schema_is_of_batches(case: SourceCase) -> None:
    """Names and types of every batch are those of the schema."""
    schema = case.plugin.schema(case.options)
    for batch, _ in _read(case):
        own = [f for f in batch.schema if f.name != KNOWN_TIME]
        assert [(f.name, f.type) for f in own] == [(f.name, f.type) for f in schema]


def check_reads_all_in_order(case: SourceCase) -> None:
    """Every row once, in order."""
    assert _table(case, _read(case)).to_pylist() == case.rows.to_pylist()


def check_reads_the_same_twice(case: SourceCase) -> None:
    """No state is kept between reads."""
    assert _table(case, _read(case)).equals(_table(case, _read(case)))


def check_resumes_after_every_batch(case: SourceCase) -> None:
    """What came before a position and what comes after it are all rows, each once."""
    found = _read(case)
    for n in range(len(found)):
        rest = _read(case, found[n][1])
        assert _table(case, [*found[: n + 1], *rest]).to_pylist() == case.rows.to_pylist()


def check_ends_at_its_last_position(case: SourceCase) -> None:
    """After the last position there is nothing."""
    assert not _read(case, _read(case)[-1][1])


def check_sample_is_the_first_rows(case: SourceCase) -> None:
    """A sample holds the first rows, or all."""
    for n in (1, case.rows.num_rows // 2, case.rows.num_rows + 10):
        assert case.plugin.sample(case.options, n).to_pylist() == case.rows.slice(0, n).to_pylist()


def check_can_be_left_halfway(case: SourceCase) -> None:
    """A reader that is dropped lets go of its files and connections."""
    rows = case.plugin.read(case.options, None)
    assert len(list(islice(rows, 1))) == 1
    rows.close()  # type: ignore[attr-defined]


def check_finds_what_was_added(case: SourceCase) -> None:
    """Rows added after the last position come next, alone."""
    if case.append is None or case.more is None:
        return
    position = _read(case)[-1][1]
    case.append()
    assert _table(case, _read(case, position)).to_pylist() == case.more.to_pylist()


def check_missing_data_are_told(case: SourceCase) -> None:
    """Data that are not there raise an error of Penstock's, with a remedy."""
    if case.broken is None:
        return
    for call in (case.plugin.schema, lambda o: list(case.plugin.read(o, None))):
        try:
            call(case.broken)
        except PenstockError as error:
            assert error.remedy
        else:
            raise AssertionError("data that are not there were read")


CHECKS: Final[tuple[Callable[[SourceCase], None], ...]] = (
    check_names_itself,
    check_schema_is_of_batches,
    check_reads_all_in_order,
    check_reads_the_same_twice,
    check_resumes_after_every_batch,
    check_ends_at_its_last_position,
    check_sample_is_the_first_rows,
    check_can_be_left_halfway,
    check_finds_what_was_added,
    check_missing_data_are_told,
)
