"""Interfaces and back ends of what is kept: log, lake, meta, blob."""
