from __future__ import annotations

import errno
import os
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.algebra.arena import CHUNK_BYTES, Arena
from penstock.engine.live.checkpoint import Checkpointer, read_manifest, restore
from penstock.engine.live.journal import Journal, read_segment, segments
from penstock.engine.live.lease import Lease
from penstock.errors import EngineError, StoreError


@given(st.lists(st.binary(min_size=1, max_size=2_000), max_size=30), st.data())
@settings(max_examples=30, deadline=None)
def test_a_torn_journal_ends_before_the_tear(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    journal = Journal(directory, 1)
    ends = []
    for batch, payload in enumerate(payloads):
        journal.append(batch, payload)
        ends.append(journal.bytes_written)
    journal.close()
    assert list(read_segment(directory, 1)) == list(enumerate(payloads))
    cut = data.draw(st.integers(0, ends[-1] if ends else 0))
    with (directory / "journal-1").open("r+b") as file:
        file.seek(cut)
        file.write(b"\xaa" * 64)
    whole = [pair for pair, end in zip(enumerate(payloads), ends, strict=True) if end <= cut]
    assert list(read_segment(directory, 1)) == whole


def test_a_journal_outgrows_its_first_megabyte(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 3)
    for batch in range(5):
        journal.append(batch, bytes([batch + 1]) * 600_000)
    journal.rotate(4)
    journal.append(5, b"next")
    assert [batch for batch, _ in read_segment(tmp_path, 3)] == [0, 1, 2, 3, 4]
    assert segments(tmp_path) == [3, 4]
    journal.drop_before(4)
    assert segments(tmp_path) == [4]
    journal.close()


def test_a_segment_of_another_number_is_not_taken(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1)
    journal.append(1, b"x")
    journal.close()
    (tmp_path / "journal-1").rename(tmp_path / "journal-2")
    assert list(read_segment(tmp_path, 2)) == []


def fill(arena: Arena, offset: int, size: int, batch: int) -> None:
    rng = random.Random(batch)
    arena.begin()
    for _ in range(20):
        at = offset + rng.randrange(0, size - 8)
        arena.lib.ps_touch(arena.handle, at, 8)
        arena.ffi.memmove(arena.handle.base + at, rng.randbytes(8), 8)
    arena.commit(batch, batch)


def contents(arena: Arena) -> bytes:
    return bytes(arena.ffi.buffer(arena.handle.base, arena.top_bytes))


def test_only_the_last_manifest_counts_whatever_was_written_after(tmp_path: Path) -> None:
    arena = Arena(tmp_path / "arena")
    checkpointer = Checkpointer(arena, tmp_path, None)
    size = 30 * CHUNK_BYTES
    offset = arena.lib.ps_arena_alloc(arena.handle, size)
    expected = b""
    for number in range(1, 5):
        fill(arena, offset, size, number)
        expected = contents(arena)
        checkpointer.begin(number, {"n": number})
        fill(arena, offset, size, 100 + number)
        assert checkpointer.poll(wait=True)
    fill(arena, offset, size, 50)
    manifest_before = (tmp_path / "manifest").read_bytes()
    checkpointer.begin(5, {})
    assert checkpointer.poll(wait=True)
    (tmp_path / "manifest").write_bytes(manifest_before)  # all chunks written, the rename lost
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert manifest.facts == {"n": 4}
    restore(tmp_path, manifest, tmp_path / "copy")
    copy = Arena(tmp_path / "copy", loaded=True)
    assert contents(copy)[16 + 8 :] == expected[16 + 8 :]  # all but the sequence
    assert copy.batch == 4
    checkpointer.close()
    arena.close()
    copy.close()


def test_a_failed_checkpoint_leaves_the_former(tmp_path: Path) -> None:
    arena = Arena(tmp_path / "arena")

    def step(name: str) -> None:
        if failing and name == "chunks written":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    failing = False
    checkpointer = Checkpointer(arena, tmp_path, None, step)
    size = 5 * CHUNK_BYTES
    offset = arena.lib.ps_arena_alloc(arena.handle, size)
    fill(arena, offset, size, 1)
    checkpointer.begin(1, {})
    assert checkpointer.poll(wait=True)
    failing = True
    fill(arena, offset, size, 2)
    checkpointer.begin(2, {})
    with pytest.raises(StoreError, match="free space"):
        checkpointer.poll(wait=True)
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert manifest.number == 1
    restore(tmp_path, manifest, tmp_path / "copy")
    failing = False
    checkpointer.begin(3, {})
    assert checkpointer.poll(wait=True)
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    restore(tmp_path, manifest, tmp_path / "copy")
    assert Arena(tmp_path / "copy", loaded=True).batch == 2
    checkpointer.close()
    arena.close()


def test_a_damaged_or_newer_manifest_is_refused(tmp_path: Path) -> None:
    arena = Arena(tmp_path / "arena")
    checkpointer = Checkpointer(arena, tmp_path, None)
    arena.commit(1, 1)
    checkpointer.begin(1, {})
    checkpointer.poll(wait=True)
    checkpointer.close()
    arena.close()
    good = (tmp_path / "manifest").read_bytes()
    (tmp_path / "manifest").write_bytes(good.replace(b'"format": 2', b'"format": 3'))
    with pytest.raises(StoreError, match="format 3"):
        read_manifest(tmp_path)
    (tmp_path / "manifest").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(StoreError, match="damaged"):
        read_manifest(tmp_path)


def test_a_directory_is_held_by_one_and_the_epoch_rises(tmp_path: Path) -> None:
    first = Lease(tmp_path)
    with pytest.raises(EngineError, match="one process at a time"):
        Lease(tmp_path)
    copied = tmp_path.with_name(tmp_path.name + "-copy")
    shutil.copytree(tmp_path, copied)
    first.check()
    first.close()
    second = Lease(tmp_path)
    assert second.epoch == first.epoch + 1
    with pytest.raises(EngineError, match="lost"):
        first.check()
    second.close()
