"""kill -9 of every part of `penstock up`, in random order under load; then the laws, from database and task files.

    python -m bench.chaos --minutes 5 --seed 1

Server, standby, worker, templates, tasks, stream processes and the guardian itself die; `penstock up` is started again
after the guardian. Exit code 1 when a law does not hold; the project's folder is kept then.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.chaos_laws import Asked, violations
from bench.chaos_project import POOL, write_project
from penstock.cli.remote import Remote
from penstock.errors import DoorError
from penstock.workflows.executor.local.process import children_of

__all__ = ["Chaos", "Found", "run"]

_CALM_S = 60.0
_WEIGHTS = {"task": 6, "server": 3, "worker": 2, "template": 2, "stream": 2, "standby": 1, "guardian": 1}


class Found(collections.UserDict[str, Any]):
    """Kills by kind, runs, and the laws that did not hold."""


class Chaos:
    """A deployment, its load, and what kills it.

    Args:
        project: an empty folder.
        seed: of the order of kills and of the load.
    """

    def __init__(self, project: Path, seed: int) -> None:
        self.project = project
        write_project(project)
        self.random, self.load_random = random.Random(seed), random.Random(seed + 1)
        self.asked = Asked(set(), set(), set())
        self.kills: collections.Counter[str] = collections.Counter()
        self.log = project / "up.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()

    def up(self) -> None:
        """Starts `penstock up`, or starts it again."""
        (self.project / ".penstock" / "run" / "server.json").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "penstock.cli", "up", "--port", "0", "-C", str(self.project)]
            self.process = subprocess.Popen([*command, "--slots", "4"], stdout=log, stderr=log, start_new_session=True)

    def get(self, path: str, **query: Any) -> Any:
        """The answer to a GET."""
        return self.ask("GET", path, query=query)

    def ask(self, method: str, path: str, body: Any = None, query: dict[str, Any] | None = None) -> Any:
        """Asks until somebody answers: the same question, so that one that was heard twice counts once."""
        until = time.monotonic() + _CALM_S
        while True:
            try:
                return Remote(self.project).ask(method, path, body, query)
            except DoorError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    # load

    def load(self) -> None:
        """Starts runs, kills some, and gives signals, until it is told to end."""
        number = 0
        while not self._over.is_set():
            number += 1
            kind = self.load_random.choice(["fan", "chain", "chain", "retries", "slow", "signal", "signal"])
            if kind == "signal":
                self.ask("POST", "signals/go", {"value": number, "id": f"s{number}"})
                self.asked.signals.add(f"s{number}")
            else:
                run = f"{kind}.{number}"
                self.ask("POST", "runs", {"workflow": kind, "run": run})
                self.asked.runs.add(run)
                if kind == "slow" or self.load_random.random() < 0.1:
                    self._over.wait(self.load_random.uniform(0, 1.0))
                    self.ask("POST", f"runs/{run}/kill", {"reason": "chaos"})
                    self.asked.kills.add(run)
            self._over.wait(self.load_random.uniform(0.1, 0.8))

    # deaths

    def pids(self, kind: str) -> list[int]:
        """Living processes of a kind."""
        if kind == "guardian":
            return [self.process.pid] if self.process is not None and self.process.poll() is None else []
        if kind in ("server", "standby"):
            servers = self._parts("penstock.server.control.run")
            now = self._server()
            return [pid for pid in servers if (pid == now) == (kind == "server")]
        if kind == "stream":
            return self._parts("penstock.workflows.supervisor.child")
        workers = self._parts("penstock.workflows.executor.local\0")
        if kind == "worker":
            return workers
        templates = [pid for worker in workers for pid in children_of(worker)]
        return templates if kind == "template" else [pid for one in templates for pid in children_of(one)]

    def _server(self) -> int:
        try:
            return int(json.loads((self.project / ".penstock" / "run" / "server.json").read_text())["pid"])
        except (OSError, ValueError):
            return 0

    def _parts(self, word: str) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
                if word.encode() in command and str(self.project).encode() in command:
                    found.append(int(entry.name))
        return sorted(found)

    def kill_one(self) -> None:
        """Kills a process of a random kind."""
        kind = self.random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        pids = self.pids(kind)
        if not pids:
            return
        pid = self.random.choice(pids)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills[kind] += 1
        if kind == "guardian" and self.process is not None:
            self.process.wait()
            time.sleep(self.random.uniform(0, 1.0))
            self.up()

    # the whole

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Waits until something holds.

        Raises:
            TimeoutError: it does not come true.
        """
        until = time.monotonic() + _CALM_S
        while not (found := holds()):
            if time.monotonic() > until:
                raise TimeoutError(f"{what}; see {self.log}")
            time.sleep(0.1)
        return found

    def go(self, seconds: float) -> Found:
        """Runs load and kills for so long, lets everything end, and looks at the laws."""
        self.up()
        self.until(lambda: "workflow ticks" in self.log.read_text(), "it does not come up")
        self.ask("PUT", f"pools/{POOL[0]}", {"slots": POOL[1]})
        load = threading.Thread(target=self.load, daemon=True)
        load.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(self.random.uniform(0.1, 1.5))
            self.kill_one()
        self._over.set()
        load.join(_CALM_S)
        self.calm()
        broken = violations(self.project, self.asked)
        broken += [] if not load.is_alive() else ["the load was not answered"]
        runs = collections.Counter(r["state"] for r in self.get("runs", limit=1000))
        return Found(kills=dict(self.kills), runs=dict(runs), violations=broken)

    def calm(self) -> None:
        """Pauses what starts by itself and waits until nothing goes on."""
        for job in self.get("jobs"):
            if job["state"] == "broken":  # killed more often than its budget: a person starts it again
                self.ask("POST", f"jobs/{job['job']}/start")
        self.until(self._pause, "runs do not end")
        for job in ("ticker", "board"):
            self.ask("POST", f"jobs/ticks.{job}/stop")
        self.until(lambda: not self.pids("stream"), "streams do not stop")
        self.until(lambda: not list((self.project / ".penstock" / "staged").glob("*/*")), "staged outputs stay")

    def _pause(self) -> bool:
        """Pauses the schedules while none of their runs waits: the run of a paused workflow would wait on."""
        for workflow in ("every", "ticks"):
            self.ask("POST", f"workflows/{workflow}/pause", {})
        while going := self.going():
            if any(one.endswith("waiting") and one.partition(".")[0] in ("every", "ticks") for one in going):
                for workflow in ("every", "ticks"):
                    self.ask("POST", f"workflows/{workflow}/resume", {})
                time.sleep(1.0)
                return False
            time.sleep(0.1)
        return True

    def going(self) -> list[str]:
        """Runs that have not ended."""
        rows = [row for s in ("waiting", "running", "stopping", "failing") for row in self.get("runs", state=s)]
        return [f"{row['run']} {row['state']}" for row in rows]

    def close(self) -> None:
        """Ends everything that was started."""
        self._over.set()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
        for kind in ("server", "standby", "worker", "stream"):
            for pid in self.pids(kind):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def run(project: Path, seconds: float, seed: int) -> Found:
    """Chaos in an empty folder."""
    chaos = Chaos(project, seed)
    try:
        return chaos.go(seconds)
    except TimeoutError as error:
        found = [str(error)]
        with contextlib.suppress(DoorError):
            found += chaos.going()
        return Found(kills=dict(chaos.kills), violations=found)
    finally:
        chaos.close()


def main() -> int:
    """Runs it and says what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="penstock-chaos-"))
    found = run(folder / "project", given.minutes * 60, given.seed)
    print(json.dumps({"seed": given.seed, **found}, indent=1))
    if found["violations"]:
        print(f"kept: {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
