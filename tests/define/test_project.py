from __future__ import annotations

from pathlib import Path

import pytest

import penstock as ps
from penstock.define import load
from penstock.errors import DefinitionError

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_flights_load_with_everything_they_mention() -> None:
    found = load(EXAMPLES / "flights")
    assert list(found.named)[:4] == ["schedule", "departures", "weather", "by_origin"]
    assert {"late15", "late_windows", "windows", "late", "late_weekly"} <= set(found.named)


def test_feed_loads_with_functions_and_aggregates() -> None:
    found = load(EXAMPLES / "feed")
    assert set(found.functions) == {"tier"}
    assert set(found.aggregates) == {"Entropy"}


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(DefinitionError, match="did you mean by_origin"):
        load(EXAMPLES / "flights")["by_orign"]


def test_a_file_that_raises_is_told_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "definitions.py").write_text("import penstock as ps\n\nx = 1 / 0\n")
    with pytest.raises(DefinitionError, match=r"definitions\.py:3: .*ZeroDivisionError"):
        load(tmp_path)


def test_two_definitions_of_one_name_are_refused(tmp_path: Path) -> None:
    text = "import penstock as ps\na = ps.stream('s', time='t')\nb = ps.stream('s', time='t')\n"
    (tmp_path / "definitions.py").write_text(text)
    with pytest.raises(DefinitionError, match=r"definitions\.py:3: .*two definitions are called 's'"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "found"),
    [("ps.stream('s')", "stream s needs its event time; found None"), ("ps.table('t')", "table t needs its key")],
)
def test_what_must_be_said_is_asked_for_at_its_line(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "definitions.py").write_text(f"import penstock as ps\n\na = {text}\n")
    with pytest.raises(DefinitionError, match=rf"definitions\.py:3: PS100 {found}"):
        load(tmp_path)


def test_windows_are_named_by_width_and_offset() -> None:
    group = ps.stream("s", time="t").by("k").over("1h", "7d", offset="7d").features("g", n=ps.count())
    assert [w.name for w in group.windows] == ["1h_ago_7d", "7d_ago_7d"]


@pytest.mark.parametrize("width", ["", "1 fortnight", "-1h", "0s", "1.5h"])
def test_a_window_without_a_legal_width_is_refused(width: str) -> None:
    with pytest.raises(DefinitionError, match="width"):
        ps.window(width)
