"""Penstock: real-time machine learning. Define once; live, history and request give one answer."""

__version__ = "0.1.0"
