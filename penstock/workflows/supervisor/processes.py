"""Stream processes of this machine: started in sessions of their own, known by pid and start time, ended whole."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Final

import msgspec

from penstock.engine.live.durable import replace_file
from penstock.workflows.supervisor.interface import Wanted

__all__ = [
    "StartFile",
    "end_orphans",
    "end_session",
    "identity",
    "is_alive",
    "job_folder",
    "launch",
    "pid_of",
    "watch_fd",
]

_PROC: Final = Path("/proc")


class StartFile(msgspec.Struct, frozen=True):
    """What a stream process is told by the file it is started with."""

    wanted: Wanted
    epoch: int


def job_folder(state: Path, job: str) -> Path:
    """The folder of a job: its start file, its logs, and its component's own state."""
    return state / "streams" / job


def launch(project: Path, state: Path, wanted: Wanted, epoch: int) -> int:
    """Starts the process of (job, epoch) in a session of its own, so that nobody's end takes it along; gives its pid.

    Its standard output and error go to `EPOCH.log` in the job's folder.

    Raises:
        OSError: no process can be started, or the folder cannot be written.
    """
    folder = job_folder(state, wanted.job)
    folder.mkdir(parents=True, exist_ok=True)
    start = folder / "start.json"
    replace_file(start, msgspec.json.encode(StartFile(wanted, epoch)))
    log = os.open(folder / f"{epoch}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    arguments = [sys.executable, "-m", "penstock.workflows.supervisor.child", str(project), str(state), str(start)]
    try:
        return os.posix_spawn(
            sys.executable,
            arguments,
            os.environ,
            setsid=True,
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM],
            file_actions=[(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
        )
    finally:
        os.close(log)
        os.close(null)


def bury(pid: int) -> int:
    """The exit code of a dead child of ours, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def identity(pid: int) -> str:
    """What tells this process from another that later gets its number: `pid:start time`; empty when it is gone."""
    fields = _stat(pid)
    return f"{pid}:{fields[19]}" if fields else ""


def is_alive(process: str) -> bool:
    """Whether the process of that identity still runs (one that is dead but not yet buried does not)."""
    fields = _stat(pid_of(process)) if process else []
    return bool(fields) and fields[0] != "Z" and process == f"{pid_of(process)}:{fields[19]}"


def pid_of(process: str) -> int:
    """The process number of an identity."""
    return int(process.partition(":")[0])


def watch_fd(process: str) -> int | None:
    """A descriptor that becomes readable when the process ends; None if it has."""
    try:
        fd = os.pidfd_open(pid_of(process))
    except ProcessLookupError:
        return None
    if not is_alive(process):
        os.close(fd)
        return None
    return fd


def end_session(process: str) -> None:
    """Ends a process and everything in its session, for certain; nothing happens when it is another by now."""
    if is_alive(process):
        _kill([pid_of(process)])
        end_orphans(process)


def end_orphans(process: str) -> None:
    """Ends what a dead process has left behind in its session.

    A session keeps its number until its last member has ended, so the number cannot be another's meanwhile.
    """
    leader = pid_of(process)
    if identity(leader) in ("", process):
        _kill([pid for pid in _pids() if pid != leader and (of := _stat(pid)) and int(of[3]) == leader])


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the name: state, ppid, pgrp, session, ... (19: start time); empty if gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text[text.rindex(")") + 2 :].split()
