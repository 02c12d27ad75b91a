"""Runs worlds: `python -m penstock.testing.simulator --seeds 10000`, or one again: `--seed N --trace`."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterable

from penstock.testing.simulator.world import judge

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Runs the worlds asked for; 1 if an invariant did not hold in one."""
    parser = argparse.ArgumentParser(prog="python -m penstock.testing.simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--trace", action="store_true", help="with --seed: print all that happened")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--most", type=int, default=5, help="stop after so many that failed")
    asked = parser.parse_args(arguments)
    if asked.seed is not None:
        seed, text = judge(asked.seed, 1 << 30 if asked.trace else 60)
        print(text or f"seed {seed} holds")  # noqa: T201
        return 1 if text else 0
    seeds = range(asked.first, asked.first + asked.seeds)
    begun = time.monotonic()
    if asked.jobs > 1:
        with multiprocessing.get_context("spawn").Pool(asked.jobs) as pool:
            failed = _count(pool.imap_unordered(judge, seeds, chunksize=20), asked.most)
    else:
        failed = _count(map(judge, seeds), asked.most)
    took_s = time.monotonic() - begun
    print(f"{len(seeds)} worlds, {failed} broken, {took_s:.1f} s")  # noqa: T201
    return 1 if failed else 0


def _count(found: Iterable[tuple[int, str]], most: int) -> int:
    failed = 0
    for seed, text in found:
        if text:
            failed += 1
            print(f"seed {seed}\n{text}", flush=True)  # noqa: T201
            if failed >= most:
                break
    return failed


if __name__ == "__main__":
    sys.exit(main())
