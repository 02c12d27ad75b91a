"""Workflows of a project's definitions, read and checked in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.errors import WorkflowError
from penstock.workflows.project import Request, ask

BOTH = """
import penstock as ps
later = ps.workflow("later", every="1w")
later.batch("fit", ps.fit())
now = ps.workflow("now")
now.batch("one", ps.component("shell", command="echo 1"))
"""


def test_those_that_can_run_are_checked_and_the_others_are_named_with_their_reason(tmp_path: Path) -> None:
    (tmp_path / "definitions.py").write_text(BOTH)
    told = ask(tmp_path, Request(0))
    assert [one.spec["name"] for one in told.checked] == ["now"]
    assert list(told.not_built) == ["later"]
    assert "not built yet" in told.not_built["later"]


def test_one_that_is_not_built_is_refused_when_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "definitions.py").write_text(BOTH)
    assert ask(tmp_path, Request(0, only="now")).not_built == {}
    with pytest.raises(WorkflowError, match="not built yet"):
        ask(tmp_path, Request(0, only="later"))


def test_only_unbuilt_ones_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "definitions.py").write_text(BOTH.partition("now =")[0])
    told = ask(tmp_path, Request(0))
    assert told.checked == []
    assert list(told.not_built) == ["later"]
