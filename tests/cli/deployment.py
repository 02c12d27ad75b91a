"""A deployment under `penstock up`: real processes, for tests."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Deployment"]


class Deployment:
    def __init__(self, project: Path) -> None:
        self.project = project
        self.log = project / "up.log"
        self.process: subprocess.Popen[bytes] | None = None

    def up(self, *options: str) -> float:
        """Starts it; seconds until its server answered."""
        began = time.monotonic()
        (self.project / ".penstock" / "run" / "server.json").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "penstock.cli", "up", "--port", "0", "--ingest-port", "0", *options],
                cwd=self.project,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.until(lambda: "up at" in self.log.read_text())
        answered_s = time.monotonic() - began
        self.until(lambda: "workflow " in self.log.read_text())
        return answered_s

    def until(self, holds: Callable[[], Any], timeout_s: float = 30.0) -> Any:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if found := holds():
                return found
            time.sleep(0.02)
        logs = {file.name: file.read_text()[-2000:] for file in (self.project / ".penstock" / "logs").glob("*.log")}
        raise AssertionError(f"did not come true; {self.log.read_text()} {logs}")

    def run(self, *arguments: str, code: int = 0, text: str | None = None) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "penstock.cli", *arguments],
            cwd=self.project,
            capture_output=True,
            text=True,
            input=text,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def json(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run(*arguments, "--json").splitlines()]

    def parts(self, word: str) -> list[int]:
        """Pids of this project's processes whose command line has a word."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            except OSError:
                continue
            if word.encode() in command and str(self.project).encode() in command:
                found.append(int(entry.name))
        return found

    def server_pid(self) -> int:
        """Of the server that serves now; another stands by."""
        return int(json.loads((self.project / ".penstock" / "run" / "server.json").read_text())["pid"])

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        self.process = None

    def answers(self) -> bool:
        command = [sys.executable, "-m", "penstock.cli", "run", "ls"]
        return subprocess.run(command, cwd=self.project, capture_output=True, check=False).returncode == 0

    def state_of(self, run: str) -> str:
        return str(self.json("run", "show", run)[0]["state"])
