"""State that rests on rows which were erased from the log since: it is thrown away, and made again from what is left.

Erasing takes a person's rows out of the log and the lake. In state they lie everywhere: under their own key, under the
keys that their rows mention, in joined rows and in what was computed from these. So nothing is picked out of it. A
state directory notes how many erasures its sources had seen when it was begun; where they have seen others since, the
state is begun again, from the first row that log and lake hold, and is then what it would be had the rows never been.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from penstock.engine.live.checkpoint import IMAGES, MANIFEST
from penstock.engine.live.durable import replace_file, sync_directory
from penstock.engine.live.journal import segments
from penstock.engine.live.lease import Lease
from penstock.engine.live.state import ARENA_FILE, arenas, published
from penstock.errors import EngineError
from penstock.store.log.interface import Topic

__all__ = ["Erasures", "begin", "discard", "is_clean", "seen", "state_directories"]

_FILE = "erasures"

Erasures = Mapping[str, int]
"""By full name of a topic: how many erasures it has seen."""


def seen(topics: Iterable[Topic]) -> dict[str, int]:
    """How many erasures topics have seen now."""
    return {str(topic.name): len(topic.erasures()) for topic in topics}


def begin(state_dir: Path, erasures: Erasures, keep: Path | None = None) -> None:
    """Notes what the state about to be opened has seen, throwing it away first where it has seen less.

    Args:
        keep: as in `discard`.
    """
    path = state_dir / _FILE
    former = json.loads(path.read_text()) if path.exists() else {}
    if any(former.get(name, 0) != n for name, n in erasures.items()):
        discard(state_dir, keep)
    replace_file(path, json.dumps(dict(erasures)).encode())


def discard(state_dir: Path, keep: Path | None = None) -> None:
    """Removes everything that a state directory holds of rows; killed half-way, the next start does the rest.

    Args:
        keep: an arena that readers may go on reading; what says where it is stays too.
    """
    for segment in segments(state_dir):
        (state_dir / f"journal-{segment}").unlink(missing_ok=True)
    sync_directory(state_dir)  # a journal must not outlive its checkpoint
    (state_dir / MANIFEST).unlink(missing_ok=True)
    for name in (f"{MANIFEST}.new", *IMAGES):
        (state_dir / name).unlink(missing_ok=True)
    for path in arenas(state_dir):
        if path != keep:
            path.unlink(missing_ok=True)
    if keep is None:
        (state_dir / ARENA_FILE).unlink(missing_ok=True)
    sync_directory(state_dir)


def state_directories(folder: Path) -> list[Path]:
    """Every directory at or below a folder that a live job has had as its state directory."""
    return sorted(path.parent for path in folder.rglob("epoch") if path.is_file())


def is_clean(state_dir: Path, topics: Iterable[Topic]) -> bool:
    """Whether a state directory holds nothing of rows that were erased; that of a stopped job is thrown away if it may.

    False while a running job has yet to make its state again, which it does by itself.
    """
    now, about = seen(topics), published(state_dir)
    seen_all = about is not None and "erasures" in about and about["erasures"].items() <= now.items()
    if about is not None and seen_all and arenas(state_dir) == [Path(about["path"])]:
        return True
    try:
        lease = Lease(state_dir)
    except EngineError:
        return False  # a job runs on it
    try:
        discard(state_dir)
    finally:
        lease.close()
    return True
