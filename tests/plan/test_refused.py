from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.define import load
from penstock.errors import PlanError
from penstock.plan import plan

CASES = yaml.safe_load((Path(__file__).parent / "cases" / "refused.yaml").read_text())
PAY = """import penstock as ps
pay = ps.stream("pay", time="at", id="pay_id", schema={"pay_id": "text", "at": "instant", "card_id": "int", \
"shop_id": "text?", "amount": "decimal(12,2)", "rating": "float?", "ok": "bool?"})
"""


@pytest.mark.parametrize("case", CASES, ids=[case["title"] for case in CASES])
def test_what_does_not_fit_is_refused_word_for_word(tmp_path: Path, case: dict[str, Any]) -> None:
    (tmp_path / "definitions.py").write_text(PAY + case["definitions"])
    with pytest.raises(PlanError) as caught:
        plan(load(tmp_path))
    assert str(caught.value).replace(f"{tmp_path.resolve()}/", "") == case["error"].rstrip("\n")
