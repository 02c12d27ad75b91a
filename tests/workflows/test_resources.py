from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.clock import ReplayClock
from penstock.components.values import find_resource, references, with_resources
from penstock.errors import WorkflowError
from penstock.store.blob import Blob
from penstock.store.meta import Meta
from penstock.workflows.resources import Resources, users
from penstock.workflows.spec.model import Node, WorkflowSpec


@pytest.fixture
def resources(tmp_path: Path) -> Iterator[Resources]:
    with Meta.open(tmp_path / "meta.db", clock=ReplayClock(5)) as meta:
        yield Resources(meta, Blob.open(tmp_path / "blobs"), tmp_path)


def test_every_version_stays_readable_and_equal_content_adds_none(resources: Resources, tmp_path: Path) -> None:
    first = resources.put("words.txt", b"one", author="ann", reason="begin")
    again = resources.put("words.txt", b"one", author="bob", reason="same")
    second = resources.put("words.txt", b"two", author="bob", reason="more")
    assert (first.version, again.version, second.version) == (1, 1, 2)
    for resource, content in ((first, b"one"), (second, b"two")):
        resources.fetch(resource, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == content
    assert resources.get("words.txt") == second
    assert resources.get("words.txt", 1).uri == "resource://words.txt@1"
    assert [r.version for r in resources.history("words.txt")] == [1, 2]


def test_an_unknown_resource_is_answered_with_the_nearest(resources: Resources) -> None:
    resources.put("words.txt", b"one", author="ann", reason="begin")
    with pytest.raises(WorkflowError, match=r"did you mean words\.txt"):
        resources.get("word.txt")
    with pytest.raises(WorkflowError, match=r"words\.txt@7"):
        resources.get("words.txt", 7)
    with pytest.raises(WorkflowError, match="letters"):
        resources.put("../words", b"", author="ann", reason="oops")


def test_references_are_found_wherever_they_stand_in_parameters() -> None:
    value = {"a": "cat resource://words.txt@3 resource://more", "b": ["resource://x.y-z@12"], "c": 1}
    assert list(references(value)) == [("words.txt", 3), ("more", None), ("x.y-z", 12)]
    node = Node(name="fit", kind="batch", component="shell", parameters={"command": "cat resource://words.txt"})
    assert users("words.txt", [WorkflowSpec(name="w", nodes=(node,))]) == ["w.fit"]


def test_a_task_finds_the_file_of_the_version_that_was_pinned(resources: Resources, tmp_path: Path) -> None:
    resources.put("words.txt", b"one", author="ann", reason="begin")
    pinned = resources.pinned({"command": "cat resource://words.txt"})
    resources.put("words.txt", b"two", author="ann", reason="later")
    assert pinned == {"command": "cat resource://words.txt@1"}
    path = Path(with_resources(tmp_path, pinned)["command"].removeprefix("cat "))
    assert path.read_bytes() == b"one"
    assert find_resource(tmp_path, "words.txt").read_bytes() == b"two"
    with pytest.raises(WorkflowError, match=r"did you mean words\.txt"):
        resources.pinned("resource://word.txt")
