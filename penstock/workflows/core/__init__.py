"""The heart of workflows: state, messages in, moves out. No I/O, no clock, no randomness, no thread."""

from __future__ import annotations
