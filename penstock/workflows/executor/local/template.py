"""A template: a process with one thread that has components loaded and does nothing but fork, signal and wait.

    python -m penstock.workflows.executor.local.template FD PROJECT [MODULE...]

It ends when its worker does, and ends all that it forked with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Final

from penstock.components.contract import BatchComponent
from penstock.components.registry import Registry, discover
from penstock.workflows.executor.local.orders import (
    Died,
    Fork,
    Forked,
    FromTemplate,
    Known,
    Ready,
    Signal,
    decode_to_template,
    encode,
)
from penstock.workflows.executor.local.process import adopt_orphans, children_of, end_tree, has_ended, threads
from penstock.workflows.executor.local.processes import QUIET
from penstock.workflows.executor.local.task import serve
from penstock.workflows.executor.local.traces import Traces
from penstock.workflows.executor.local.veil import filter_log

__all__ = ["Template"]

_LARGEST: Final = 1 << 16


class Template:
    """Forks processes for tasks.

    Args:
        line: to the worker; whole packets.
        registry: the components it has.
        project: the folder tasks belong to.
    """

    def __init__(self, line: socket.socket, registry: Registry, project: Path) -> None:
        self._line, self._registry = line, registry
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), encoding="utf-8", errors="replace", write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), encoding="utf-8", errors="replace", write_through=True)
        self._traces = Traces(project)
        self._children: set[int] = set()
        self._filters: dict[int, int] = {}
        """Process that keeps secrets out of a log -> the task's process."""
        self._ended: dict[int, int] = {}
        """Processes that have ended while their log is still written -> status."""
        self._asked, self._ask = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._woken, wake = os.pipe()
        for end in (self._woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._wake = wake

    def run(self) -> None:
        """Serves the worker until its line ends; then ends all that it forked."""
        try:
            self._serve()
        except ConnectionError:  # the worker died with words of ours unread
            pass
        finally:
            self._end_all()

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._line.fileno(), self._woken, self._asked.fileno()], [], [])
            if self._woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
                self._reap()
            if self._asked.fileno() in ready:
                data, fds, _, _ = socket.recv_fds(self._asked, _LARGEST, 3)
                self._fork_filter(int(data), fds)
            if self._line.fileno() in ready:
                data, fds, _, _ = socket.recv_fds(self._line, _LARGEST, 1)
                if not data:
                    return
                match decode_to_template(data):
                    case Fork():
                        self._fork(fds[0])
                    case Signal(pid, number, whole):
                        self._signal(pid, number, whole)

    def _fork(self, fd: int) -> None:
        me = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(fd)
            self._tell(Forked(0, str(error)))
            return
        if pid == 0:
            self._leave()
            serve(socket.socket(fileno=fd), self._ask, self._registry, self._traces, me)
        os.close(fd)
        self._children.add(pid)
        self._tell(Forked(pid))

    def _fork_filter(self, task: int, fds: list[int]) -> None:
        """Forks the process through which a task's output goes to its log."""
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                self._leave()
                self._ask.close()
                filter_log(*fds)
            finally:
                os._exit(0)
        for fd in fds:
            os.close(fd)
        self._filters[pid] = task

    def _leave(self) -> None:
        """Lets go, in a forked process, of what is the template's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self._woken, self._wake, self._line.fileno(), self._asked.fileno()):
            os.close(end)

    def _signal(self, pid: int, number: int, whole: bool) -> None:
        if pid not in self._children:
            return
        if whole:
            end_tree(pid)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)
            with contextlib.suppress(ProcessLookupError):  # it may not have a group of its own yet
                os.kill(pid, number)

    def _reap(self) -> None:
        """Waits for what has ended, and ends what it left: its group, and orphans, which have become our children."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._children:
                self._children.discard(pid)
                if status != 0:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(pid, signal.SIGKILL)
                    self._end_orphans()
                self._ended[pid] = os.waitstatus_to_exitcode(status)
            task = self._filters.pop(pid, pid)
            if task in self._ended and task not in self._filters.values():
                self._tell(Died(task, self._ended.pop(task)))

    def _end_orphans(self) -> None:
        """Ends what has become our child; what it started becomes our child by that, so look until there is none."""
        for _ in range(1_000):
            ours = self._children | self._filters.keys()
            orphans = [p for p in children_of(os.getpid()) if p not in ours and not has_ended(p)]
            if not orphans:
                return
            for pid in orphans:
                end_tree(pid)
            time.sleep(0.001)

    def _end_all(self) -> None:
        for pid in list(self._children):
            end_tree(pid)
        self._end_orphans()

    def _tell(self, message: FromTemplate) -> None:
        with contextlib.suppress(OSError):  # the worker is gone, which the next look at the line shows
            self._line.send(encode(message))


def _load(modules: list[str]) -> dict[str, str]:
    """Loads modules; those that start threads, which makes this process unfit, and why."""
    refused = {}
    for name in modules:
        before = threads()
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  a stranger's module may raise anything; the task will see it itself
            sys.stderr.write(f"{name} is not loaded before tasks: {type(error).__name__}: {error}\n")
        if threads() > before:
            refused[name] = f"it starts {threads() - before} threads"
    return refused


def main() -> None:
    """Loads what is to be loaded and serves."""
    fd, project, *modules = sys.argv[1:]
    line = socket.socket(fileno=int(fd))
    line.setblocking(True)
    os.setsid()
    adopt_orphans()
    sys.argv = ["penstock"]
    root = Path(project)
    sys.path.insert(0, project)
    registry = discover(root)
    refused = _load(modules)
    for name in QUIET if modules else ():
        os.environ.pop(name, None)
    known = {
        name: Known(found.component.version, found.component.preload)
        for name, found in registry.found.items()
        if issubclass(found.component, BatchComponent)
    }
    broken = {one.name: one.reason for one in registry.broken}
    template = Template(line, registry, root)
    gc.collect()
    gc.freeze()
    gc.disable()
    with contextlib.suppress(BrokenPipeError):  # not wanted any more
        line.send(encode(Ready(os.getpid(), known, broken, refused)))
        template.run()


if __name__ == "__main__":
    main()
