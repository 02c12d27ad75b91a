"""Starts a worker: `python -m penstock.workflows.executor.local --project FOLDER --name NAME --slots N`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from penstock.errors import PenstockError
from penstock.workflows.executor.local.worker import Worker


def main() -> int:
    """Reads the arguments and serves."""
    parser = argparse.ArgumentParser(prog="penstock-worker", description="Takes tasks of a project from its server.")
    parser.add_argument("--project", type=Path, default=Path())
    parser.add_argument("--name", default="local")
    parser.add_argument("--slots", type=int, default=max(4, 2 * (os.cpu_count() or 1)))
    parser.add_argument("--group", default="default")
    given = parser.parse_args()
    try:
        Worker(given.project, given.name, slots=given.slots, group=given.group).run()
    except PenstockError as error:
        print(error, file=sys.stderr)  # noqa: T201  edge of the process
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
