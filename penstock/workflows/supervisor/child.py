"""A stream process: asks for its lease, then runs its component, tells its progress, and does what it is asked.

It lives through the end of the server, and comes again to the next one; only `stop`, a newer epoch, or its own crash
ends it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import traceback
from collections import deque
from pathlib import Path
from typing import Any, Final

import msgspec

from penstock.clock import WallClock
from penstock.components.contract import StreamComponent
from penstock.components.registry import discover
from penstock.components.values import Dictionary, find_secret, with_resources
from penstock.errors import PenstockError, WorkflowError
from penstock.workflows.hidden import Hidden
from penstock.workflows.line import Line
from penstock.workflows.messages import (
    Attach,
    Command,
    CommandDone,
    Detached,
    FactValue,
    Granted,
    Refused,
    Report,
    Watch,
)
from penstock.workflows.spec import template
from penstock.workflows.supervisor.processes import StartFile

__all__ = ["ChildContext", "main"]

_REPORT_US: Final = 1_000_000
_LAST_WORDS_US: Final = 2_000_000


class ChildContext:
    """The contract's `StreamContext`: a line to the hub, served by a thread of its own."""

    def __init__(self, start: StartFile, project: Path, state: Path, folder: Path) -> None:
        self.job, self.epoch, self.project, self.folder = start.wanted.job, start.epoch, project, folder
        self._subject = start.wanted.job
        self._clock = WallClock()
        self._line = Line(state / "run", "stream", f"{self.job}#{self.epoch}")
        self._changed = threading.Condition()
        self._facts: dict[tuple[str, str], FactValue] = {}
        self._unsent: set[tuple[str, str]] = set()
        self._thresholds: dict[tuple[str, str], tuple[float, ...]] = {}
        self._commands: deque[Command] = deque()
        self._handed: list[int] = []
        self._done: deque[int] = deque()
        self._position = 0
        self._granted = threading.Event()
        self._refused = ""
        self._urgent, self._over = False, False
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    # what a component sees

    def report(self, kind: str, value: Any, *, subject: str = "") -> None:
        """Tells progress; sent at once when a threshold is crossed, else once a second."""
        key = (subject or self._subject, kind)
        with self._changed:
            former = self._facts.get(key)
            if former is not None and former.value == value:
                return
            self._position += 1
            self._facts[key] = FactValue(*key, value, "", self._position)
            self._unsent.add(key)
            crossed = former is None or any(
                former.value < limit <= value
                for limit in self._thresholds.get(key, ())
                if isinstance(value, int | float)
            )
            self._urgent = self._urgent or crossed
        if crossed:
            self._wake()

    def commands(self) -> list[str]:
        """What is asked of it now, oldest first; what was asked at the last look is told as done."""
        with self._changed:
            asked, self._commands = list(self._commands), deque()
            self._done.extend(self._handed)
            self._handed = [command.number for command in asked if command.number]
        if self._done:
            self._wake()
        return [command.action for command in asked]

    def wait(self, timeout_us: int) -> None:
        """Sleeps until something is asked, or for so long."""
        with self._changed:
            if not self._commands:
                self._changed.wait(timeout_us / 1e6)

    # the process around it

    def begin(self) -> None:
        """Waits for the lease.

        Raises:
            WorkflowError: a newer process holds the job.
        """
        threading.Thread(target=self._serve, name="penstock-line", daemon=True).start()
        while not self._granted.wait(1.0):
            if self._refused:
                raise WorkflowError(
                    f"the lease of {self.job}", found=self._refused, remedy="nothing: it ends by itself"
                )

    def ask(self, action: str) -> None:
        """As if a command had come: for signals."""
        with self._changed:
            self._commands.append(Command(self.job, self.epoch, 0, action))  # type: ignore[arg-type]
            self._changed.notify_all()

    def end(self, code: int, error: str) -> None:
        """Tells what was not yet told, and how it ends; gives up after two seconds."""
        self._over = True
        until_us = self._clock.now_us() + _LAST_WORDS_US
        self._wake()
        with self._changed:
            self._changed.wait(0.2)
        while self._clock.now_us() < until_us:
            if self._line.open():
                self._line.send(
                    [Report(self.job, self.epoch, self._taken()), Detached(self.job, self.epoch, code, error)]
                )
                while self._line.wants_write and self._clock.now_us() < until_us:
                    self._line.wait(0.05)
                break
            self._line.wait(0.05)
        self._line.close()

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"x")
        except BlockingIOError:  # full: it is awake already
            return

    def _taken(self) -> tuple[FactValue, ...]:
        with self._changed:
            found = tuple(self._facts[key] for key in sorted(self._unsent))
            self._unsent.clear()
            self._urgent = False
        return found

    def _serve(self) -> None:
        next_us, attached = 0, False
        while not self._over and not self._refused:
            if not self._line.is_open:
                attached = False
                if not self._line.open():
                    self._line.wait(0.1)
                    continue
            if not attached:
                self._line.send([Attach(self.job, self.epoch, os.getpid())])
                with self._changed:
                    self._unsent |= set(self._facts)  # the server may be another one: it is told all anew
                attached, next_us = True, 0
            for message in self._line.receive():
                self._take(message)
            now_us = self._clock.now_us()
            if self._granted.is_set() and (self._urgent or now_us >= next_us):
                self._line.send([Report(self.job, self.epoch, self._taken())])
                next_us = now_us + _REPORT_US
            while self._done:
                self._line.send([CommandDone(self.job, self.epoch, self._done.popleft())])
            self._sleep(next_us - now_us if self._granted.is_set() else 100_000)
        with self._changed:
            self._changed.notify_all()

    def _sleep(self, timeout_us: int) -> None:
        if not self._line.is_open:
            return
        waits = [self._line] if self._line.wants_write else []
        line = self._line.fileno()
        ready, _, _ = select.select([line, self._wake_read], waits, [], max(0.0, timeout_us / 1e6))
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        self._line.flush()

    def _take(self, message: Any) -> None:
        match message:
            case Granted():
                self._granted.set()
            case Refused(reason=reason):
                self._refused = reason
                self.ask("stop")
            case Watch(thresholds=thresholds):
                limits: dict[tuple[str, str], list[float]] = {}
                for subject, kind, value in thresholds:
                    limits.setdefault((subject, kind), []).append(value)
                with self._changed:
                    self._thresholds = {key: tuple(values) for key, values in limits.items()}
                    # What was crossed before somebody asked is told at once.
                    self._urgent = self._urgent or bool(self._unsent)
            case Command():
                with self._changed:
                    if all(c.number != message.number or not message.number for c in self._commands):
                        self._commands.append(message)
                    self._changed.notify_all()


