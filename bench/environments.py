"""Environments of peers that do not stand in ours: made once under `.bench/`, with bounds, and kept."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["ROOT", "python_with", "why_not"]

ROOT = Path(__file__).parents[1]


def python_with(name: str, wanted: Sequence[str], limit_s: float = 600.0) -> Path:
    """The interpreter of an environment with what is wanted, made if it is not there.

    Args:
        name: of the peer; the folder's name also tells what was wanted.

    Raises:
        OSError, subprocess.SubprocessError: it could not be made within the limit.
    """
    folder = ROOT / ".bench" / f"{name}-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:8]}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=limit_s)
        command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary=:all:"]
        subprocess.run([*command, *wanted], check=True, timeout=limit_s, stderr=subprocess.PIPE, text=True)
        (folder / "complete").touch()
    return python


def why_not(failure: Exception) -> str:
    """What kept a peer from running: the failure, and the last line that it said."""
    said = str(getattr(failure, "stderr", None) or "").strip().splitlines()
    return "; ".join([f"did not run: {failure}", *said[-1:]])
