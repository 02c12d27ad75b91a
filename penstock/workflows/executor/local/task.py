"""A task's process: forked from a template, it takes tasks from its socket, one after another, and tells their ends."""

from __future__ import annotations

import contextvars
import gc
import os
import random
import resource
import shutil
import signal
import socket
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, Final

from pydantic import ValidationError

from penstock.components.contract import BatchComponent
from penstock.components.registry import Registry
from penstock.components.values import with_resources
from penstock.errors import PenstockError, WorkflowError
from penstock.workflows.executor.local.context import TaskContext
from penstock.workflows.executor.local.orders import Finished, Job, Moved, encode, receive_job, send_whole
from penstock.workflows.executor.local.process import adopt_orphans, die_with_parent
from penstock.workflows.executor.local.traces import Traces, has_children
from penstock.workflows.executor.local.veil import Veil
from penstock.workflows.messages import FactValue
from penstock.workflows.spec.template import LATE, render

__all__ = ["LARGEST_OUTPUTS", "UNCLEAN", "serve"]

UNCLEAN: Final = 3
"""Exit code of a process that may have left others; 0 says that there is none."""
LARGEST_OUTPUTS: Final = 1 << 20
"""Bytes of all outputs of a task together; what is larger is a file or a table."""


def serve(line: socket.socket, ask: socket.socket, registry: Registry, traces: Traces, parent: int) -> None:
    """Takes tasks from `line` until it ends or a task leaves something behind. In a forked process; never returns."""
    os.setsid()
    die_with_parent(parent)
    adopt_orphans()
    signal.signal(signal.SIGTERM, _end_kindly)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.enable()
    line.setblocking(True)
    code = UNCLEAN
    try:
        traces.begin()
        while (job := receive_job(line)) is not None:
            finished = _serve_one(job, line, registry, traces, Veil(ask))
            send_whole(line, finished)
            if not finished.again:
                break
        code = UNCLEAN if has_children() else 0
    except (OSError, SystemExit):  # the worker is gone, and the template ends us anyhow; or we were asked to end
        pass
    finally:
        os._exit(code)


def _end_kindly(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _serve_one(job: Job, line: socket.socket, registry: Registry, traces: Traces, veil: Veil) -> Finished:
    _settle(job)
    outputs: dict[str, Any] = {}
    facts: tuple[FactValue, ...] = ()
    error = ""
    try:
        outputs, facts = contextvars.Context().run(_run, job, line, registry, traces.project, veil)
    except BaseException as raised:  # noqa: BLE001  edge of the task: whatever it raises is its failure
        error = veil.clean(_told(raised))
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError) as full:
            error = error or f"the log cannot be written: {full}"
    left = "a failure" if error else "isolation" if job.alone else "a secret" if veil.is_used else traces.left()
    os.chdir("/")
    if left or any(os.scandir(job.work)):
        shutil.rmtree(job.work, ignore_errors=True)
    return Finished("failed" if error else "done", outputs, facts, error, not left, left)


def _settle(job: Job) -> None:
    """Gives the task its log, its folder and its limits."""
    log = _open_log(job.log)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    try:
        os.chdir(job.work)
    except FileNotFoundError:
        Path(job.work).mkdir(parents=True)
        os.chdir(job.work)
    random.seed()
    isolation = job.assignment.isolation
    if memory_mb := isolation.get("memory_mb"):
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))
    if cpu_s := isolation.get("cpu_s"):
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))


def _open_log(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o640)
    except FileNotFoundError:  # the first of its run
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o640)


def _run(
    job: Job, line: socket.socket, registry: Registry, project: Path, veil: Veil
) -> tuple[dict[str, Any], tuple[FactValue, ...]]:
    given = job.assignment
    component = registry.batch(given.component)
    if given.component_version and component.version != given.component_version:
        raise WorkflowError(
            f"version {given.component_version} of the component {given.component!r}",
            found=f"version {component.version}",
            remedy="install that version, or rerun with the newest",
        )

    def moved(done: float, total: float | None, note: str) -> None:
        send_whole(line, Moved(done, total, note))

    context = TaskContext(job, component, project, moved, veil.hide)
    component().run(context, _parameters(component, given.parameters, context))
    outputs = context.outputs()
    size = len(encode(outputs))
    if size > LARGEST_OUTPUTS:
        raise WorkflowError(
            f"outputs of at most {LARGEST_OUTPUTS >> 20} MiB",
            found=f"{size:,} bytes",
            remedy="write a file, and hand that over: context.output(name)",
        )
    return outputs, context.facts()


def _parameters(component: type[BatchComponent], parameters: dict[str, Any], context: TaskContext) -> Any:
    """Parameters with what is read at run time filled in, as the component's model has them."""

    def read(name: str) -> Any:
        kind, _, key = name.partition(".")
        return context.secret(key) if kind == "secret" else context.dictionary(key)

    parameters = with_resources(context.state, render(parameters, read, only=LATE))
    try:
        return component.parameters.model_validate(parameters)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "parameters"
        raise WorkflowError(
            f"{component.name}: {place}: {first['msg']}",
            found=repr(first.get("input"))[:200],
            remedy=f"see the form of {component.name}",
        ) from error


def _told(error: BaseException) -> str:
    """An error as the log has it, and in short."""
    traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, PenstockError):
        return str(error)
    return f"{type(error).__name__}: {error}"
