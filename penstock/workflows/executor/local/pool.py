"""The templates of a worker, one for each set of modules and packages, and the processes that wait for tasks."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

from penstock.components.code import CodeIdentity
from penstock.workflows.executor.local.environments import Environments
from penstock.workflows.executor.local.folders import Folders
from penstock.workflows.executor.local.orders import FromTask, Ready
from penstock.workflows.executor.local.processes import TaskProcess, TemplateProcess, Watcher
from penstock.workflows.messages import TaskRef

__all__ = ["Pool"]

_LOOK_S: Final = 0.25
_IDLE_S: Final = 30.0
_UNUSED_S: Final = 120.0
"""How long a template that has modules loaded is kept after its last task."""
_MOST_STARTS: Final = 5
_PAUSE_S: Final = 0.2


class _Key(NamedTuple):
    python: str
    modules: tuple[str, ...]


@dataclass(eq=False)
class _Kind:
    """A template of one kind, its processes without a task, and the tasks without a process."""

    key: _Key
    template: TemplateProcess | None = None
    idle: list[TaskProcess] = field(default_factory=list)
    wanted: deque[tuple[TaskRef, bool]] = field(default_factory=deque)
    used_s: float = 0.0
    failed_starts: int = 0
    again_s: float = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether a task waits for it or runs in it."""
        template = self.template
        return bool(self.wanted) or (template is not None and any(p.task for p in template.processes.values()))


