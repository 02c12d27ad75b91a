"""Runs a function of the project."""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import Any, ClassVar

from pydantic import Field, JsonValue

from penstock.components.contract import BatchComponent, BatchContext, Parameters
from penstock.errors import WorkflowError, nearest

__all__ = ["Python", "PythonParameters"]


class PythonParameters(Parameters):
    """Parameters of `python`."""

    call: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$", examples=["jobs.daily:train"], description="module:function"
    )
    arguments: dict[str, JsonValue] = Field(default={}, description="Given to it by name, with the inputs")


class Python(BatchComponent):
    """Runs a function of the project with the arguments and inputs that it names.

    A parameter called `context` receives the task's context. What the function returns is the output `result`: JSON
    data, or an artifact.
    """

    name = "python"
    parameters = PythonParameters
    outputs: ClassVar[dict[str, str]] = {"result": "json", "*": "json"}
    example: ClassVar[dict[str, Any]] = {"call": "platform:python_version"}
    facts = ("rows", "quality", "snapshot", "model", "watermark")

    def run(self, context: BatchContext, parameters: PythonParameters) -> None:
        """Imports the module and calls the function."""
        function = _find(parameters.call, context)
        given: dict[str, Any] = {**parameters.arguments, **context.inputs}
        wanted = inspect.signature(function).parameters
        if "context" in wanted:
            given["context"] = context
        takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in wanted.values())
        for name in given:
            if not takes_all and name not in wanted:
                raise WorkflowError(
                    f"{parameters.call} takes {name!r}", found="it does not", remedy=nearest(name, wanted)
                )
        context.put("result", function(**given))


def _find(target: str, context: BatchContext) -> Any:
    module_name, _, name = target.partition(":")
    root = str(context.project)
    if root not in sys.path:
        sys.path.insert(0, root)
    module = importlib.import_module(module_name)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise WorkflowError(
            f"{target} is a function",
            found=f"{module_name} has {'none of that name' if found is None else type(found).__name__}",
            remedy=nearest(name, [n for n, v in vars(module).items() if callable(v)]),
        )
    return found
