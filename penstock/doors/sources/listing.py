"""Which files a path names: one file, a pattern, or a folder with `dt=/hour=` folders; half-written ones left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import fsspec

from penstock.doors.sources.interface import Options
from penstock.errors import DataError, DoorError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FORMATS", "FileEntry", "Listing", "list_files", "partition_type"]

FORMATS: Final = {
    "csv": ("csv", "tsv", "txt"),
    "ndjson": ("ndjson", "jsonl", "json"),
    "parquet": ("parquet", "parq", "pq"),
}
"""The endings by which a format is told; text formats may be followed by .gz, .bz2, .xz or .zst."""
_PACKED: Final = ("gz", "bz2", "xz", "zst")
_UNFINISHED = re.compile(
    r"(^[._])|(\.(tmp|temp|part|partial|crc|inprogress|pending|crdownload|swp)$)|(_tmp$)|(_COPYING_$)|~$"
)
_PART = re.compile(r"([A-Za-z_]\w*)=(.*)\Z")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}\Z|\d{8}\Z")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a listing.

    Attributes:
        path: as the file system knows it. name: relative to the listing's folder, with forward slashes.
        modified_us: UTC microseconds; 0 where the file system does not say.
        partition: texts of the `name=value` folders above it.
    """

    path: str
    name: str
    size: int
    modified_us: int
    partition: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Listing:
    """The files of a source at one moment, sorted by name.

    Attributes:
        fs: the fsspec file system. shown: the path as written.
        format: csv, ndjson or parquet.
        partition_types: type (text, int or date) of each folder column, in order.
    """

    fs: Any
    shown: str
    format: str
    files: tuple[FileEntry, ...]
    partition_types: tuple[tuple[str, str], ...]

    def partition_fields(self) -> list[pa.Field]:
        """The Arrow fields of the folder columns."""
        import pyarrow as pa

        kinds = {"text": pa.string(), "int": pa.int64(), "date": pa.date32()}
        return [pa.field(name, kinds[kind]) for name, kind in self.partition_types]

    def partition_values(self, entry: FileEntry) -> list[Any]:
        """The values of the folder columns for one file.

        Raises:
            DataError: the folder's value does not fit the type of the others.
        """
        texts = dict(entry.partition)
        try:
            return [_value(texts[name], kind) for name, kind in self.partition_types]
        except (KeyError, ValueError) as error:
            raise DataError(
                f"every file lies under the folders {', '.join(f'{n}=' for n, _ in self.partition_types)}",
                found=repr(entry.name),
                remedy="move the file, or name a path that leaves it out",
                where=entry.path,
            ) from error


def list_files(options: Options) -> Listing:
    """Lists the files of a source.

    Raises:
        DoorError: the path, a folder's contents or the format cannot be used.
    """
    written, path = options.shown("path"), options.text("path")
    if "://" not in path:
        path = str(options.root / Path(path).expanduser())
    fs, inner = fsspec.core.url_to_fs(path)
    found = _find(fs, inner, written)
    named = options.text("format", "")
    format = named or _common_format([e.name for e in found], written)
    if format not in FORMATS:
        raise DoorError(
            f"files are read as {', '.join(FORMATS)}", found=repr(format), remedy='write format="csv"', where=written
        )
    if not named:
        found = [e for e in found if _format(e.name) == format]
    return Listing(fs, written, format, tuple(sorted(found, key=lambda e: e.name)), _partition_types(found))


def _find(fs: Any, path: str, written: str) -> list[FileEntry]:
    if any(c in path for c in "*?["):
        # The part before the first wildcard names the folder to which names are relative.
        base = path[: re.search(r"[*?[]", path).start()].rpartition("/")[0]  # type: ignore[union-attr]
        infos = {k: v for k, v in fs.glob(path, detail=True).items() if v["type"] == "file"}
        if not infos:
            raise DoorError("the pattern matches files", found="none", remedy="look at the pattern", where=written)
    elif fs.isdir(path):
        base, infos = path, fs.find(path, detail=True)
    elif fs.exists(path):
        base, infos = path.rpartition("/")[0], {path: fs.info(path)}
        return [_entry(path, base, infos[path])]
    else:
        raise DoorError("there is such a file or folder", found="none", remedy="look at the path", where=written)
    entries = [_entry(p, base, info) for p, info in infos.items()]
    return [e for e in entries if not any(_UNFINISHED.search(part) for part in PurePosixPath(e.name).parts)]


def _entry(path: str, base: str, info: dict[str, Any]) -> FileEntry:
    name = path[len(base) :].lstrip("/") if path.startswith(base) else path
    modified = info.get("mtime", info.get("LastModified", info.get("last_modified", 0)))
    if isinstance(modified, datetime):
        modified = modified.timestamp()
    parts = [(m[1], m[2]) for part in PurePosixPath(name).parts[:-1] if (m := _PART.match(part))]
    return FileEntry(path, name, int(info["size"] or 0), int(float(modified or 0) * 1e6), tuple(parts))


def _format(name: str) -> str | None:
    endings = PurePosixPath(name).name.lower().split(".")[1:]
    if endings and endings[-1] in _PACKED:
        endings.pop()
    return next((f for f, known in FORMATS.items() if endings and endings[-1] in known), None)


def _common_format(names: Sequence[str], written: str) -> str:
    formats = {f for name in names if (f := _format(name))}
    if not names:
        raise DoorError(
            "the folder holds files", found="none", remedy="wait for the first, or name another", where=written
        )
    if len(formats) != 1:
        raise DoorError(
            "the files of one source are of one format, told by their endings",
            found=repr(sorted(formats) or sorted(names)[:5]),
            remedy='write format="csv", "ndjson" or "parquet", or a pattern such as "data/*.parquet"',
            where=written,
        )
    return formats.pop()


def _partition_types(files: Sequence[FileEntry]) -> tuple[tuple[str, str], ...]:
    texts: dict[str, list[str]] = {}
    for entry in files:
        for name, text in entry.partition:
            texts.setdefault(name, []).append(text)
    return tuple((name, partition_type(values)) for name, values in texts.items())


def partition_type(texts: Sequence[str]) -> str:
    """The type of a folder column: date for 2026-11-22 and 20261122, int for other digits, else text.

    >>> partition_type(["20261122"]), partition_type(["00", "07"]), partition_type(["7", "cn"])
    ('date', 'int', 'text')
    """
    if all(_DAY.match(t) and _is_day(t) for t in texts):
        return "date"
    if all(t.isdigit() and len(t) < 19 for t in texts):
        return "int"
    return "text"


def _is_day(text: str) -> bool:
    try:
        _value(text, "date")
    except ValueError:
        return False
    return True


def _value(text: str, kind: str) -> Any:
    if kind == "date":
        return date.fromisoformat(text)
    return int(text) if kind == "int" else text
