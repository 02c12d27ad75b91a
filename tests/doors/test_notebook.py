from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import penstock as ps
from penstock.doors.deployment import Deployment
from penstock.doors.project import Project, read_instant_us
from penstock.engine.history import Reason
from penstock.errors import DefinitionError, DoorError, EngineError, NotBuiltError

DEFINITIONS = """
import penstock as ps
types = {"id": "int", "t": "instant", "k": "instant", "user": "text?", "x": "float?"}
pays = ps.stream("pays", ps.files("pays.ndjson"), time="t", known="k", id="id", schema=types)
user = ps.entity("user")
g = pays.by(user).over("1h", "6h", hop="exact").features(
    "g", n=ps.count(), nx=ps.count("x"), big=ps.count().where("x > 50"), m=ps.mean("x")
)
last3 = pays.by(user).over(ps.rows(3)).features("last3", s=ps.sum("x"))
v = ps.view("v", pays["user", "x"], g["n_1h", "m_6h"], twice="x * 2")
"""
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "definitions.py").write_text(DEFINITIONS)
    rng = np.random.default_rng(11)
    rows: list[dict[str, Any]] = []
    for i in range(600):
        t = START + timedelta(minutes=int(rng.integers(0, 24 * 60)))
        known = t + timedelta(minutes=int(rng.choice([0, 0, 5, 90])))
        x = None if rng.random() < 0.1 else float(rng.integers(0, 100))
        user = None if rng.random() < 0.05 else f"u{int(rng.integers(0, 5))}"
        rows.append({"id": i, "t": t.isoformat(), "k": known.isoformat(), "user": user, "x": x})
        if rng.random() < 0.1:
            rows.append({**rows[-1], "k": (known + timedelta(minutes=1)).isoformat()})
    (folder / "pays.ndjson").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


@pytest.fixture(scope="module")
def project(root: Path) -> Project:
    return ps.open(root)


def test_opening_writes_nothing(root: Path, project: Project) -> None:
    assert len(project.features("g", user="u1", at="2026-01-01T12:00Z")) == 1
    assert sorted(p.name for p in root.iterdir()) == ["definitions.py", "pays.ndjson"]


def test_features_of_one_key_many_queries_and_every_key_agree(project: Project) -> None:
    at = "2026-01-01T12:00Z"
    every = project.features(project["g"], at=at).pl()
    assert every["user"].to_list() == [f"u{i}" for i in range(5)]
    queries = pl.DataFrame({"user": ["u3", "u0", "none"], "q": [datetime(2026, 1, 1, 12, tzinfo=UTC)] * 3})
    asked = project.features("g", queries).pl()
    assert asked.filter(pl.col("user") == "u3")["n_6h"][0] == every.filter(pl.col("user") == "u3")["n_6h"][0]
    assert asked["n_6h"].to_list()[2] == 0 and asked["m_6h"].to_list()[2] is None
    one = project.features(project["g"]["n_6h"], user="u3", at=at)
    assert one.arrow().to_pylist() == [{"user": "u3", "n_6h": every.filter(pl.col("user") == "u3")["n_6h"][0]}]
    frame = project.features("g", queries.to_pandas()).pandas()
    assert frame["n_6h"].tolist() == asked["n_6h"].to_list()


def test_views_take_their_inputs(project: Project) -> None:
    (row,) = project.features("v", user="u1", x=4.0, at="2026-01-01T12:00Z").arrow().to_pylist()
    assert row["twice"] == 8.0
    with pytest.raises(EngineError, match="did you mean user"):
        project.features("v", usr="u1", at="2026-01-01T12:00Z").arrow()


@pytest.mark.parametrize("column", ["n_1h", "nx_6h", "big_6h"])
def test_explained_rows_are_as_many_as_were_counted(project: Project, column: str) -> None:
    for hour in (3, 9, 15, 21):
        for user in ("u0", "u4", "none"):
            at = START + timedelta(hours=hour)
            found = project.explain(project["g"][column], user=user, at=at)
            assert found.reasons.get("counted", 0) == found.value
            assert set(found.reasons) <= {reason.value for reason in Reason}


