"""A project, a hub, and a worker process, for tests: each can be ended and started again on its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from penstock.workflows.executor.interface import Executor, FromExecutor
from penstock.workflows.executor.local.executor import LocalExecutor
from penstock.workflows.executor.local.folders import Folders
from penstock.workflows.hub import Hub
from penstock.workflows.messages import Acknowledged, Assignment, Beat, Ended, Hello, Progress, Started, TaskRef

__all__ = ["JOBS", "Place"]

JOBS: Final = '''
import os, pathlib, signal, subprocess, sys, threading, time

COUNT = 0

def nothing():
    pass

def add(a, b):
    print("adding", a, b)
    return a + b

def fail():
    raise ValueError("on purpose")

def sleep(seconds, mark=None):
    if mark:
        with open(mark, "a") as file:
            file.write(f"{os.getpid()}\\\\n")
    time.sleep(seconds)

def deaf(seconds):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    time.sleep(seconds)

def tidy(mark):
    print("begun", flush=True)
    try:
        time.sleep(60)
    finally:
        pathlib.Path(mark).write_text("tidied")

def family(mark):
    """A child, and a grandchild in a session of its own, which outlive us unless they are ended."""
    code = "import os,sys,time; os.setsid(); open(sys.argv[1],'a').write(str(os.getpid())+chr(10)); time.sleep(60)"
    middle = "import subprocess,sys,time; subprocess.Popen([sys.executable,'-c',*sys.argv[1:]]); time.sleep(.2)"
    subprocess.Popen([sys.executable, "-c", middle, code, mark])
    subprocess.Popen([sys.executable, "-c", code, mark])
    while not os.path.exists(mark) or len(open(mark).readlines()) < 2:
        time.sleep(0.01)
    print("family", flush=True)

def family_and_wait(mark):
    family(mark)
    time.sleep(60)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def look():
    """Everything that a former task could have changed."""
    import decimal, json, random, warnings
    global COUNT
    COUNT += 1
    return {
        "directory": not os.listdir("."), "variable": os.environ.get("LEFT"), "module": "left_module" in sys.modules,
        "count": COUNT, "signal": str(signal.getsignal(signal.SIGUSR1)), "threads": threading.active_count(),
        "patched": getattr(json, "left", None), "umask": os.umask(0o022) or os.umask(0o022),
        "precision": decimal.getcontext().prec, "path": "/left" in sys.path, "filters": len(warnings.filters),
        "files": len(os.listdir("/proc/self/fd")), "sibling": os.path.exists("left.txt"),
    }

def change(what):
    import decimal, json, warnings
    if what == "directory":
        pathlib.Path("left.txt").write_text("x")
        os.chdir("/")
    elif what == "variable":
        os.environ["LEFT"] = "x"
    elif what == "module":
        sys.modules["left_module"] = json
    elif what == "signal":
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    elif what == "thread":
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    elif what == "patch":
        json.left = 1
    elif what == "umask":
        os.umask(0o077)
    elif what == "precision":
        decimal.getcontext().prec = 3
    elif what == "path":
        sys.path.append("/left")
    elif what == "filters":
        warnings.simplefilter("ignore")
    elif what == "files":
        os.open("/dev/null", os.O_RDONLY)
    elif what == "child":
        subprocess.Popen(["sleep", "60"])

def write(context, text="hello"):
    context.output("a").write_text(text)
    (context.output("b", "folder") / "c").write_text(text)
    context.put("n", 3)
    context.fact("rows", 7)
    context.progress(1, 2, "half")

def memory(mb):
    return len(bytearray(mb << 20))

def burn():
    while True:
        pass
'''
"""The module `jobs` of a place's project."""


