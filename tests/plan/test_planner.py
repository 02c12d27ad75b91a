from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

import penstock as ps
from penstock.define import Definitions, load
from penstock.define.project import read_lock
from penstock.define.stream import Stream
from penstock.errors import DefinitionError, NotBuiltError, PlanError, PlanErrors
from penstock.names import Name
from penstock.plan import Plan, plan
from penstock.plan.expr.types import Type

EXAMPLES = Path(__file__).parents[2] / "examples"
FLIGHTS = Path(__file__).parents[2] / "examples" / "flights" / "data"


def test_every_example_plans(example: Plan) -> None:
    assert example.groups and example.views
    for view in example.views.values():
        assert set(view.lineage) == set(view.outputs)
        assert all(view.lineage[name] for name in view.outputs)


def test_what_is_not_built_is_refused_by_name(flights: Plan) -> None:
    assert set(flights.not_built) == {"late15", "late_static", "late_windows", "windows", "late"}
    with pytest.raises(NotBuiltError, match="late15 cannot run yet; found sample sets come with the closed loop"):
        flights.require("late15")


def test_a_definition_is_found_by_its_name_or_the_nearest(flights: Plan) -> None:
    assert flights.require("rich") is flights.views["rich"]
    assert flights.require("by_tail") is flights.groups["by_tail"]
    with pytest.raises(PlanError, match="did you mean by_tail"):
        flights.require("by_tale")


def test_names_carry_the_environment_and_the_project(pay: Stream) -> None:
    group = pay.by("card_id").features("g", version=3, n=ps.count())
    made = plan(Definitions.of(group), default=Name.parse("prod/bank/main/x"))
    assert str(made.groups["g"].name) == "prod/bank/main/g@3"


def test_several_wrong_definitions_are_told_at_once_each_once(pay: Stream) -> None:
    wrong = pay.by("card_id").over("1h").features("wrong", n=ps.sum("amuont"))
    other = pay.by("shop").over("1h").features("other", n=ps.count())
    chained = wrong.by("card_id").over("1h").features("chained", n=ps.count())
    with pytest.raises(PlanErrors) as caught:
        plan(Definitions.of(wrong, other, chained))
    assert len(caught.value.errors) == 2
    assert "did you mean amount?" in str(caught.value)
    assert "did you mean shop_id?" in str(caught.value)


@pytest.mark.skipif(not FLIGHTS.exists(), reason="the flights' logs are made by `make demo`")
def test_the_pinned_schemas_of_the_flights_are_those_of_their_files() -> None:
    for name, columns in read_lock(FLIGHTS.parent).items():
        fields = pq.ParquetFile(FLIGHTS / f"{name}.parquet").schema_arrow
        assert {f.name: str(Type.from_arrow(f.type)) for f in fields} == {
            column: text.rstrip("?") for column, text in columns.items()
        }


def test_a_lock_pins_what_a_definition_does_not_say() -> None:
    definitions = load(EXAMPLES / "feed")
    assert str(plan(definitions).relations["items"].schema["price"]) == "price float"
    with pytest.raises(PlanErrors, match="run `penstock add`"):
        plan(Definitions(definitions.root, definitions.named, definitions.functions))


def test_a_name_that_cannot_be_stored_is_told_with_its_place() -> None:
    with pytest.raises(DefinitionError, match=r"test_planner\.py:\d+: .*starting with a letter"):
        plan(Definitions.of(ps.stream("_s", time="at", schema={"at": "instant"})))
