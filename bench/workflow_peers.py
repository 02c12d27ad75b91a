"""The schedulers beside ours, each in an environment of its own, doing the same no-op work.

A peer's program prints when it was asked and what its bodies told; the figures are made of that here, as ours are.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.environments import ROOT, python_with, why_not
from bench.report import Peer
from bench.workflow_measure import BODIES, Rounds, quantiles

__all__ = ["PEERS"]

_LIMIT_S = 300.0
_WANTED = {
    "dbos": ("dbos>=3,<4",),
    "prefect": ("prefect>=3.4,<4", "fastapi<0.151"),  # its server does not start with a later one
    "luigi": ("luigi>=3.6,<4",),
}
_KEPT = {
    "dbos": "its SQLite file as it comes (synced rollback journal); bodies in its own process",
    "prefect": "its server's SQLite file, which hears of states later; bodies in the flow's process",
    "luigi": "target files, not synced",
}
_SHAPES = {
    "dbos": ("fan", "chain", "many", "trigger", "recover"),
    "prefect": ("fan", "chain", "many", "trigger"),
    "luigi": ("fan", "chain", "many", "isolated"),
}
_FEWER = {"prefect": {"fan": 200, "chain": 50, "many": 20, "trigger": 20}}
"""Most tasks, runs or requests given to a slow peer."""


def _program(name: str, python: Path, folder: Path, shape: str, *numbers: int) -> subprocess.Popen[str]:
    command = [str(python), "-m", f"bench.workflow_{name}", shape, *map(str, numbers), str(folder)]
    with (folder / "stderr").open("ab") as said:
        return subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=said, text=True, start_new_session=True
        )


def _rounds(name: str, python: Path, shape: str, n: int, repeat: int) -> Rounds:
    with tempfile.TemporaryDirectory(prefix=f"{name}-bench-") as text:
        folder = Path(text)
        with _program(name, python, folder, shape, n, repeat) as process:
            try:
                out, _ = process.communicate(timeout=_LIMIT_S)
            finally:
                process.kill()
        if process.returncode:
            said = (folder / "stderr").read_text(errors="replace")
            raise subprocess.CalledProcessError(process.returncode, f"{name} {shape}", stderr=said)
        return Rounds.read(out.splitlines()[-1])


def _recovery(name: str, python: Path, n: int) -> Peer:
    """kill -9 in the middle of a fan, and a start right after it, until the next body; bodies that ran twice."""
    with tempfile.TemporaryDirectory(prefix=f"{name}-bench-") as text:
        folder = Path(text)
        seen = folder / BODIES

        def told() -> list[list[int]]:
            lines = seen.read_text().splitlines() if seen.exists() else []
            return [list(map(int, line.split())) for line in lines]

        with _program(name, python, folder, "recover", n, 1) as process:
            end = time.monotonic() + _LIMIT_S
            while len(told()) < n // 4 and time.monotonic() < end:
                time.sleep(0.01)
            process.kill()
        killed, before = time.monotonic_ns(), len(told())
        with _program(name, python, folder, "recover", n, 1) as process:
            try:
                out, _ = process.communicate(timeout=_LIMIT_S)
            finally:
                process.kill()
        bodies = told()
        if len(bodies) == before:
            raise subprocess.SubprocessError("nothing ran after the kill")
        again = len(bodies) - len({number for number, _, _ in bodies})
        progress_s = (min(began for _, began, _ in bodies[before:]) - killed) / 1e9
        note = f"{progress_s:.2f} s to progress; {again} bodies ran twice"
        return Peer(Rounds.read(out.splitlines()[-1]).version, 1 / progress_s, len(bodies) - again, again == 0, note)


def _figures(name: str, python: Path, shape: str, n: int, repeat: int) -> Peer:
    rounds = _rounds(name, python, shape, n, 1 if shape == "trigger" else repeat)
    edges: list[float] = []
    if shape == "chain":
        edges = rounds.edges_ms()
    elif shape == "trigger":
        edges = rounds.starts_ms()
    elif shape == "isolated":
        edges = _rounds(name, python, "isolated_chain", 20, 1).edges_ms()
    edge = quantiles(edges) if edges else None
    figure = 1e3 / edge["p50"] if shape == "trigger" and edge else statistics.median(rounds.rates())
    said = f"; edge p50 {edge['p50']:.1f} ms, p99 {edge['p99']:.1f} ms" if edge else ""
    ran = [len(bodies) for _, _, bodies in rounds.rounds]
    wanted = 1 if shape == "trigger" else n * 10 if shape == "many" else n
    return Peer(rounds.version, figure, sum(ran), set(ran) == {wanted}, f"n {n}; {_KEPT[name]}{said}")


def _peer(name: str) -> Callable[[str, int, int], Peer | None]:
    def peer(shape: str, n: int, repeat: int) -> Peer | None:
        """The peer on a shape; None where the shape means nothing to it, or is not written for it."""
        if shape not in _SHAPES[name]:
            return None
        n = min(n, _FEWER.get(name, {}).get(shape, n))
        try:
            python = python_with(name, _WANTED[name])
            if shape == "recover":
                return _recovery(name, python, n)
            return _figures(name, python, shape, n, repeat)
        except (OSError, ValueError, LookupError, subprocess.SubprocessError) as failure:
            return Peer(" ".join(_WANTED[name]), None, note=why_not(failure))

    return peer


PEERS: dict[str, Callable[[str, int, int], Peer | None]] = {name: _peer(name) for name in _WANTED}
