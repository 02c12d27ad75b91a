"""`penstock features`."""

from __future__ import annotations

import typer

app = typer.Typer(help="Features: over history, live, and for one request.", no_args_is_help=True)


@app.callback()
def features() -> None:
    """Features: over history, live, and for one request."""
