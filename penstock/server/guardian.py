"""`penstock up`: starts the parts of a deployment and starts them again when they die. It does nothing else.

Parts end with it, however it ends, so that the next `penstock up` finds neither an older scheduler nor an older worker.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

from penstock.errors import DoorError
from penstock.workflows.executor.local.process import die_with_parent

__all__ = ["Guardian", "Part", "ingest_command", "server_command", "worker_command"]

_LONGEST_S: Final = 10.0
_CALM_S: Final = 30.0
_STOP_S: Final = 15.0
_SPARE_S: Final = 3.0


@dataclass
class Part:
    """A process that must be there: its name and command.

    With `standby` a second process is kept that has read its code and waits for a line on its standard input; it takes
    over when the first dies, without the second or so that reading takes.
    """

    name: str
    command: Sequence[str]
    standby: bool = False
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    deaths: int = 0
    next_s: float = 0.0
    spare: subprocess.Popen[bytes] | None = None
    spare_s: float = 0.0


class Guardian:
    """Keeps parts running until told to stop.

    Args:
        parts: in the order in which they start; they stop in the other order.
        logs: the folder of their logs, `NAME.log`.
        say: told what happens.
    """

    def __init__(self, parts: Sequence[Part], logs: Path, say: Callable[[str], None]) -> None:
        self._parts, self._logs, self._say = parts, logs, say
        self._stopping = False
        self._wake_in, self._wake_out = socket.socketpair()
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)

    def run(self, ready: Callable[[], bool] | None = None, then: Callable[[], None] | None = None) -> None:
        """Starts the parts and keeps them; returns when SIGINT or SIGTERM has come and they have stopped.

        Args:
            ready: asked until it is true; then `then` is called once.
            then: what to do when everything is there.

        Raises:
            DoorError: a part ends by itself, again and again, before anything was ready.
        """
        former = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        was_fd = signal.set_wakeup_fd(self._wake_out.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        is_ready = ready is None
        try:
            while not self._stopping:
                self._keep(is_ready=is_ready)
                if not is_ready and ready is not None and ready():
                    is_ready = True
                    if then is not None:
                        then()
                self._sleep(0.02 if not is_ready else self._due_s())
        finally:
            self._end()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.set_wakeup_fd(was_fd)
            for number, handler in former.items():
                signal.signal(number, handler)
            self._wake_in.close()
            self._wake_out.close()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _sleep(self, timeout_s: float) -> None:
        self._wake_in.settimeout(max(timeout_s, 0.001))
        with contextlib.suppress(TimeoutError, BlockingIOError):
            self._wake_in.recv(1024)

    def _due_s(self) -> float:
        now = time.monotonic()
        waiting = [part.next_s - now for part in self._parts if part.process is None]
        waiting += [part.spare_s - now for part in self._parts if part.standby and part.spare is None]
        return min(waiting, default=1.0)

    def _keep(self, *, is_ready: bool) -> None:
        for part in self._parts:
            if part.process is not None and (code := part.process.poll()) is not None:
                self._died(part, code, is_ready=is_ready)
            if part.spare is not None and part.spare.poll() is not None:
                part.spare = None
            if part.process is None and time.monotonic() >= part.next_s:
                self._start(part)
            elif part.standby and is_ready and part.spare is None and time.monotonic() >= part.spare_s:
                part.spare = self._spawn(part, ["--standby"], subprocess.PIPE)

    def _start(self, part: Part) -> None:
        spare, part.spare = part.spare, None
        if spare is not None and spare.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                spare.stdin.write(b"go\n")
                spare.stdin.close()
        part.process = spare or self._spawn(part, [], subprocess.DEVNULL)
        part.started_s = time.monotonic()
        part.spare_s = part.started_s + _SPARE_S

    def _spawn(self, part: Part, more: list[str], stdin: int) -> subprocess.Popen[bytes]:
        self._logs.mkdir(parents=True, exist_ok=True)
        with (self._logs / f"{part.name}.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603  our own modules
                [*part.command, *more],
                stdin=stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509  the guardian has one thread
            )

    def _died(self, part: Part, code: int, *, is_ready: bool) -> None:
        lived_s = time.monotonic() - part.started_s
        part.process = None
        part.deaths = 1 if lived_s > _CALM_S else part.deaths + 1
        if not is_ready and code >= 0 and part.deaths >= 3:
            raise DoorError(
                f"the {part.name} stays up",
                found=_last_line(self._logs / f"{part.name}.log") or f"it ended with code {code}",
                remedy=f"see {self._logs / part.name}.log",
            )
        wait_s = 0.0 if part.deaths == 1 else min(0.1 * 2 ** (part.deaths - 2), _LONGEST_S)
        part.next_s = time.monotonic() + wait_s
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        self._say(f"{part.name} {how}; starts again" + (f" in {wait_s:.1f} s" if wait_s else ""))

    def _end(self) -> None:
        for part in self._parts:
            if part.spare is not None and part.spare.stdin is not None:
                part.spare.stdin.close()  # its standard input ends, and so does it
                part.spare.wait()
        living = [part.process for part in reversed(self._parts) if part.process is not None]
        for process in living:
            process.terminate()
        until = time.monotonic() + _STOP_S
        for process in living:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def server_command(project: Path, port: int) -> list[str]:
    """The command of the server part."""
    return [sys.executable, "-m", "penstock.server.control.run", str(project), str(port)]


def worker_command(project: Path, slots: int | None) -> list[str]:
    """The command of the worker part."""
    more = [] if slots is None else ["--slots", str(slots)]
    return [sys.executable, "-m", "penstock.workflows.executor.local", "--project", str(project), *more]


def ingest_command(project: Path, port: int) -> list[str]:
    """The command of the HTTP door for events."""
    return [sys.executable, "-m", "penstock.cli", "ingest", "--project", str(project), "--port", str(port)]


def _last_line(file: Path) -> str:
    with contextlib.suppress(OSError):
        lines = file.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""
    return ""
