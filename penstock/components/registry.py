"""Finds components: Penstock's, installed packages' by entry point, and those of a project's `components/` folder."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

from penstock.components.contract import BatchComponent, Parameters, StreamComponent
from penstock.errors import PenstockError, WorkflowError, nearest

__all__ = ["BUILT_IN", "FOLDER", "GROUP", "BrokenComponent", "Component", "Found", "Registry", "discover"]

GROUP: Final = "penstock.components"
"""The entry-point group in which a package names its component: `name = "package.module:Class"`."""
FOLDER: Final = "components"
"""The folder of a project whose modules are looked through for components."""
BUILT_IN: Final = (
    "penstock.components.feature_backfill:FeatureBackfill",
    "penstock.components.feature_check:FeatureCheck",
    "penstock.components.feature_live:FeatureLive",
    "penstock.components.http:Http",
    "penstock.components.python:Python",
    "penstock.components.shell:Shell",
    "penstock.components.sql:Sql",
    "penstock.components.stream_command:StreamCommand",
    "penstock.components.wait:Wait",
)

Component: TypeAlias = type[BatchComponent] | type[StreamComponent]


@dataclass(frozen=True, slots=True)
class Found:
    """A component and where it comes from: `penstock`, a package, or a file of the project."""

    component: Component
    origin: str

    def describe(self) -> dict[str, Any]:
        """Everything that a form, a list or another language needs, as JSON data."""
        one = self.component
        described: dict[str, Any] = {
            "name": one.name,
            "version": one.version,
            "kind": one.kind,
            "origin": self.origin,
            "description": (one.__doc__ or "").strip().partition("\n\n")[0],
            "parameters": one.parameters.model_json_schema(),
            "facts": list(one.facts),
        }
        if issubclass(one, BatchComponent):
            described["outputs"] = dict(one.outputs)
            described["example"] = None if one.example is None else dict(one.example)
        return described


@dataclass(frozen=True, slots=True)
class BrokenComponent:
    """A component that cannot be used, and why; the others work."""

    name: str
    origin: str
    reason: str


@dataclass(frozen=True, slots=True)
class Registry:
    """All components of a project by name, and the broken ones."""

    found: Mapping[str, Found]
    broken: tuple[BrokenComponent, ...] = ()

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)

    def __getitem__(self, name: str) -> Component:
        """The component of that name.

        Raises:
            WorkflowError: there is none, or it is broken.
        """
        if (found := self.found.get(name)) is not None:
            return found.component
        for broken in self.broken:
            if broken.name == name:
                raise WorkflowError(
                    f"the component {name!r} ({broken.origin}) loads",
                    found=broken.reason,
                    remedy="mend it, or take it away; the other components work",
                )
        raise WorkflowError(f"a component {name!r}", found="none of that name", remedy=nearest(name, self.found))

    def batch(self, name: str) -> type[BatchComponent]:
        """The batch component of that name.

        Raises:
            WorkflowError: there is none, it is broken, or it is a stream.
        """
        component = self[name]
        if not issubclass(component, BatchComponent):
            raise WorkflowError(f"{name!r} is a batch component", found="a stream component")
        return component


def discover(project: Path | None = None, points: Iterable[EntryPoint] | None = None) -> Registry:
    """Every component that can be had. Runs the modules that hold them; one that fails is told as broken.

    Args:
        project: a project's folder, whose `components/` is looked through; none by default.
        points: the entry points to load; those installed by default.
    """
    found: dict[str, Found] = {}
    broken: list[BrokenComponent] = []
    for target in BUILT_IN:
        module, _, name = target.partition(":")
        _take(getattr(importlib.import_module(module), name), "penstock", found, broken)
    for point in entry_points(group=GROUP) if points is None else points:
        origin = f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value
        try:
            loaded = point.load()
        except Exception as error:  # noqa: BLE001  a stranger's module may raise anything; the others must work
            broken.append(BrokenComponent(point.name, origin, _reason(error)))
        else:
            _take(loaded, origin, found, broken, called=point.name)
    if project is not None:
        for file in sorted((project / FOLDER).glob("*.py")):
            _take_file(file, project, found, broken)
    return Registry(found, tuple(broken))


def _take_file(file: Path, project: Path, found: dict[str, Found], broken: list[BrokenComponent]) -> None:
    origin = str(file.relative_to(project))
    try:
        module = _load(file)
    except (Exception, SystemExit) as error:  # noqa: BLE001  a project's file may raise anything; the others must work
        broken.append(BrokenComponent(file.stem, origin, _reason(error)))
        return
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, BatchComponent | StreamComponent)
        and value.__module__ == module.__name__
        and not value.__name__.startswith("_")
    ]
    for component in own:
        _take(component, origin, found, broken)


def _load(file: Path) -> ModuleType:
    """A file as a module of a name of its own, so that two projects never meet."""
    name = f"penstock_project_components.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _take(
    component: Any, origin: str, found: dict[str, Found], broken: list[BrokenComponent], called: str = ""
) -> None:
    """Takes a component in, if it keeps the contract and its name is free."""
    name = getattr(component, "name", None) or called or repr(component)
    reason = _unfit(component, called)
    if not reason and name in found:
        reason = f"the name {name!r} belongs to the component of {found[name].origin}"
    if reason:
        broken.append(BrokenComponent(str(name), origin, reason))
    else:
        found[name] = Found(component, origin)


def _unfit(component: Any, called: str) -> str:
    """Why this is no component; empty when it is one."""
    if not (isinstance(component, type) and issubclass(component, BatchComponent | StreamComponent)):
        return "it is no subclass of BatchComponent or StreamComponent"
    name = getattr(component, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        return f"its name {name!r} is no identifier"
    if called and called != name:
        return f"its entry point is called {called!r}, itself {name!r}"
    if not isinstance(component.version, str) or not component.version:
        return f"its version {component.version!r} is no text"
    if component.run in (BatchComponent.run, StreamComponent.run):
        return "it does not say what to run"
    if not (isinstance(component.parameters, type) and issubclass(component.parameters, Parameters)):
        return "its parameters are no subclass of Parameters"
    try:
        component.parameters.model_json_schema()
    except Exception as error:  # noqa: BLE001  pydantic raises many kinds for what has no schema
        return f"its parameters have no JSON Schema: {_reason(error)}"
    return ""


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, PenstockError) else f"{type(error).__name__}: {error}"
