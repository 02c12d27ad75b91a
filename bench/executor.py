"""No-op tasks through the local executor alone, without scheduler and database: python -m bench.executor [--n 1000]."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from penstock.testing.executors import Place


def fan(place: Place, n: int, isolation: dict[str, Any]) -> tuple[float, float]:
    """Tasks a second, n given out at once; and microseconds of processor time for each, of all processes."""
    tasks = [place.task("nothing", isolation=isolation) for _ in range(n)]
    start_s, start_cpu_s = time.perf_counter(), cpu_s(place)
    place.run(*tasks, timeout_s=300)
    return n / (time.perf_counter() - start_s), (cpu_s(place) - start_cpu_s) / n * 1e6


def cpu_s(place: Place) -> float:
    """Processor time of this process, the worker, its templates and their processes, ended ones too."""
    found = time.process_time()
    for pid in {*place.processes("executor.local"), *place.processes("template import main")}:
        with contextlib.suppress(OSError):
            times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
            found += sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
    return found


def chain(place: Place, n: int, isolation: dict[str, Any]) -> list[float]:
    """Milliseconds from giving out a task to knowing its end, one after another, sorted."""
    found = []
    for _ in range(n):
        task = place.task("nothing", isolation=isolation)
        start_s = time.perf_counter()
        place.run(task)
        found.append((time.perf_counter() - start_s) * 1e3)
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    n = parser.parse_args().n
    with tempfile.TemporaryDirectory() as folder, Place(Path(folder) / "project") as place:
        place.run(place.task("nothing"))
        ours: dict[str, float] = {}
        for name, isolation in (("shared", {}), ("fresh", {"fresh": True})):
            fan(place, max(n // 10, 10), isolation)
            rate, cpu_us = fan(place, n, isolation)
            ours |= {f"{name}_tasks_per_s": round(rate), f"{name}_cpu_us": round(cpu_us)}
            times = chain(place, max(n // 5, 20), isolation)
            ours[f"{name}_edge_p50_ms"] = round(times[len(times) // 2], 2)
            ours[f"{name}_edge_p99_ms"] = round(times[len(times) * 99 // 100], 2)
    print(json.dumps({"shape": "executor", "n": n, "ours": ours}, indent=1))


if __name__ == "__main__":
    main()
