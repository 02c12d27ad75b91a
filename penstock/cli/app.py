"""Puts the commands together, and turns errors into a line and an exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import typer

from penstock.cli import dictionary, erase, facts, features, ingest, lake, log, projects, run, up, workflow
from penstock.cli.output import error_line
from penstock.errors import DoorError, PenstockError

__all__ = ["app", "main"]

# Typer brings its own Click, or uses the one installed, by version; this is the root of its errors either way.
_UsageError: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
_BROKEN_PIPE: Final = 141
_INTERRUPTED: Final = 130

# Plain help: the coloured one costs as much CPU time as everything else together.
app = typer.Typer(
    name="penstock",
    help="Real-time machine learning: define a feature once; history, live and request give one answer.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("new")(projects.new)
app.command("add")(projects.add)
app.command("plan")(projects.plan)
app.command("check")(projects.check)
app.command("ingest")(ingest.ingest)
app.command("erase")(erase.erase)
app.command("up")(up.up)
app.command("down")(up.down)
app.add_typer(workflow.app, name="workflow")
app.add_typer(run.app, name="run")
app.command("why")(run.why)
app.command("facts")(facts.facts)
app.command("signal")(facts.signal)
app.command("jobs")(facts.jobs)
app.add_typer(dictionary.app, name="dict")
app.add_typer(dictionary.resources, name="resource")
app.add_typer(dictionary.secrets, name="secret")
app.command("components")(facts.components)
app.add_typer(log.app, name="log")
app.add_typer(features.app, name="features")
app.add_typer(lake.app, name="lake")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs a command and ends the process. Exit codes: 0 done, 1 refused, 2 wrong usage, 130 stopped by Ctrl-C."""
    code = _run(sys.argv[1:] if arguments is None else arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    # Arrow's threads may still read ahead in a file that nobody reads on; taken down in the usual order, the process is
    # now and then aborted over them after its work is done.
    os._exit(code)


def _run(arguments: list[str]) -> int:
    as_json = "--json" in arguments
    try:
        found = app(arguments, prog_name="penstock", standalone_mode=False)
        sys.stdout.flush()
    except PenstockError as error:
        print(error_line(error, as_json=as_json), file=sys.stderr)  # noqa: T201  the process edge
        return 1
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader, as in `| head`, has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _BROKEN_PIPE
        print(error_line(_refused(error), as_json=as_json), file=sys.stderr)  # noqa: T201  the process edge
        return 1
    except typer.Exit as done:
        return done.exit_code
    except _UsageError as error:
        error.show()
        return int(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        print("stopped", file=sys.stderr)  # noqa: T201  the process edge
        return _INTERRUPTED
    return found if isinstance(found, int) else 0


def _refused(error: OSError) -> DoorError:
    """What the system refused, as an error with a place: a full disk, a folder without rights."""
    return DoorError(
        "the system lets files be read and written",
        found=error.strerror or str(error),
        remedy="free space on the disk, or look at its rights, then run this again",
        where=str(Path.cwd()) if error.filename is None else str(error.filename),
    )
