from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.clock import ReplayClock
from penstock.components import values
from penstock.errors import StoreError, WorkflowError
from penstock.store.meta import Meta
from penstock.workflows.dictionary import Dictionary, readers
from penstock.workflows.spec.model import Node, WorkflowSpec


@pytest.fixture
def meta(tmp_path: Path) -> Iterator[Meta]:
    with Meta.open(tmp_path / "meta.db", clock=ReplayClock(5)) as opened:
        yield opened


def test_a_value_is_typed_versioned_and_read_by_tasks_at_once(meta: Meta, tmp_path: Path) -> None:
    dictionary = Dictionary(meta, tmp_path)
    dictionary.put("limit", 3, description="most rows", author="ann", reason="begin")
    read = values.Dictionary(tmp_path)
    assert read["limit"] == 3
    entry = dictionary.put("limit", 4, author="bob", reason="more")
    assert read["limit"] == 4
    assert (entry.version, entry.type, entry.description, entry.author) == (2, "integer", "most rows", "bob")
    assert [(e.value, e.reason) for e in dictionary.history("limit")] == [(3, "begin"), (4, "more")]


def test_a_value_of_another_type_is_refused_and_nothing_changes(meta: Meta, tmp_path: Path) -> None:
    dictionary = Dictionary(meta, tmp_path)
    dictionary.put("limit", 3, author="ann", reason="begin")
    with pytest.raises(WorkflowError, match="integer"):
        dictionary.put("limit", "many", author="ann", reason="oops")
    with pytest.raises(WorkflowError, match="lower-case"):
        dictionary.put("Limit!", 1, author="ann", reason="oops")
    with pytest.raises(WorkflowError, match="did you mean integer"):
        dictionary.put("other", 1, type="integr", author="ann", reason="oops")
    assert [entry.value for entry in dictionary.list()] == [3]


def test_of_two_changes_from_one_version_one_is_refused(meta: Meta, tmp_path: Path) -> None:
    dictionary = Dictionary(meta, tmp_path)
    dictionary.put("limit", 3, author="ann", reason="begin", expect=0)
    dictionary.put("limit", 4, author="ann", reason="more", expect=1)
    with pytest.raises(StoreError, match="someone else"):
        dictionary.put("limit", 5, author="bob", reason="more", expect=1)


def test_a_key_that_was_taken_away_is_gone_for_tasks_and_keeps_its_history(meta: Meta, tmp_path: Path) -> None:
    dictionary = Dictionary(meta, tmp_path)
    dictionary.put("limit", 3, author="ann", reason="begin")
    dictionary.remove("limit", author="ann", reason="unused")
    with pytest.raises(WorkflowError, match="limit"):
        values.Dictionary(tmp_path)["limit"]
    with pytest.raises(WorkflowError, match="no such key"):
        dictionary.get("limit")
    assert [entry.is_there for entry in dictionary.history("limit")] == [True, False]
    assert dictionary.put("limit", "text now", author="ann", reason="again").version == 3


def test_a_file_that_a_crash_left_behind_is_mended_when_opened(meta: Meta, tmp_path: Path) -> None:
    Dictionary(meta, tmp_path).put("limit", 3, author="ann", reason="begin")
    (tmp_path / values.DICTIONARY_FILE).write_text('{"limit": 2}')
    Dictionary(meta, tmp_path)
    assert values.Dictionary(tmp_path)["limit"] == 3


def test_who_reads_a_key_is_known_from_the_workflows() -> None:
    node = Node(name="fit", kind="batch", component="shell", parameters={"command": "head -{{ dict.limit }} f"})
    other = node.model_copy(update={"name": "other", "parameters": {"command": "limit"}})
    assert readers("limit", [WorkflowSpec(name="w", nodes=(node, other))]) == ["w.fit"]
