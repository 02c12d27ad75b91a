"""History: point in time for any table of (keys, q, a)."""
