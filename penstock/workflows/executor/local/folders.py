"""Where tasks of this machine keep things, under a project's `.penstock/`.

`logs/RUN/NODE.ATTEMPT.log` is a task's log; `staged/NODE_RUN/ATTEMPT.EPOCH/` what it makes, seen by nobody;
`outputs/RUN/NODE/ATTEMPT/` the same once its end was accepted; `work/` the folders in which tasks start.
"""

from __future__ import annotations

import contextlib
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import quote

from penstock.workflows.messages import Assignment, TaskRef

__all__ = ["TARGET", "Folders", "safe"]

TARGET: Final = ".target"
"""A link in a staged folder: where it goes when it is accepted, below the state folder."""


@lru_cache(4096)
def safe(name: str) -> str:
    """A name as one part of a path, whatever it holds.

    >>> safe("a/../b"), safe("..")
    ('a%2F..%2Fb', '%2E.')
    """
    quoted = quote(name, safe=" @:+=,")
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted or "%"


class Folders:
    """The folders of a deployment.

    Args:
        state: the project's `.penstock`.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        self.run = state / "run"
        """Addresses, locks and logs of what runs."""
        self.work = state / "work"
        """Private folders of tasks; empty when nothing runs."""
        self.environments = state / "environments"
        """Own environments of tasks, by hash."""

    def log(self, run: str, node: str, attempt: int) -> Path:
        """The log of an attempt."""
        return Path(f"{self.state}/logs/{safe(run)}/{safe(node)}.{attempt}.log")

    def staged(self, task: TaskRef) -> Path:
        """What an attempt makes, until its end is accepted."""
        return Path(f"{self.state}/staged/{safe(task.node_run)}/{task.attempt}.{task.epoch}")

    def outputs(self, run: str, node: str, attempt: int) -> Path:
        """What an accepted attempt has made."""
        return self.state / "outputs" / safe(run) / safe(node) / str(attempt)

    def target(self, given: Assignment) -> str:
        """Where what an attempt makes will be when it is accepted, below the state folder."""
        return f"outputs/{safe(given.run)}/{safe(given.node)}/{given.task.attempt}"

    def publish(self, task: TaskRef, accepted: bool) -> None:
        """Makes staged outputs visible, by one rename, or removes them. Once or many times: the same.

        The staged folder names its place itself (`TARGET`), so that a scheduler that came later can publish it.
        """
        staged = self.staged(task)
        with contextlib.suppress(FileNotFoundError):  # nothing was staged, or it is published, perhaps just now
            target = self.state / (staged / TARGET).readlink()
            if accepted:
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists():  # of an end that was accepted before; the newer acceptance counts
                    shutil.rmtree(target)
                staged.rename(target)
                (target / TARGET).unlink()
                for older in staged.parent.iterdir():  # of attempts whose end nobody has told
                    shutil.rmtree(older, ignore_errors=True)
            else:
                shutil.rmtree(staged, ignore_errors=True)
            with contextlib.suppress(OSError):  # another attempt's is there
                staged.parent.rmdir()