class Pool:
    """Gives tasks processes of the kind they want.

    Args:
        project, folders, name, watch: of the worker.
        told: told of what a task says.
        given: a process for a task; False when the task is not wanted any more.
        died: told of the end of a process with all that it had started.
        refused: told that a task cannot have a process, how it ends by that, and why.
        lost: told that a task that was to have a process has to ask again.
    """

    def __init__(
        self,
        project: Path,
        folders: Folders,
        name: str,
        watch: Watcher,
        *,
        told: Callable[[TaskProcess, FromTask], None],
        given: Callable[[TaskRef, TaskProcess], bool],
        died: Callable[[TaskProcess, int], None],
        refused: Callable[[TaskRef, Literal["failed", "lost"], str], None],
        lost: Callable[[TaskRef], None],
    ) -> None:
        self._project, self._watch = project, watch
        self._log = folders.run / f"worker-{name}.log"
        self._told, self._given, self._on_died, self._refused, self._lost = told, given, died, refused, lost
        self._identity = CodeIdentity(project)
        self.code = self._identity.now()
        """Identity of the code that the templates were made of."""
        self._looked_s = time.monotonic()
        self._kinds: dict[_Key, _Kind] = {}
        self._old: list[TemplateProcess] = []
        self._environments = Environments(folders.environments)
        self._base = _Key(sys.executable, ())
        self._unfit: set[str] = set()
        """Modules that start threads as they are loaded."""

    def open(self) -> None:
        """Makes the first template."""
        self._template(self._kind(self._base))

    def close(self) -> None:
        """Ends all processes."""
        templates = [k.template for k in self._kinds.values() if k.template is not None] + self._old
        for template in templates:
            template.close()
        for template in templates:
            template.wait(5.0)
        self._environments.close()

    def ready(self, code: str) -> Ready | None:
        """What the templates know; None while they load. They are made anew when the project's code has changed.

        Args:
            code: what the next task wants; the files are looked at again at once when the templates have another.
        """
        now_s = time.monotonic()
        if code not in ("", self.code) or now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            found = self._identity.now()
            if found != self.code:
                self.code = found
                self._renew()
        base = self._kind(self._base)
        template = self._template(base)
        return None if template is None else template.ready

    def ask(self, task: TaskRef, modules: tuple[str, ...], requirements: tuple[str, ...], alone: bool) -> None:
        """Wants a process for a task; it comes by `given`, perhaps before this returns."""
        python = sys.executable
        if requirements:
            found = self._environments.find(requirements, lambda python: self._made(task, modules, python))
            if found is None:
                return
            python = found
        self._want(task, _Key(python, modules), alone)

    def _want(self, task: TaskRef, key: _Key, alone: bool) -> None:
        kind = self._kind(_Key(key.python, tuple(m for m in key.modules if m not in self._unfit)))
        kind.used_s = time.monotonic()
        kind.wanted.append((task, alone))
        self._feed(kind)

    def give_back(self, process: TaskProcess) -> None:
        """A process is without a task."""
        kind = self._kind_of(process.template)
        if kind is None:
            process.close()
            self._tidy(process.template)
            return
        process.idle_since_s = time.monotonic()
        kind.idle.append(process)
        self._feed(kind)

    def look(self, now_s: float) -> None:
        """Starts again what failed, lets go of what nobody has needed for a while, and looks at environments."""
        self._environments.look()
        for kind in list(self._kinds.values()):
            if kind.wanted and kind.template is None and now_s >= kind.again_s:
                self._feed(kind)
            if kind.key != self._base and now_s - kind.used_s > _UNUSED_S and not kind.is_busy:
                self._drop(kind)
            for process in kind.idle[1:]:
                if now_s - process.idle_since_s > _IDLE_S:
                    kind.idle.remove(process)
                    process.close()
        self._old = [t for t in self._old if not t.has_ended]

    # kinds

    def _kind(self, key: _Key) -> _Kind:
        return self._kinds.setdefault(key, _Kind(key))

    def _kind_of(self, template: TemplateProcess) -> _Kind | None:
        kind = self._kinds.get(_Key(template.python, template.modules))
        return kind if kind is not None and kind.template is template else None

    def _template(self, kind: _Kind) -> TemplateProcess | None:
        """The template of a kind, made when it is missing and may be made."""
        if kind.template is None and time.monotonic() >= kind.again_s:
            kind.template = TemplateProcess(
                kind.key.python, self._project, kind.key.modules, self._log, self._watch,
                told=self._told, forked=self._forked, died=self._died, ready=self._loaded, ended=self._over,
            )  # fmt: skip
        return kind.template

    def _feed(self, kind: _Kind) -> None:
        """Gives processes to tasks, and asks for as many as are missing."""
        template = self._template(kind)
        if template is None or template.ready is None:
            return
        while kind.wanted:
            task, alone = kind.wanted[0]
            process = _pick(kind.idle, alone)
            if process is None:
                break
            kind.wanted.popleft()
            if not self._given(task, process):
                kind.idle.append(process)
        for _ in range(len(kind.wanted) - template.forking):
            template.fork()

    def _renew(self) -> None:
        """Lets all templates end their work; what was not begun asks again."""
        self._unfit.clear()
        for kind in list(self._kinds.values()):
            self._drop(kind)

    def _drop(self, kind: _Kind) -> None:
        del self._kinds[kind.key]
        for process in kind.idle:
            process.close()
        if kind.template is not None:
            self._tidy(kind.template)
        for task, _ in reversed(kind.wanted):
            self._lost(task)

    def _tidy(self, template: TemplateProcess) -> None:
        """Ends a template that is not wanted any more when its last task has ended."""
        if self._kind_of(template) is not None or template in self._old:
            return
        if any(p.task for p in template.processes.values()):
            return
        self._old.append(template)
        template.close()
        for process in template.processes.values():  # without tasks; it ends them, and cannot tell us any more
            self._on_died(process, 0)

    # what templates tell

    def _loaded(self, template: TemplateProcess) -> None:
        kind = self._kind_of(template)
        assert template.ready is not None
        if kind is None:
            return
        if template.ready.refused:
            self._unfit.update(template.ready.refused)
            self._drop(kind)
            return
        kind.failed_starts = 0
        self._feed(kind)

    def _forked(self, process: TaskProcess, error: str) -> None:
        kind = self._kind_of(process.template)
        if kind is None:
            process.close()
            return
        if process.pid:
            process.idle_since_s = time.monotonic()
            kind.idle.append(process)
        elif not process.template.is_over and kind.wanted:
            task, _ = kind.wanted.popleft()
            self._refused(task, "lost", f"no process could be made: {error}")
        self._feed(kind)

    def _died(self, process: TaskProcess, status: int) -> None:
        kind = self._kind_of(process.template)
        if kind is not None and process in kind.idle:
            kind.idle.remove(process)
        self._on_died(process, status)
        self._tidy(process.template)

    def _over(self, template: TemplateProcess) -> None:
        """A template has ended by itself: it is made again, unless it fails to start again and again."""
        kind = self._kind_of(template)
        if kind is None:
            return
        kind.template = None
        kind.idle.clear()
        if template.ready is None:
            kind.failed_starts += 1
            kind.again_s = time.monotonic() + _PAUSE_S * kind.failed_starts
            if kind.failed_starts >= _MOST_STARTS:
                kind.failed_starts = 0
                while kind.wanted:
                    task, _ = kind.wanted.popleft()
                    self._refused(task, "failed", f"the template of its process does not start; see {self._log}")
        self._feed(kind)

    def _made(self, task: TaskRef, modules: tuple[str, ...], python: str | Exception) -> None:
        """The environment of a task is there, or cannot be made."""
        if isinstance(python, Exception):
            self._refused(task, "failed", str(python))
            return
        self._want(task, _Key(python, modules), True)


def _pick(idle: list[TaskProcess], alone: bool) -> TaskProcess | None:
    """The process used last; for a task that wants to be alone, one that has served nobody."""
    for i in range(len(idle) - 1, -1, -1):
        if not alone or idle[i].served == 0:
            return idle.pop(i)
    return None