class Place:
    """A project with a hub and a worker of its own.

    Args:
        project: an empty folder.
        slots: of the worker.
    """

    def __init__(self, project: Path, slots: int = 4) -> None:
        self.project, self._slots = project, slots
        project.mkdir(parents=True, exist_ok=True)
        (project / "jobs.py").write_text(JOBS)
        self.state = project / ".penstock"
        self.folders = Folders(self.state)
        self.told: list[FromExecutor] = []
        self.ends: dict[TaskRef, Ended] = {}
        self.started: dict[TaskRef, Started] = {}
        self._changed = threading.Condition()
        self._run = uuid.uuid4().hex[:8]
        self._made = 0
        self.worker: subprocess.Popen[bytes] | None = None
        self.executor: Executor
        self.start_scheduler()

    def __enter__(self) -> Place:
        self.start_worker()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_worker()
        self.stop_scheduler()

    def start_scheduler(self) -> None:
        """Opens a hub with an executor."""
        self._hub = Hub(self.folders.run)
        self.executor = LocalExecutor(self._hub, self.state)
        self.executor.listen(self._receive)
        self._hub.open()

    def stop_scheduler(self) -> None:
        """Ends the hub, as the death of the server does."""
        self.executor.close()
        self._hub.close()

    def start_worker(self) -> None:
        """Starts the worker process; its slots come with its hello."""
        command = [sys.executable, "-m", "penstock.workflows.executor.local", "--project", str(self.project)]
        with (self.project / "worker.out").open("ab") as out:
            self.worker = subprocess.Popen(  # noqa: S603  our own module
                [*command, "--slots", str(self._slots)], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def stop_worker(self, number: int = signal.SIGTERM) -> None:
        """Ends the worker process."""
        if self.worker is not None:
            self.worker.send_signal(number)
            self.worker.wait(30)
            self.worker = None

    def task(self, function: str, arguments: dict[str, Any] | None = None, **changed: Any) -> Assignment:
        """A task that calls a function of the module `jobs`; anything of the assignment can be given instead."""
        self._made += 1
        given: dict[str, Any] = {
            "task": TaskRef(f"{self._run}-{self._made}", 1, 1),
            "run": self._run, "workflow": "w", "node": f"n{self._made}", "component": "python",
            "component_version": "", "parameters": {"call": f"jobs:{function}", "arguments": arguments or {}},
            "inputs": {}, "interval_start_us": None, "interval_end_us": None,
            "idempotency_key": f"{self._run}-{self._made}", "code": "", "timeout_us": None, "isolation": {},
            "lease_us": 60_000_000,
        }  # fmt: skip
        return Assignment(**given | changed)

    def run(self, *tasks: Assignment, accept: bool = True, timeout_s: float = 60.0) -> list[Ended]:
        """Starts tasks, waits for their ends, and acknowledges them."""
        self.executor.start(list(tasks))
        found = self.wait_for_ends(*tasks, timeout_s=timeout_s)
        self.executor.acknowledge([Acknowledged(t.task, accept) for t in tasks])
        return found

    def wait_for_ends(self, *tasks: Assignment, timeout_s: float = 60.0) -> list[Ended]:
        """Waits for the ends of tasks.

        Raises:
            TimeoutError: they did not end.
        """
        missing = [t.task for t in reversed(tasks)]

        def over() -> bool:
            while missing and missing[-1] in self.ends:
                missing.pop()
            return not missing

        self.wait(over, timeout_s)
        return [self.ends[t.task] for t in tasks]

    def wait(self, true: Callable[[], object], timeout_s: float = 60.0) -> None:
        """Waits until something is so, looking whenever something was told, and every 20 ms.

        Raises:
            TimeoutError: it did not come to be.
        """
        with self._changed:
            left = int(timeout_s / 0.02)
            while not true():
                if left <= 0:
                    raise TimeoutError(f"told: {self.told[-5:]}; worker: {self._worker_says()}")
                left -= not self._changed.wait(0.02)

    def log(self, task: Assignment) -> str:
        """The log of a task."""
        file = self.folders.log(task.run, task.node, task.task.attempt)
        return file.read_text() if file.exists() else ""

    def processes(self, word: str) -> list[int]:
        """Processes below us whose command has the project's folder and a word in it."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if entry.name.isdigit() and str(self.project) in command and word in command:
                found.append(int(entry.name))
        return found

    def _worker_says(self) -> str:
        texts = [self.project / "worker.out", self.folders.run / "worker-local.log"]
        return "".join(t.read_text()[-2000:] for t in texts if t.exists())

    def _receive(self, message: FromExecutor) -> None:
        with self._changed:
            match message:
                case Ended():
                    self.ends[message.task] = message
                case Started():
                    self.started[message.task] = message
                case Beat():
                    return
                case Hello() | Progress():
                    pass
            self.told.append(message)
            self._changed.notify_all()


def alive(pids: Iterable[int]) -> list[int]:
    """Those of some processes that live."""
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            found.append(pid)
    return found
