"""Options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

__all__ = ["AsJson", "Project"]

Project: TypeAlias = Annotated[Path, typer.Option("--project", "-C", help="The project's folder.")]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="JSON lines for programs.")]
