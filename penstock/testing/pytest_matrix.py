"""A pytest plugin: prints the matrix of the conformance suite after the run.

An empty cell of a tempo whose grid ran fails the run.
"""

from __future__ import annotations

from typing import Any

import pytest

from penstock.testing.conformance import MATRIX

_KEY = "penstock_matrix"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands its counts to the main process, which judges them."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_KEY] = MATRIX.dump()
    elif any(True for _ in MATRIX.empty()) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes the counts of a finished worker."""
    found = getattr(node, "workeroutput", {}).get(_KEY)
    if found:
        MATRIX.load(found)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table, and the cells without a case."""
    lines = list(MATRIX.lines())
    if not lines:
        return
    terminalreporter.section("operator x modifier x window kind x tempo: values compared")
    for line in lines:
        terminalreporter.line(line)
    for tempo, cell in MATRIX.empty():
        terminalreporter.line(f"EMPTY {tempo}: {' '.join(cell)}", red=True)
