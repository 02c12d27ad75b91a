"""What the argument of `penstock add` names: one source, or several in a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Final

import sqlalchemy as sa

from penstock.define.source import Source, files, sql
from penstock.doors.sources import Options
from penstock.doors.sources.listing import FORMATS, list_files
from penstock.doors.sources.tabular import file_schema
from penstock.errors import DoorError, nearest

__all__ = ["Target", "find_targets"]

Target = tuple[str, Source]
"""A name for a definition, and its source."""

_DATABASE: Final = re.compile(r"^(sqlite|postgresql|postgres|mysql|mariadb|oracle|mssql|duckdb)[\w+]*://")


def find_targets(
    what: str, root: Path, *, table: str | None = None, cursor: str | None = None, name: str | None = None
) -> list[Target]:
    """The sources that a file, folder, pattern or URL holds.

    A folder with `name=value` folders in it, or whose files have the same columns and names that differ in digits
    only, is one source; otherwise each file is one.

    Args:
        what: as the user typed it; a path is relative to the working directory, and written relative to `root`.
        table, cursor: of a database.
        name: of the definition; only where there is one source.

    Raises:
        DoorError: there is nothing to read, or a URL holds a password.
    """
    resolved = Options({"url": what}).text("url")
    if _DATABASE.match(resolved):
        return [_database(what, resolved, table, cursor, name)]
    if "://" in resolved:
        return [(name or _name(PurePosixPath(resolved.split("?")[0])), files(what))]
    path = Path(what).expanduser()
    if not path.is_dir():
        return [(name or _name(path), files(_written(path, root)))]
    groups = _groups(path)
    if name is not None and len(groups) > 1:
        raise DoorError(
            "--name names one source",
            found=f"{len(groups)} in {what}: {', '.join(p.name for p in groups)}",
            remedy="leave it out, or add them one by one",
        )
    return [(name or _name(group), files(_written(group, root))) for group in groups]


def _written(path: Path, root: Path) -> str:
    full = Path(os.path.abspath(path))  # noqa: PTH100  links stay as the user wrote them
    return full.relative_to(root).as_posix() if full.is_relative_to(root) else full.as_posix()


def _name(path: PurePath) -> str:
    stem = path.name
    for _ in range(2):  # .csv.gz
        ending = stem.rpartition(".")[2].lower()
        known = ending in {"gz", "bz2", "xz", "zst"} or any(ending in endings for endings in FORMATS.values())
        stem = stem.rpartition(".")[0] if known else stem
    stem = re.sub(r"[*?\[\]]+", "", stem)
    text = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")[:60]
    return text if text and not text[0].isdigit() else f"s_{text}" if text else "data"


def _groups(folder: Path) -> list[Path]:
    """The folder itself, or paths and patterns in it."""
    if any(p.is_dir() and "=" in p.name for p in folder.iterdir()):
        return [folder]
    entries = sorted(p for p in folder.iterdir() if p.is_file())
    known = [p for p in entries if any(f".{e}" in p.name.lower() for ends in FORMATS.values() for e in ends)]
    if not known:
        raise DoorError(
            f"{folder} holds CSV, NDJSON or Parquet files",
            found=", ".join(p.name for p in entries[:8]) or "no files",
            remedy="name a file, or another folder",
        )
    kinds: dict[tuple[object, ...], list[Path]] = {}
    for path in known:
        kinds.setdefault(_kind(path), []).append(path)
    kinds = {kind: paths for kind, paths in kinds.items() if kind}
    found = []
    for paths in kinds.values():
        if len(paths) == 1:
            found.append(paths[0])
        elif len(kinds) == 1:
            found.append(folder)
        else:
            found.append(folder / _pattern([p.name for p in paths]))
    return sorted(found)


def _kind(path: Path) -> tuple[object, ...]:
    """Files of equal kinds are parts of one source."""
    options = Options({"path": str(path)})
    try:
        listing = list_files(options)
    except DoorError:
        return ()
    if not listing.files:
        return ()
    schema = file_schema(listing.fs, listing.files[0], listing.format)
    return (listing.format, tuple(schema.names), re.sub(r"\d+", "#", path.name))


def _pattern(names: Sequence[str]) -> str:
    return re.sub(r"\d+", "*", names[0])


def _database(what: str, resolved: str, table: str | None, cursor: str | None, name: str | None) -> Target:
    if sa.make_url(resolved).password and what == resolved:
        raise DoorError(
            "a URL that is written down holds no password",
            found="one in the URL",
            remedy="put the URL into a variable: export SHOP_DB=..., then penstock add '$SHOP_DB' --table ...",
        )
    if table is None:
        raise DoorError("a database is added table by table", found="no --table", remedy="name one: --table orders")
    if cursor is None:
        raise DoorError(
            "an SQL table is read on by a column that only grows",
            found="no --cursor",
            remedy=f"name one: --cursor id; columns are {', '.join(_columns(resolved, table, what))}",
        )
    return name or _name(PurePosixPath(table)), sql(what, table, cursor)


def _columns(url: str, table: str, shown: str) -> list[str]:
    try:
        engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
        inspector = sa.inspect(engine)
        schema, _, plain = table.rpartition(".")
        known = [*inspector.get_table_names(schema or None), *inspector.get_view_names(schema or None)]
        if plain in known:
            return [str(c["name"]) for c in inspector.get_columns(plain, schema or None)]
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        raise DoorError(
            "the database can be read", found=type(error).__name__, remedy="look at the URL and the driver", where=shown
        ) from None
    raise DoorError("there is such a table", found=repr(plain), remedy=nearest(plain, known), where=shown)
