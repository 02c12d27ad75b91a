"""Small statistics for users' own functions and aggregates."""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["entropy"]


def entropy(counts: Iterable[float]) -> float:
    """Shannon entropy in bits of the distribution that `counts` describe; 0.0 for none.

    >>> entropy([1, 1])
    1.0
    """
    values = [c for c in counts if c > 0]
    total = math.fsum(values)
    return 0.0 if not values else -math.fsum(c / total * math.log2(c / total) for c in values) + 0.0
