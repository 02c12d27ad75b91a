from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.algebra.keys import SHARDS, KeyEncoder, key_bytes, key_hash, key_hashes, shard_of, xxh64
from penstock.errors import DataError

INTS = st.integers(-(2**63), 2**63 - 1)
DATES = st.dates()
PART = st.one_of(INTS, st.text(max_size=40), st.booleans(), DATES)


def test_published_vectors() -> None:
    assert xxh64(b"") == 0xEF46DB3751D8E999
    assert xxh64(b"a") == 0xD24EC4F1A98C6E5B
    assert xxh64(b"abc") == 0x44BC2CF5AD770999
    assert xxh64(bytes(range(100))) == 0x6AC1E58032166597
    assert (
        key_bytes([11, "é", True, date(1970, 1, 2)]).hex()
        == "010b0000000000000004" + "02000000c3a9" + "0201" + "0301000000"
    )
    text = "a longer text than thirty-two bytes, to be sure"
    hashes = {
        (1,): 0x7B2075F90A671183,
        ("u1", 7): 0xE491FE27ECF0AB80,
        (date(1970, 1, 2),): 0xB159D3B3F187F055,
        ("", -1): 0x0F0FE345B3B62480,
        (text,): 0x45C6EDA50D67914F,
    }
    assert {key: key_hash(key) for key in hashes} == hashes
    assert [shard_of(key_hash(key)) for key in hashes] == [492, 914, 709, 60, 279]


@given(st.lists(PART, max_size=3), st.lists(PART, max_size=3))
def test_bytes_are_equal_only_for_equal_keys(
    p: list[int | str | bool | date], q: list[int | str | bool | date]
) -> None:
    same = [(type(x), x) for x in p] == [(type(x), x) for x in q]
    assert (key_bytes(p) == key_bytes(q)) == same


@pytest.mark.parametrize("part", [1.5, None, b"x", 2**63])
def test_other_parts_are_refused(part: object) -> None:
    with pytest.raises(DataError, match="use int"):
        key_bytes([part])  # type: ignore[list-item]


@given(st.lists(st.tuples(INTS, st.text(max_size=30), st.booleans(), DATES), max_size=20), st.integers(0, 3))
def test_columns_hash_as_single_keys(keys: list[tuple[int, str, bool, date]], skip: int) -> None:
    kinds = (pa.int64(), pa.string(), pa.bool_(), pa.date32())
    columns = [pa.array([key[i] for key in keys], kind)[skip:] for i, kind in enumerate(kinds)]
    assert key_hashes(columns).tolist() == [key_hash(key) for key in keys[skip:]]
    for i, column in enumerate(columns):
        assert key_hashes([column]).tolist() == [key_hash([key[i]]) for key in keys[skip:]]


@given(st.lists(st.lists(st.none() | st.text(max_size=24), max_size=30), max_size=4))
def test_codes_number_keys_by_first_appearance(batches: list[list[str | None]]) -> None:
    encoder, known = KeyEncoder(), dict[str, int]()
    for i, batch in enumerate(batches):
        array = pa.array(batch, pa.large_string() if i % 2 else pa.string())
        unknown = encoder.encode([array], add=False).tolist()
        assert unknown == [-1 if x is None else known.get(x, -1) for x in batch]
        wanted = [-1 if x is None else known.setdefault(x, len(known)) for x in batch]
        assert encoder.encode([array]).tolist() == wanted
    assert len(encoder) == len(known)


def test_many_codes_of_every_kind() -> None:
    rng = np.random.default_rng(3)
    numbers = rng.integers(-(2**62), 2**62, 20_000).repeat(2)
    codes = KeyEncoder().encode([pa.array(numbers)])
    assert codes.tolist() == np.arange(20_000).repeat(2).tolist()
    pairs = [pa.array(numbers % 100), pa.array([f"a long enough text {x % 70}" for x in numbers])]
    found = KeyEncoder().encode(pairs)
    names = list(zip(pairs[0].to_pylist(), pairs[1].to_pylist(), strict=True))
    order = {name: i for i, name in enumerate(dict.fromkeys(names))}
    assert found.tolist() == [order[name] for name in names]
    parts = np.bincount(shard_of(key_hashes([pa.array(np.arange(100_000))])), minlength=SHARDS)
    assert parts.size == SHARDS and parts.min() > 50 and parts.max() < 160


def test_null_parts_have_no_code() -> None:
    columns = [pa.array([1, None, 2]), pa.array([True, False, None])]
    assert KeyEncoder().encode(columns).tolist() == [0, -1, -1]


def test_float_keys_are_refused() -> None:
    with pytest.raises(DataError, match="double"):
        KeyEncoder().encode([pa.array([1.0])])