def test_every_reason_is_told(project: Project) -> None:
    seen = set()
    for minute in range(0, 24 * 60, 37):
        at = START + timedelta(minutes=minute)
        seen |= set(project.explain("g.big_6h", user="u2", at=at).reasons)
    exact = project.read("pays").pl().filter(pl.col("user") == "u2")["t"][0]
    seen |= set(project.explain("g.big_6h", user="u2", at=exact).reasons)
    seen |= set(project.explain("g.nx_6h", user="u2", at=START + timedelta(hours=8)).reasons)
    assert seen == {reason.value for reason in Reason} - {Reason.SUPERSEDED.value}
    rows = project.explain("last3.s_last3", user="u2", at="2026-01-01T12:00Z").reasons
    assert rows["counted"] <= 3 and Reason.EXPIRED.value in rows


def test_knowledge_can_be_cut_elsewhere(project: Project) -> None:
    at, later = START + timedelta(hours=6), START + timedelta(hours=12)
    before = project.explain("g.n_6h", user="u1", at=at)
    after = project.explain("g.n_6h", user="u1", at=at, known=later)
    assert before.reasons["known later"] and "known later" not in after.reasons
    assert after.value == before.value + before.reasons["known later"]


def test_answers_from_the_log_are_those_from_the_file(root: Path, project: Project, tmp_path: Path) -> None:
    for name in ("definitions.py", "pays.ndjson"):
        (tmp_path / name).write_text((root / name).read_text())
    with Deployment(tmp_path) as d:
        list(d.replay(["pays"]).steps())
    with Project(tmp_path) as loaded:
        for at in ("2026-01-01T05:00Z", "2026-01-01T18:30Z"):
            assert loaded.features("g", at=at).arrow().equals(project.features("g", at=at).arrow())


def test_what_is_shown_is_escaped(tmp_path: Path) -> None:
    text = """
import penstock as ps
s = ps.stream("s", ps.files("s.ndjson"), time="t", schema={"t": "instant", "<b>": "text?"})
"""
    (tmp_path / "definitions.py").write_text(text)
    (tmp_path / "s.ndjson").write_text('{"t": "2026-01-01T00:00:00Z", "<b>": "<script>alert(1)</script>"}\n')
    p = ps.open(tmp_path)
    html = p.read("s")._repr_html_() + p._repr_html_()
    assert "<script>" not in html and "<b>&lt;b&gt;" not in html and "&lt;script&gt;" in html


def test_html_names_types_and_lineage(project: Project) -> None:
    html = project.features("g", at="2026-01-01T12:00Z")._repr_html_()
    assert "m_6h" in html and "float?" in html and "from pays.user, pays.x" in html
    whole = project._repr_html_()
    assert "twice" in whole and "from pays.x" in whole
    why = project.explain("g.m_6h", user="u1", at="2026-01-01T12:00Z")
    assert "window from" in why._repr_html_() and "+ 2026" in repr(why)
    assert "rows" in repr(project.read("pays")) and "g" in repr(project)


def test_what_cannot_be_asked_is_told(project: Project, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="did you mean last3"):
        project.features("last", at="2026-01-01T12:00Z")
    with pytest.raises(EngineError, match="did you mean user"):
        project.explain("g.n_1h", usr="u1", at="2026-01-01T12:00Z")
    with pytest.raises(EngineError, match="did you mean"):
        project.explain("g.n_1hr", user="u1", at="2026-01-01T12:00Z")
    with pytest.raises(EngineError, match="one column"):
        project.explain(project["g"]["n_1h", "n_6h"], user="u1", at="2026-01-01T12:00Z")
    with pytest.raises(DoorError, match="an instant"):
        project.features("g", user="u1").arrow()
    with pytest.raises(DoorError, match="with a zone"):
        read_instant_us("2026-01-01T12:00")
    with pytest.raises(NotBuiltError):
        ps.open("https://host/growth")
    with pytest.raises(DefinitionError, match="penstock new"):
        ps.open(tmp_path)


def test_a_stream_without_events_is_told(tmp_path: Path) -> None:
    (tmp_path / "definitions.py").write_text(
        "import penstock as ps\n"
        "s = ps.stream('s', time='t', schema={'t': 'instant', 'k': 'int'})\n"
        "g = s.by('k').over('1h').features('g', n=ps.count())\n"
    )
    with pytest.raises(DoorError, match="no events of it yet"):
        ps.open(tmp_path).features("g", at="2026-01-01T12:00Z").arrow()


def test_arrow_stays_arrow(project: Project) -> None:
    assert isinstance(project.read("pays").arrow(), pa.Table)
    assert project.read("pays", known="2026-01-01T02:00Z").arrow().num_rows < len(project.read("pays"))
