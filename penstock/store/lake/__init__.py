"""The lake: Delta tables."""
