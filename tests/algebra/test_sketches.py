from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from penstock.algebra.sketches import estimate, hash_numbers, hash_values


@pytest.mark.parametrize("n", [1, 2, 10, 100, 3_000, 20_000, 400_000])
def test_estimates_are_within_four_standard_errors(n: int) -> None:
    hashes = hash_numbers(np.arange(n) * 7 + 1)
    found = estimate(np.array([0, n, n, 2 * n]), np.concatenate([hashes, hashes]))
    assert found[1] == 0 and found[0] == found[2]
    assert abs(int(found[0]) - n) <= max(0.065 * n, 0.5)


def test_repeats_do_not_count() -> None:
    hashes = hash_values(pa.array(["a", "b", "c"]))
    assert estimate(np.array([0, 30]), np.tile(hashes, 10)).tolist() == [3]


def test_values_of_any_type_have_hashes() -> None:
    assert len(set(hash_values(pa.array([[1], [2], None])).tolist())) == 3
    assert hash_values(pa.array([b"x"]))[0] != hash_values(pa.array(["x"]))[0]
