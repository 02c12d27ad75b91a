"""Runs a command."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path
from typing import ClassVar

import msgspec
from pydantic import Field, JsonValue

from penstock.components.artifacts import local_path, pack_value
from penstock.components.contract import Artifact, BatchComponent, BatchContext, Parameters
from penstock.errors import WorkflowError

__all__ = ["Shell", "ShellParameters"]


class ShellParameters(Parameters):
    """Parameters of `shell`."""

    command: str = Field(min_length=1, description="For sh, or with `shell` off a program and its arguments")
    shell: bool = True
    variables: dict[str, str] = Field(default={}, description="Environment variables")
    secrets: dict[str, str] = Field(default={}, description="Environment variable -> name of a secret")
    arguments: dict[str, JsonValue] = Field(default={}, description="Variables too; other than text as JSON")
    codes: tuple[int, ...] = Field(default=(0,), description="Exit codes that count as done")


class Shell(BatchComponent):
    """Runs a command in a folder of its own.

    The environment tells it its run (`PENSTOCK_RUN`, `_NODE`, `_ATTEMPT`, `_KEY`, `_PROJECT`), its interval
    (`PENSTOCK_START_US`, `PENSTOCK_END_US`) and its inputs (`PENSTOCK_INPUT_NAME`: text, JSON, or an artifact's path).
    Files that it writes to `$PENSTOCK_OUTPUT` become the output `files`; the last line of standard output the output
    `line` where `PENSTOCK_LINE` is written to: `echo 42 > $PENSTOCK_LINE`.
    """

    name = "shell"
    parameters = ShellParameters
    outputs: ClassVar[dict[str, str]] = {"files": "folder", "line": "string"}
    example: ClassVar[dict[str, str]] = {"command": "echo hello"}

    def run(self, context: BatchContext, parameters: ShellParameters) -> None:
        """Runs it to its end; any other exit code is a failure."""
        environment = os.environ | _told(context) | parameters.variables
        environment |= {k: _text(v) for k, v in parameters.arguments.items()}
        environment |= {k: context.secret(v) for k, v in parameters.secrets.items()}
        files = context.output("files", "folder") if "PENSTOCK_OUTPUT" in parameters.command else None
        if files is not None:
            environment["PENSTOCK_OUTPUT"] = str(files)
        environment["PENSTOCK_LINE"] = str(Path("line").resolve())
        command = ["/bin/sh", "-c", parameters.command] if parameters.shell else shlex.split(parameters.command)
        try:
            done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False)  # noqa: S603
        except OSError as error:
            raise WorkflowError(
                "a command that can be run", found=str(error), remedy="see its name and rights"
            ) from error
        if Path("line").exists():
            context.put("line", Path("line").read_text(encoding="utf-8").rstrip("\n"))
        if done.returncode not in parameters.codes:
            raise WorkflowError(
                f"the command ends with {' or '.join(map(str, parameters.codes))}",
                found=_ended(done.returncode),
                remedy="its log says more",
            )


def _told(context: BatchContext) -> dict[str, str]:
    told = {
        "PENSTOCK_RUN": context.run,
        "PENSTOCK_NODE": context.node,
        "PENSTOCK_ATTEMPT": str(context.attempt),
        "PENSTOCK_KEY": context.idempotency_key,
        "PENSTOCK_PROJECT": str(context.project),
    }
    if context.interval_start_us is not None:
        told["PENSTOCK_START_US"] = str(context.interval_start_us)
    if context.interval_end_us is not None:
        told["PENSTOCK_END_US"] = str(context.interval_end_us)
    for name, value in context.inputs.items():
        variable = re.sub(r"\W", "_", name).upper()
        told[f"PENSTOCK_INPUT_{variable}"] = _text(value)
    return told


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Artifact):
        return str(local_path(value)) if value.kind in ("file", "folder") else value.uri
    return msgspec.json.encode(pack_value(value)).decode()


def _ended(code: int) -> str:
    return f"code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
