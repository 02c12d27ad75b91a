"""A job's state directory: the arena's file, what readers must know to map it, going back to a checkpoint."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.algebra.arena import Arena
from penstock.engine.live.checkpoint import IMAGES, Manifest, read_manifest, restore
from penstock.engine.live.durable import replace_file
from penstock.errors import StoreError

__all__ = [
    "ARENA_FILE",
    "FORMAT_VERSION",
    "arenas",
    "memory_directory",
    "open_arena",
    "pack_meta",
    "publish",
    "published",
    "unpack_meta",
]

ARENA_FILE = "arena.json"
FORMAT_VERSION = 2
_SHARED = Path("/dev/shm")  # noqa: S108 shared memory is the point: it is never written back to a disk
_ENOUGH_BYTES = 1 << 30
_LENGTH = struct.Struct("<I")


def memory_directory(state_dir: Path) -> Path:
    """Where the arena's file goes: shared memory if there is some of it, else the state directory."""
    if _SHARED.is_dir() and os.access(_SHARED, os.W_OK):
        room = os.statvfs(_SHARED)
        if room.f_blocks * room.f_frsize >= _ENOUGH_BYTES:
            return _SHARED
    return state_dir


def _arena_name(state_dir: Path) -> str:
    """What the names of a state directory's arenas begin with."""
    return "penstock-" + hashlib.blake2b(str(state_dir.resolve()).encode(), digest_size=8).hexdigest()


def arenas(state_dir: Path) -> list[Path]:
    """The files of a state directory's memory, wherever they are as far as it says."""
    about = published(state_dir)
    folders = {memory_directory(state_dir), state_dir} | (set() if about is None else {Path(about["path"]).parent})
    return [path.resolve() for folder in sorted(folders) for path in folder.glob(f"{_arena_name(state_dir)}-*")]


def open_arena(
    state_dir: Path, memory_dir: Path, epoch: int, fingerprint: str, reserve_bytes: int, *, keep: Path | None = None
) -> tuple[Arena, Manifest | None]:
    """The arena as of the last checkpoint, or an empty one; former files of this state directory are removed.

    Args:
        keep: a former arena that stays, as readers go on with it.

    Raises:
        StoreError: the checkpoint is damaged, of a newer version, or of other definitions.
    """
    name = _arena_name(state_dir)
    for old in {*arenas(state_dir), *memory_dir.glob(f"{name}-*")} - {keep}:
        old.unlink(missing_ok=True)
    path = memory_dir.resolve() / f"{name}-{epoch}"
    manifest = read_manifest(state_dir)
    if manifest is None:
        for image in IMAGES:  # of a state that was thrown away
            (state_dir / image).unlink(missing_ok=True)
        return Arena(path, reserve_bytes), None
    if manifest.facts.get("fingerprint") != fingerprint:
        raise StoreError(
            "a state directory holds the state of one version of the definitions",
            found=f"that of {manifest.facts.get('fingerprint')!r}, now {fingerprint!r}",
            remedy="give the new version a state directory of its own; the old one may run on beside it",
            where=str(state_dir),
        )
    restore(state_dir, manifest, path)
    return Arena(path, reserve_bytes, loaded=True), manifest


def publish(
    state_dir: Path,
    arena: Arena,
    epoch: int,
    fingerprint: str,
    roots: Mapping[str, Sequence[str]],
    *,
    erasures: Mapping[str, int],
) -> None:
    """Tells readers where the arena is and what lies under its roots, from root 1 on.

    Args:
        erasures: by source, how many erasures of its topic are not in this state any more.
    """
    about = {
        "format": FORMAT_VERSION,
        "path": str(arena.path.resolve()),
        "epoch": epoch,
        "fingerprint": fingerprint,
        "roots": [[name, *kept] for name, kept in roots.items()],
        "erasures": dict(erasures),
    }
    replace_file(state_dir / ARENA_FILE, json.dumps(about).encode())


def published(state_dir: Path) -> dict[str, Any] | None:
    """What `publish` told last; None where it told nothing."""
    try:
        about: dict[str, Any] = json.loads((state_dir / ARENA_FILE).read_bytes())
    except FileNotFoundError:
        return None
    return about


def pack_meta(facts: Mapping[str, Any], waiting: Mapping[str, bytes]) -> bytes:
    """What the arena keeps of the job: JSON that readers look at, then open observations for a checkpoint."""
    head = json.dumps({**facts, "waiting": {name: len(data) for name, data in waiting.items()}}).encode()
    return _LENGTH.pack(len(head)) + head + b"".join(waiting.values())


def unpack_meta(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What `pack_meta` packed."""
    (length,) = _LENGTH.unpack_from(data)
    facts: dict[str, Any] = json.loads(data[4 : 4 + length])
    waiting, at = {}, 4 + length
    for name, size in facts.pop("waiting").items():
        waiting[name] = data[at : at + size]
        at += size
    return facts, waiting
