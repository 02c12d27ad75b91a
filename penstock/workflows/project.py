"""Reads a project's own code in a process of its own, so that a server never runs it and never sees an older one.

`python -m penstock.workflows.project FOLDER` takes a request as JSON on its standard input and answers on its standard
output: which workflows the definitions hold, whether they can run, which components there are.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from penstock.components.code import CodeIdentity
from penstock.components.registry import Registry, discover
from penstock.define.model import Model
from penstock.define.project import Definitions, load
from penstock.define.relation import Group, Joined
from penstock.define.sample import Samples
from penstock.define.stream import Stream, Table
from penstock.define.workflow import Workflow
from penstock.errors import NotBuiltError, PenstockError, WorkflowError, WorkflowErrors, nearest
from penstock.workflows.spec.check import Surroundings, check
from penstock.workflows.spec.convert import Places, to_spec, validated
from penstock.workflows.spec.model import WorkflowSpec
from penstock.workflows.spec.text import plain

__all__ = ["Checked", "Refusal", "Request", "Told", "ask", "checked", "planned", "project_workflows", "surroundings"]

_TIMEOUT_S: Final = 120.0


class Request(msgspec.Struct, frozen=True):
    """What is asked.

    Attributes:
        now_us: the deployment's present.
        applied: specifications in service, as plain data.
        spec: one to check; None for those that the definitions hold.
        only: the one of those that is meant.
        describe: only describe the components.
    """

    now_us: int
    applied: list[dict[str, Any]] = []
    spec: dict[str, Any] | None = None
    only: str | None = None
    describe: bool = False


class Checked(msgspec.Struct, frozen=True):
    """A workflow that can run, the versions of its components, and the identity of the code it was checked with."""

    spec: dict[str, Any]
    components: dict[str, str]
    code: str


class Refusal(msgspec.Struct, frozen=True):
    """An error, in its parts."""

    asked: str
    found: str
    remedy: str
    where: str


class Told(msgspec.Struct, frozen=True):
    """The answer: either what can run and what is not built yet (with the reason), or what does not fit."""

    checked: list[Checked] = []
    not_built: dict[str, str] = {}
    components: list[dict[str, Any]] = []
    broken: list[dict[str, Any]] = []
    refusals: list[Refusal] = []


def ask(project: Path, request: Request) -> Told:
    """Asks a process of its own.

    Raises:
        WorkflowError: something does not fit, or the project's code ended the process.
    """
    command = [sys.executable, "-m", "penstock.workflows.project", str(project)]
    try:
        done = subprocess.run(  # noqa: S603  our own module
            command, input=msgspec.json.encode(request), capture_output=True, timeout=_TIMEOUT_S, check=False
        )
        told = msgspec.json.decode(done.stdout, type=Told)
    except subprocess.TimeoutExpired as error:
        raise WorkflowError(
            "read the project's code", found=f"no end after {_TIMEOUT_S:.0f} s", remedy="look what it does on import"
        ) from error
    except msgspec.DecodeError as error:
        found = done.stderr.decode(errors="replace").strip()[-500:] or f"exit code {done.returncode}"
        raise WorkflowError("read the project's code", found=found, remedy="mend it", where=str(project)) from error
    errors = tuple(WorkflowError(r.asked, found=r.found, remedy=r.remedy, where=r.where or None) for r in told.refusals)
    if len(errors) > 1:
        raise WorkflowErrors(errors)
    if errors:
        raise errors[0]
    return told


def checked(project: Path, request: Request) -> Told:
    """Reads and checks in this process; all that can run are checked before any is given.

    Raises:
        WorkflowError: something does not fit.
        DefinitionError: the definitions cannot be read.
    """
    registry = discover(project)
    not_built: dict[str, NotBuiltError] = {}
    applied = {spec.name: spec for spec in (validated(data, "an applied workflow", None) for data in request.applied)}
    if request.spec is not None:
        spec = validated(request.spec, f"workflow {request.spec.get('name', '')}".rstrip(), "the request")
        chosen: Mapping[str, tuple[WorkflowSpec, Places]] = {spec.name: (spec, Places())}
        around = surroundings(registry, _definitions_if_any(project), applied)
    else:
        definitions = load(project)
        found, not_built = project_workflows(definitions)
        if not found and not not_built:
            raise WorkflowError(
                "the project has a workflow",
                found=f"none in {project}",
                remedy='define one: flow = ps.workflow("nightly", every="1d")',
            )
        if request.only in not_built:
            raise not_built[request.only]
        if request.only is not None and request.only not in found:
            raise WorkflowError(
                f"workflow {request.only!r} of the project", found="none", remedy=nearest(request.only, found)
            )
        around = surroundings(registry, definitions, applied | {name: spec for name, (spec, _) in found.items()})
        chosen = {name: value for name, value in found.items() if request.only in (None, name)}
    for spec, places in chosen.values():
        check(spec, around, now_us=request.now_us, places=places)
    code = CodeIdentity(project).now()
    return Told(
        [
            Checked(plain(spec), {node.component: registry[node.component].version for node in spec.nodes}, code)
            for spec, _ in chosen.values()
        ],
        {name: error.asked for name, error in not_built.items() if request.only is None},
    )


def _definitions_if_any(project: Path) -> Definitions:
    """A specification of its own needs no definitions; if it names one, its check says what is missing."""
    try:
        return load(project)
    except PenstockError:
        return Definitions.of()


def project_workflows(
    definitions: Definitions,
) -> tuple[dict[str, tuple[WorkflowSpec, Places]], dict[str, NotBuiltError]]:
    """The workflows of a project's definitions as specifications with the places of their parts, and those that rest
    on parts that are not built.

    Raises:
        WorkflowError: an option or a value does not fit.
    """
    found: dict[str, tuple[WorkflowSpec, Places]] = {}
    not_built: dict[str, NotBuiltError] = {}
    for name, definition in definitions.named.items():
        if isinstance(definition, Workflow):
            try:
                found[name] = to_spec(definition, definitions.root)
            except NotBuiltError as error:
                not_built[name] = error
    return found, not_built


def planned(definitions: Definitions, now_us: int) -> tuple[dict[str, tuple[WorkflowSpec, Places]], dict[str, str]]:
    """The workflows of definitions that can run, checked together, and those with parts that are not built, and why.

    Raises:
        WorkflowError: something does not fit.
    """
    found, not_built = project_workflows(definitions)
    around = surroundings(discover(definitions.root), definitions, {name: spec for name, (spec, _) in found.items()})
    for spec, places in found.values():
        check(spec, around, now_us=now_us, places=places)
    return found, {name: error.asked for name, error in not_built.items()}


def surroundings(registry: Registry, definitions: Definitions, workflows: Mapping[str, WorkflowSpec]) -> Surroundings:
    """What workflows may refer to: components, definitions with progress, one another."""
    subjects: dict[str, str] = {}
    for name, definition in definitions.named.items():
        match definition:
            case Stream() | Group() | Joined():
                subjects[name] = "stream"
            case Table():
                subjects[name] = "table"
            case Samples():
                subjects[name] = "samples"
            case Model():
                subjects[name] = "model"
    return Surroundings(
        {name: found.component for name, found in registry.found.items()},
        {broken.name: f"{broken.origin}: {broken.reason}" for broken in registry.broken},
        subjects,
        workflows,
    )


def main(arguments: list[str]) -> int:
    """Answers one request; what the project's code prints goes to standard error."""
    answer = os.dup(1)
    os.dup2(2, 1)
    project, request = Path(arguments[0]), msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    try:
        if request.describe:
            registry = discover(project)
            described = [found.describe() for found in registry.found.values()]
            told = Told(components=described, broken=[msgspec.to_builtins(one) for one in registry.broken])
        else:
            told = checked(project, request)
    except PenstockError as error:
        parts = error.errors if isinstance(error, WorkflowErrors) else (error,)
        told = Told(refusals=[Refusal(p.asked, p.found, p.remedy, str(p.where or "")) for p in parts])
    with os.fdopen(answer, "wb") as out:
        out.write(msgspec.json.encode(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
