"""Luigi as a peer of the workflow benchmark: tasks whose targets are files, its local scheduler.

`python -m bench.workflow_luigi SHAPE N REPEAT FOLDER` runs in an environment that has no more than Luigi, and prints as
`bench.workflow_measure.Rounds` says. `isolated` and `isolated_chain` run two workers, which fork for every task; the
other shapes run in the program's own process. What it keeps are the targets, not synced.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.workflow_measure import Rounds

__all__: list[str] = []


def no_one(number: int) -> Iterable[int]:
    """Nothing comes before."""
    return ()


def one_before(number: int) -> Iterable[int]:
    """A chain."""
    return (number - 1,) if number else ()


def of_ten(number: int) -> Iterable[int]:
    """Runs of ten: a root, eight after it, and one after them."""
    first, place = number // 10 * 10, number % 10
    return () if place == 0 else (first,) if place < 9 else range(first + 1, first + 9)


BEFORE: dict[str, Callable[[int], Iterable[int]]] = {
    "fan": no_one, "isolated": no_one, "chain": one_before, "isolated_chain": one_before, "many": of_ten
}  # fmt: skip


def task_of(shape: str) -> Any:
    """The class of a shape's tasks."""
    import luigi

    class Step(luigi.Task):  # type: ignore[misc]
        folder = luigi.Parameter()
        number = luigi.IntParameter()

        def requires(self) -> list[Any]:
            return [Step(self.folder, number) for number in BEFORE[shape](self.number)]

        def output(self) -> Any:
            return luigi.LocalTarget(f"{self.folder}/{self.number}")

        def run(self) -> None:
            began = time.monotonic_ns()
            ended = time.monotonic_ns()
            with self.output().open("w") as out:
                out.write(f"{began} {ended}")

    return Step


def run(shape: str, n: int, repeat: int, folder: Path) -> Rounds:
    """A shape, several times."""
    import luigi

    step, rounds = task_of(shape), Rounds(version("luigi"))
    processes = 2 if shape.startswith("isolated") else 1
    for i in range(repeat):
        place = folder / str(i)
        place.mkdir()
        asked = time.monotonic_ns()
        tasks = [step(str(place), number) for number in range(n * (10 if shape == "many" else 1))]
        luigi.build(
            tasks[-1:] if shape.endswith("chain") else tasks,
            workers=processes, local_scheduler=True, log_level="ERROR",
        )  # fmt: skip
        ended = time.monotonic_ns()
        rounds.add(asked, ended, ((int(b), int(e)) for b, e in (path.read_text().split() for path in place.iterdir())))
    return rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=BEFORE)
    parser.add_argument("n", type=int)
    parser.add_argument("repeat", type=int)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    print(run(args.shape, args.n, args.repeat, args.folder).written(), flush=True)


if __name__ == "__main__":
    main()
