"""Definitions made into a checked plan: names, types, expressions, lineage."""
