"""Own environments of tasks: made once for a set of requirements, by whoever needs it first, and kept.

    python -m penstock.workflows.executor.local.environments FOLDER REQUIREMENT...

An environment sees, behind its own packages, those of the worker, so that Penstock need not be installed in it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Final

import penstock
from penstock.errors import WorkflowError

__all__ = ["Environments", "build", "environment_hash"]

_DONE: Final = "requirements.lock"
"""Written last: the exact versions that were installed."""

Made = Callable[[str | Exception], None]


def environment_hash(requirements: tuple[str, ...]) -> str:
    """Names an environment by what is asked of it and the interpreter it is made with."""
    asked = "\n".join([sys.version, platform.machine(), *sorted(requirements)])
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


class Environments:
    """The environments of a deployment, for a worker that must not wait.

    Args:
        folder: `.penstock/environments`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._builds: dict[Path, tuple[subprocess.Popen[bytes], list[Made]]] = {}

    def find(self, requirements: tuple[str, ...], made: Made) -> str | None:
        """The interpreter of an environment; None when it is being made, and `made` is told when it is."""
        place = self._folder / environment_hash(requirements)
        if (place / _DONE).exists():
            return str(place / "bin" / "python")
        if place not in self._builds:
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.with_suffix(".log").open("wb") as log:
                command = [sys.executable, "-m", __name__, str(place), *requirements]
                self._builds[place] = (
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log),  # noqa: S603
                    [],
                )
        self._builds[place][1].append(made)
        return None

    def look(self) -> None:
        """Tells of what has been made since."""
        for place, (process, waiting) in list(self._builds.items()):
            if process.poll() is None:
                continue
            del self._builds[place]
            found: str | Exception = str(place / "bin" / "python")
            if process.returncode != 0:
                log = place.with_suffix(".log")
                lines = log.read_text(errors="replace").strip().splitlines() or ["no word"]
                found = WorkflowError(
                    "an environment of these requirements",
                    found=lines[-1][:300],
                    remedy=f"correct them; all that was said is in {log}",
                )
            for made in waiting:
                made(found)

    def close(self) -> None:
        """Ends what is being made; it is begun anew by who needs it next."""
        for process, _ in self._builds.values():
            process.terminate()
            process.wait()


def build(place: Path, requirements: tuple[str, ...]) -> None:
    """Makes an environment, unless somebody else has; two that come together make one.

    Raises:
        subprocess.CalledProcessError: the installer fails.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(place.with_suffix(".making"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (place / _DONE).exists():
            return
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True, symlinks=True)
        python = str(place / "bin" / "python")
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        subprocess.run([*pip, "install", *requirements], check=True)  # noqa: S603  the node's own requirements
        frozen = subprocess.run([*pip, "freeze"], check=True, capture_output=True)  # noqa: S603
        site = next((place / "lib").glob("python*")) / "site-packages"
        behind = dict.fromkeys([p for p in sys.path if p.endswith("-packages")])
        behind[str(Path(penstock.__file__).parent.parent)] = None
        (site / "penstock_behind.pth").write_text("".join(f"{path}\n" for path in behind))
        part = place / f".{_DONE}"
        part.write_bytes(frozen.stdout)
        part.replace(place / _DONE)
    finally:
        os.close(lock)


if __name__ == "__main__":
    build(Path(sys.argv[1]), tuple(sys.argv[2:]))
