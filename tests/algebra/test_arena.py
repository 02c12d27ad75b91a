from __future__ import annotations

import itertools
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.algebra.arena import CHUNK_BYTES, Arena, ArenaView, crc32c, load_snapshot
from penstock.errors import StoreError


def bits(crc: int, data: bytes) -> int:
    """CRC-32C bit by bit."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@given(st.binary(max_size=100), st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_checksum_is_crc32c(data: bytes, start: int) -> None:
    assert crc32c(data, start) == bits(start, data)


def put(arena: Arena, offset: int, data: bytes) -> None:
    arena.lib.ps_touch(arena.handle, offset, len(data))
    arena.ffi.memmove(arena.handle.base + offset, data, len(data))


def images(tmp_path: Path) -> tuple[int, int]:
    flags = os.O_RDWR | os.O_CREAT
    return os.open(tmp_path / "image-0", flags), os.open(tmp_path / "image-1", flags)


@given(st.lists(st.tuples(st.integers(1, 100_000), st.booleans()), max_size=200))
@settings(max_examples=30, deadline=None)
def test_blocks_never_overlap_and_come_back(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool]]
) -> None:
    arena = Arena(tmp_path_factory.mktemp("arena") / "arena")
    live: list[tuple[int, int]] = []
    for size, give_back in steps:
        if give_back and live:
            offset, bytes_ = live.pop(size % len(live))
            arena.lib.ps_arena_free(arena.handle, offset, bytes_)
        else:
            offset = arena.lib.ps_arena_alloc(arena.handle, size)
            assert offset % 16 == 0
            live.append((offset, size))
    spans = sorted((offset, offset + arena.lib.ps_arena_block(size)) for offset, size in live)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    assert arena.used_bytes == sum(end - start for start, end in spans)
    assert all(arena.lib.ps_arena_block(size) - size <= max(32, size // 4 + 16) for _, size in live)
    arena.close()


def test_a_snapshot_is_the_arena_as_it_was_between_two_batches(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    arena = Arena(tmp_path / "arena")
    fds = images(tmp_path)
    offset = arena.lib.ps_arena_alloc(arena.handle, 40 * CHUNK_BYTES)
    slots, crcs = np.zeros(64, np.uint8), np.zeros(64, np.uint32)
    for round_ in range(6):
        for _ in range(30):
            put(arena, offset + int(rng.integers(0, 40 * CHUNK_BYTES - 64)), rng.bytes(64))
        arena.commit(round_ + 1, round_)
        before = bytes(arena.ffi.buffer(arena.handle.base, arena.top_bytes))
        arena.begin_snapshot()
        while arena.write_snapshot(fds, slots, crcs, 3):
            put(arena, offset + int(rng.integers(0, 40 * CHUNK_BYTES - 64)), rng.bytes(64))
        n = -(-len(before) // CHUNK_BYTES)
        assert load_snapshot(tmp_path / "copy", fds, slots, crcs, n) is None
        assert (tmp_path / "copy").read_bytes()[: len(before)] == before
    arena.close()


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    arena = Arena(tmp_path / "arena")
    fds = images(tmp_path)
    offset = arena.lib.ps_arena_alloc(arena.handle, 4 * CHUNK_BYTES)
    put(arena, offset, b"x" * 4 * CHUNK_BYTES)
    arena.begin_snapshot()
    slots, crcs = np.zeros(8, np.uint8), np.zeros(8, np.uint32)
    while arena.write_snapshot(fds, slots, crcs, 100):
        pass
    os.pwrite(fds[slots[2]], b"?", 2 * CHUNK_BYTES + 5)
    assert load_snapshot(tmp_path / "copy", fds, slots, crcs, 5) == 2
    arena.close()


def test_an_abandoned_snapshot_is_made_up_for_by_the_next(tmp_path: Path) -> None:
    arena = Arena(tmp_path / "arena")
    fds = images(tmp_path)
    offset = arena.lib.ps_arena_alloc(arena.handle, 8 * CHUNK_BYTES)
    put(arena, offset, b"a" * 8 * CHUNK_BYTES)
    slots, crcs = np.zeros(16, np.uint8), np.zeros(16, np.uint32)
    arena.begin_snapshot()
    arena.write_snapshot(fds, slots.copy(), crcs.copy(), 3)
    put(arena, offset + 5 * CHUNK_BYTES, b"b")
    arena.abandon_snapshot()
    assert arena.begin_snapshot() == 9
    while arena.write_snapshot(fds, slots, crcs, 100):
        pass
    assert load_snapshot(tmp_path / "copy", fds, slots, crcs, 9) is None
    assert (tmp_path / "copy").read_bytes()[: arena.top_bytes] == bytes(
        arena.ffi.buffer(arena.handle.base, arena.top_bytes)
    )
    arena.close()


def test_a_view_sees_batches_whole_and_follows_growth(tmp_path: Path) -> None:
    arena = Arena(tmp_path / "arena")
    view = ArenaView(tmp_path / "arena")
    before = view.sequence()
    arena.begin()
    assert view.sequence() % 2 == 1
    arena.set_meta(b"positions")
    arena.lib.ps_arena_alloc(arena.handle, 100 << 20)
    arena.commit(1, 17)
    assert view.sequence() == before + 2
    assert view.batch() == (1, 17)
    assert view.meta() == b"positions"
    assert len(view.memory) >= 100 << 20
    view.close()
    arena.close()


def test_an_arena_does_not_grow_past_its_reserve(tmp_path: Path) -> None:
    arena = Arena(tmp_path / "arena", reserve_bytes=1 << 25)
    assert arena.lib.ps_arena_alloc(arena.handle, 1 << 26) == 0
    with pytest.raises(StoreError, match="free space"):
        arena.check(False, "grow")
    arena.close()


def test_another_format_is_refused(tmp_path: Path) -> None:
    arena = Arena(tmp_path / "arena")
    arena.close()
    with (tmp_path / "arena").open("r+b") as file:
        file.seek(8)
        file.write(struct.pack("<I", 99))
    with pytest.raises(StoreError, match="version"):
        ArenaView(tmp_path / "arena")
    with pytest.raises(StoreError, match="version"):
        Arena(tmp_path / "arena", loaded=True)