def main(arguments: list[str]) -> int:
    """Runs a stream process: `PROJECT STATE START_FILE`; gives the exit code."""
    project, state, start_file = map(Path, arguments)
    os.chdir(project)
    start = msgspec.json.decode(start_file.read_bytes(), type=StartFile)
    context = ChildContext(start, project, state, start_file.parent)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: context.ask("stop"))
    code, error, hidden = 1, "", Hidden()
    try:
        context.begin()
        _component(start, project, state, context, hidden)
        code = 0
    except PenstockError as raised:
        error = str(raised)
    except Exception as raised:  # noqa: BLE001  edge of the process: whatever a component raises is its crash
        error = f"{type(raised).__name__}: {raised}"
        traceback.print_exc()
    if error:
        print(error, file=sys.stderr, flush=True)  # noqa: T201  the job's log
    hidden.close()
    context.end(code, hidden.clean(error))
    return code


def _component(start: StartFile, project: Path, state: Path, context: ChildContext, hidden: Hidden) -> None:
    wanted = start.wanted
    component = discover(project)[wanted.component]
    if not issubclass(component, StreamComponent):
        raise WorkflowError(f"{wanted.component!r} runs on", found="a batch component", remedy="use it on a batch node")

    def read(name: str) -> Any:
        kind, _, key = name.partition(".")
        if kind == "dict":
            return Dictionary(state)[key]
        hidden.hide(found := find_secret(state, key))
        return found

    rendered = with_resources(state, template.render(wanted.parameters, read, only=template.LATE))
    parameters = component.parameters.model_validate(rendered)
    component().run(context, parameters)


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    sys.exit(main(sys.argv[1:]))
