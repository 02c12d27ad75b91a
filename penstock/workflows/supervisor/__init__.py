"""Streams: what is wanted of them against what runs."""

from __future__ import annotations
