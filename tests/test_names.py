from __future__ import annotations

import pytest

from penstock.errors import DefinitionError
from penstock.names import Name, fingerprint


def test_parse_fills_in_what_is_left_out() -> None:
    here = Name("prod", "growth", "main", "x")
    assert str(Name.parse("user_ctr", here)) == "prod/growth/main/user_ctr@1"
    assert str(Name.parse("other_team/user_ctr@3", here)) == "prod/other_team/main/user_ctr@3"
    assert Name.parse(str(here)) == here


@pytest.mark.parametrize("text", ["", "User", "a b", "a/b/c/d/e", "a@x", "a@0", "1a"])
def test_illegal_names_are_refused(text: str) -> None:
    with pytest.raises(DefinitionError):
        Name.parse(text)


def test_fingerprint_ignores_dict_order_and_sees_every_value() -> None:
    assert fingerprint({"a": [1, 2], "b": None}) == fingerprint({"b": None, "a": [1, 2]})
    assert fingerprint({"a": [1, 2]}) != fingerprint({"a": [2, 1]})
