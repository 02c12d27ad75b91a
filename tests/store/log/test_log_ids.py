from __future__ import annotations

from functools import partial
from pathlib import Path

import lmdb
import numpy as np
import pytest

from penstock.semantics.versions import UNSEEN_US
from penstock.store.log.embedded import ids as index_module
from penstock.store.log.embedded.environment import Environment
from penstock.store.log.embedded.ids import Entries, IdIndex, pack_places, unpack_places


def entries(hashes: list[tuple[int, int]], us: int) -> Entries:
    hashes = sorted(set(hashes))
    high, low = (np.array(part, np.uint64) for part in zip(*hashes, strict=True))
    stamps = np.full(len(hashes), us, np.int64)
    return Entries(high, low, stamps, stamps, np.arange(len(hashes)))


def _add(env: Environment, run: Entries, oldest_us: int, txn: lmdb.Transaction) -> None:
    IdIndex(txn, env.db["ids"], 7).add(run, oldest_us)


@pytest.mark.parametrize("sealed", [64, 1 << 16])
def test_the_index_is_a_dict_of_the_newest_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: int
) -> None:
    """Random runs of random sizes, hash halves that collide, filters on small runs, and runs that expire."""
    monkeypatch.setattr(index_module, "_SEALED", sealed)
    monkeypatch.setattr(index_module, "_FILTERED", 32)
    rng = np.random.default_rng(1)
    # Few first halves, so that ids share them; spread over the whole range, as hashes are.
    firsts = rng.integers(0, 2**64, 40, np.uint64, endpoint=False).tolist()
    model: dict[tuple[int, int], tuple[int, int]] = {}
    (tmp_path / "env").mkdir()
    env = Environment.open(tmp_path / "env", "process")
    for us in range(120):
        size = int(rng.choice([1, 3, 20, 150]))
        chosen = [
            (firsts[i], int(j)) for i, j in zip(rng.integers(0, 40, size), rng.integers(0, 60, size), strict=True)
        ]
        run = entries(chosen, us)
        oldest_us = us - 50
        env.update(partial(_add, env, run, oldest_us))
        pairs = zip(run.high.tolist(), run.low.tolist(), run.places.tolist(), strict=True)
        model |= {(high, low): (us, place) for high, low, place in pairs}
    asked = [(first, low) for first in firsts for low in range(60)]
    high, low = (np.array(part, np.uint64) for part in zip(*asked, strict=True))
    known = env.view(lambda txn: IdIndex(txn, env.db["ids"], 7).lookup(high, low))
    for i, pair in enumerate(asked):
        us, place = model.get(pair, (UNSEEN_US, 0))
        if us >= 119 - 50:
            assert (known.versioned_us[i], known.places[i]) == (us, place)
        else:
            assert known.versioned_us[i] < 119 - 50
    gone = set(asked[::3])

    def drop(held: Entries) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.array([pair in gone for pair in zip(held.high.tolist(), held.low.tolist(), strict=True)], np.bool_)

    env.update(lambda txn: IdIndex(txn, env.db["ids"], 7).rewrite(drop))
    after = env.view(lambda txn: IdIndex(txn, env.db["ids"], 7).lookup(high, low))
    for i, pair in enumerate(asked):
        assert after.versioned_us[i] == (UNSEEN_US if pair in gone else known.versioned_us[i])
    env.close()


def test_a_place_keeps_its_parts() -> None:
    partitions, offsets = np.array([0, 1023, 5]), np.array([0, 2**51 - 1, 7])
    deleted = np.array([False, True, True])
    found = unpack_places(pack_places(partitions, offsets, deleted))
    assert [part.tolist() for part in found] == [partitions.tolist(), offsets.tolist(), deleted.tolist()]
