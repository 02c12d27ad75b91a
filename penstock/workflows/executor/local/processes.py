"""The worker's side of its templates and of the processes that they fork."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

import penstock
from penstock.workflows.executor.local.orders import (
    Died,
    Fork,
    Forked,
    FromTask,
    Job,
    Ready,
    Signal,
    decode_from_task,
    decode_from_template,
    encode,
    send_whole,
)
from penstock.workflows.executor.local.process import end_tree
from penstock.workflows.messages import TaskRef

__all__ = ["QUIET", "TaskProcess", "TemplateProcess", "Watcher"]

_LENGTH: Final = struct.Struct("<I")
_LARGEST: Final = 1 << 20
QUIET: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "_RJEM_MALLOC_CONF": "background_thread:false",
}
"""Keeps numpy's BLAS, Arrow and delta-rs from starting threads as they are loaded, for a template must have one."""
_BOOT: Final = (
    "import sys; sys.path.append(sys.argv.pop(1)); from penstock.workflows.executor.local.template import main; main()"
)
"""Finds this Penstock wherever we were started, behind all that an own environment brings."""

Watcher = Callable[[int, Callable[[], object] | None], None]
"""Sets what is called when a descriptor can be read; None ends it."""


class TaskProcess:
    """A process for tasks, one at a time."""

    def __init__(
        self, template: TemplateProcess, line: socket.socket, told: Callable[[TaskProcess, FromTask], None]
    ) -> None:
        self.pid = 0
        self.template = template
        self.served = 0
        self.task: TaskRef | None = None
        self.idle_since_s = 0.0
        self._line, self._told = line, told
        self._held = bytearray()

    def start(self, job: Job) -> bool:
        """Hands a task over; False when the process is gone."""
        self.served += 1
        try:
            send_whole(self._line, job)
        except OSError:
            return False
        return True

    def signal(self, number: int) -> None:
        """Sends a signal to its group."""
        self.template.send(Signal(self.pid, number))

    def end(self) -> None:
        """Ends it and all its descendants for certain."""
        self.template.send(Signal(self.pid, signal.SIGKILL, whole=True))

    def close(self) -> None:
        """Lets go of it; an idle one ends by that."""
        if self._line.fileno() >= 0:
            self.template.watch(self._line.fileno(), None)
            self._line.close()

    def watch(self) -> None:
        """Begins to listen."""
        self.template.watch(self._line.fileno(), self._read)

    def drain(self) -> None:
        """Takes in what it still said."""
        while self._line.fileno() >= 0 and self._read():
            pass

    def _read(self) -> bool:
        try:
            data = self._line.recv(1 << 18, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        held = self._held
        held += data
        while len(held) >= 4:
            (size,) = _LENGTH.unpack_from(held)
            if len(held) < 4 + size:
                break
            message = decode_from_task(bytes(held[4 : 4 + size]))
            del held[: 4 + size]
            self._told(self, message)
        return True


class TemplateProcess:
    """A template, and all processes that it forked.

    Args:
        python: the interpreter.
        project, modules: what it loads.
        log: where it writes what it has to say.
        watch: the worker's loop.
        died: told of the end of a process (-SIGKILL for all when the template itself has ended), after all it said.
        ready: told when the template can fork.
        ended: told when the template has ended.
    """

    def __init__(
        self,
        python: str,
        project: Path,
        modules: tuple[str, ...],
        log: Path,
        watch: Watcher,
        *,
        told: Callable[[TaskProcess, FromTask], None],
        forked: Callable[[TaskProcess, str], None],
        died: Callable[[TaskProcess, int], None],
        ready: Callable[[TemplateProcess], None],
        ended: Callable[[TemplateProcess], None],
    ) -> None:
        self.python, self.modules = python, modules
        self.ready: Ready | None = None
        self.processes: dict[int, TaskProcess] = {}
        self.is_over = False
        self.watch = watch
        self._told, self._forked, self._died, self._on_ready, self._ended = told, forked, died, ready, ended
        self._forking: deque[TaskProcess] = deque()
        self._line, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        package = str(Path(penstock.__file__).parent.parent)
        quiet = QUIET if modules else {}  # tasks of the first template load such libraries themselves, threads and all
        with log.open("ab") as out:
            self._process = subprocess.Popen(  # noqa: S603  our own module
                [python, "-P", "-c", _BOOT, package, str(far.fileno()), str(project), *modules],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=[far.fileno()],
                env={**quiet, **os.environ},
            )
        far.close()
        watch(self._line.fileno(), self._read)

    @property
    def has_ended(self) -> bool:
        """Whether its process is gone."""
        return self._process.poll() is not None

    @property
    def forking(self) -> int:
        """Processes that are asked for and not there yet."""
        return len(self._forking)

    def fork(self) -> None:
        """Asks for a process; it is told by `forked`."""
        near, far = socket.socketpair()
        self._forking.append(TaskProcess(self, near, self._told))
        try:
            socket.send_fds(self._line, [encode(Fork())], [far.fileno()])
        except OSError:
            pass  # it has ended, which the line shows
        finally:
            far.close()

    def send(self, message: Signal) -> None:
        """Asks for a signal."""
        try:
            self._line.send(encode(message))
        except OSError:
            return  # it has ended, and ends its processes

    def close(self) -> None:
        """Ends it, by closing its line, with all its processes."""
        if self._line.fileno() >= 0:
            self.watch(self._line.fileno(), None)
            self._line.close()

    def wait(self, timeout_s: float) -> None:
        """Waits for its end; kills it when that takes too long."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            end_tree(self._process.pid)
            self._process.wait()

    def _read(self) -> None:
        try:
            data = self._line.recv(_LARGEST, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._over()
            return
        try:
            message = decode_from_template(data)
        except msgspec.DecodeError:
            self._over()
            return
        match message:
            case Ready():
                self.ready = message
                self._on_ready(self)
            case Forked(pid, error):
                process = self._forking.popleft()
                process.pid = pid
                if pid:
                    self.processes[pid] = process
                    process.watch()
                self._forked(process, error)
            case Died(pid, status):
                self._gone(pid, status)

    def _gone(self, pid: int, status: int) -> None:
        process = self.processes.pop(pid, None)
        if process is None:
            return
        process.drain()
        process.close()
        self._died(process, status)

    def _over(self) -> None:
        """The template has ended: the kernel ends its processes, and we, who inherit it, what they started."""
        self.is_over = True
        self.close()
        self.wait(1.0)
        for pid in list(self.processes):
            end_tree(pid)
            self._gone(pid, -signal.SIGKILL)
        while self._forking:
            self._forked(self._forking.popleft(), "the template has ended")
        self._ended(self)
