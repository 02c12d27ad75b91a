from __future__ import annotations

from pathlib import Path

from penstock.plan.expr.document import functions_page
from penstock.plan.expr.registry import functions

PAGE = Path(__file__).parents[3] / "docs" / "functions.md"


def test_the_page_is_current() -> None:
    remedy = "run python -m penstock.plan.expr.document docs/functions.md"
    assert PAGE.read_text(encoding="utf-8") == functions_page(), remedy


def test_there_are_eighty_functions_and_each_has_words() -> None:
    known = {function.name: function for function in functions().values()}
    assert len(known) >= 80
    assert [name for name, function in known.items() if not function.doc.endswith(".")] == []
