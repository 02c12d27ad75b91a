"""Aggregates as commutative monoids over flat fields, and their kernels. No I/O."""
