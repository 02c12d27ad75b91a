"""Milliseconds to plan 200 groups of 5 aggregates over 20 streams, text of `penstock plan` included.

Each run is a fresh process with compiled bytecode: what it takes to import, to read the definitions, to plan them and
to write the text, and what Python itself takes to start. The peer does a part of that work: SQLGlot parses and types
the same 1,000 expressions against the same schemas. Run: python -m bench.plan [--runs 7]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from bench.report import Peer, last_line

STREAMS, GROUPS = 20, 200
SCHEMA = '{"at": "instant", "k": "int", "a": "decimal(12,2)", "b": "float?", "c": "int?", "ok": "bool?"}'
GROUP = (
    '.over("1h", "1d", "7d").features("g{i}", n=ps.count(), x=ps.sum("a * {i}"), '
    'y=ps.mean("b + {i}").where("ok and c > {i}"), z=ps.max("coalesce(c, 0) + {i}"), w=ps.share("a > {i} and not ok"))'
)
OURS = """
import json, sys, time
begin = time.perf_counter()
from penstock.define import load
from penstock.plan import plan
from penstock.plan.describe import render
imported = time.perf_counter()
definitions = load(sys.argv[1])
loaded = time.perf_counter()
found = plan(definitions)
planned = time.perf_counter()
text = render(found)
end = time.perf_counter()
assert len(found.groups) == 200 and text.count("group of") == 200
marks = [begin, imported, loaded, planned, end]
print(json.dumps([round((b - a) * 1000, 1) for a, b in zip(marks, marks[1:])]))
"""
PEER = """
import json, sys, time
begin = time.perf_counter()
from sqlglot import parse_one
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify_columns import qualify_columns
from sqlglot.schema import MappingSchema
imported = time.perf_counter()
columns = {"at": "TIMESTAMPTZ", "k": "BIGINT", "a": "DECIMAL(12,2)", "b": "DOUBLE", "c": "BIGINT", "ok": "BOOLEAN"}
schema, typed = MappingSchema({"s": columns}, dialect="duckdb"), 0
for i in range(200):
    for text in (f"a * {i}", f"b + {i}", f"ok and c > {i}", f"coalesce(c, 0) + {i}", f"a > {i} and not ok"):
        select = qualify_columns(parse_one(f"SELECT {text} AS x FROM s", dialect="duckdb"), schema=schema)
        typed += annotate_types(select, schema=schema).selects[0].type is not None
end = time.perf_counter()
assert typed == 1000
print(json.dumps([round((b - a) * 1000, 1) for a, b in ((begin, imported), (imported, end))]))
"""


def project(folder: Path) -> None:
    """Writes the definitions."""
    lines = ["import penstock as ps", f"schema = {SCHEMA}"]
    lines += [f's{i} = ps.stream("s{i}", time="at", schema=schema)' for i in range(STREAMS)]
    lines += [f's{i % STREAMS}.by("k"){GROUP.format(i=i)}' for i in range(GROUPS)]
    lines[2 + STREAMS :] = [f"g{i} = {line}" for i, line in enumerate(lines[2 + STREAMS :])]
    (folder / "definitions.py").write_text("\n".join(lines) + "\n")


def measured(program: str, *args: str, runs: int) -> list[float]:
    """The median milliseconds of each step, after a run that compiles the bytecode."""
    found = []
    for _ in range(runs + 1):
        command = [sys.executable, "-c", program, *args]
        found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return [round(statistics.median(step), 1) for step in zip(*found[1:], strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        project(Path(folder))
        imported, loaded, planned, rendered = measured(OURS, folder, runs=runs)
    peer_imported, typed = measured(PEER, runs=runs)
    ours = {"import": imported, "load": loaded, "plan": planned, "text": rendered}
    print("penstock", ours, "all", round(sum(ours.values()), 1))
    print("sqlglot ", {"import": peer_imported, "parse and type": typed})
    all_ms = round(sum(ours.values()), 1)
    peer = Peer(version("sqlglot"), typed, note="parses and types the expressions only")
    mode = "fresh process, median ms for 200 groups of 5 aggregates, no data touched; ratio without imports"
    figure = round(planned + rendered, 1)
    last_line("plan", figure, "ms", {**ours, "all": all_ms}, {"sqlglot": peer}, mode=mode, more_is_better=False)


if __name__ == "__main__":
    main()
