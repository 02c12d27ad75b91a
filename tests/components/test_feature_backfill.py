from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

import penstock as ps
from penstock.components.artifacts import local_path
from penstock.components.contract import Artifact
from penstock.components.feature_backfill import FeatureBackfill
from penstock.errors import WorkflowError
from penstock.testing.components import LoneContext

DEFINITIONS = """
import penstock as ps

types = {"user": "text", "t": "instant", "x": "float"}
pays = ps.stream("pays", ps.files("pays.parquet"), time="t", known="t", schema=types)
user = ps.entity("user")
g = pays.by(user).over("6h").features("g", n=ps.count())
v = ps.view("v", pays["user"], g["n_6h"])
"""
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR_US = 3_600_000_000


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    times = [START + timedelta(minutes=10 * i) for i in range(60)]
    table = pa.table({"user": [f"u{i % 3}" for i in range(60)], "t": times, "x": [float(i) for i in range(60)]})
    pq.write_table(table, tmp_path / "pays.parquet")
    return tmp_path


def test_every_key_at_the_end_of_the_interval(project: Path, tmp_path: Path) -> None:
    end_us = int(START.timestamp()) * 1_000_000 + 8 * HOUR_US
    context = LoneContext(tmp_path / "c", project=project, interval=(end_us - HOUR_US, end_us))
    made = context.do(FeatureBackfill, group="g")
    found = pq.read_table(local_path(made["rows"])).sort_by("user")
    expected = ps.open(project).features("g", at=end_us).arrow().sort_by("user")
    assert found.select(expected.column_names).to_pylist() == expected.to_pylist()
    assert made["count"] == context.facts["", "rows"] == 3


def test_queries_come_from_an_input_and_go_to_the_lake_once(project: Path, tmp_path: Path) -> None:
    queries = pa.table({"user": ["u0", "u2"], "q": [START + timedelta(hours=5)] * 2})
    pq.write_table(queries, tmp_path / "queries.parquet")
    given = Artifact(kind="file", uri=(tmp_path / "queries.parquet").as_uri())
    versions = []
    for attempt in range(2):
        context = LoneContext(tmp_path / f"c{attempt}", project=project, inputs={"queries": given})
        made = context.do(FeatureBackfill, group="g", table="asked")
        versions.append(made["rows"].version)
    assert versions[0] == versions[1]
    assert made["count"] == 2


def test_what_does_not_fit_is_refused(project: Path, tmp_path: Path) -> None:
    context = LoneContext(tmp_path / "c", project=project)
    with pytest.raises(ValidationError, match="either group or view"):
        context.do(FeatureBackfill)
    with pytest.raises(WorkflowError, match="queries for a view"):
        context.do(FeatureBackfill, view="v")
