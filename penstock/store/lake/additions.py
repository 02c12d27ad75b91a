"""Which rows each version of a Delta table added: known from its commit on, where they do not say it themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow.dataset as ds
from deltalake import DeltaTable
from pyarrow.fs import FileType

from penstock.store.lake.interface import TableVersion

__all__ = ["additions"]

_COPIES: Final = ("OPTIMIZE", "DELETE")
"""Operations whose new files hold only rows that older files held."""


def additions(versions: Sequence[tuple[TableVersion, DeltaTable]]) -> Iterator[tuple[TableVersion, ds.Dataset]]:
    """The files of a table with the version that added their rows, oldest first.

    Files that only copy rows of older ones are left out while those can be read; when a vacuum took them, the copies
    count from their own version on, later than the truth and never before it. A merge or an update writes rows anew
    that it did not change; they count from both versions on. Rows of which no file is left are not there at all.

    Args:
        versions: those still known, oldest first, each with the table as of it.
    """
    former: set[str] = set()
    gone: set[str] = set()
    for version, table in versions:
        dataset = table.to_pyarrow_dataset()
        fragments = {fragment.path: fragment for fragment in dataset.get_fragments()}
        added, removed = sorted(fragments.keys() - former), former - fragments.keys()
        former = set(fragments)
        found = dataset.filesystem.get_file_info(added) if added else []
        there = [info.path for info in found if info.type is FileType.File]
        gone |= set(added).difference(there)
        if there and (version.operation not in _COPIES or removed & gone):
            kept = [fragments[path] for path in there]
            yield version, ds.FileSystemDataset(kept, dataset.schema, dataset.format, dataset.filesystem)
