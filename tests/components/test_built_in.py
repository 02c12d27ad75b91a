from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.components.artifacts import local_path
from penstock.components.contract import Artifact
from penstock.components.http import Http
from penstock.components.python import Python
from penstock.components.shell import Shell
from penstock.components.sql import Sql
from penstock.doors.deployment import Deployment
from penstock.errors import WorkflowError
from penstock.testing.components import LoneContext


def test_shell_tells_its_command_about_the_run_and_takes_its_outputs(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("from before")
    source = Artifact(kind="file", uri=(tmp_path / "in.txt").as_uri())
    context = LoneContext(tmp_path, inputs={"the file": source, "n": 3}, interval=(0, 60_000_000))
    command = (
        'cat "$PENSTOCK_INPUT_THE_FILE" > "$PENSTOCK_OUTPUT/copy"; '
        'echo "$PENSTOCK_RUN $PENSTOCK_END_US $PENSTOCK_INPUT_N $COLOUR" > "$PENSTOCK_LINE"'
    )
    made = context.do(Shell, command=command, variables={"COLOUR": "red"})
    assert made["line"] == "run 60000000 3 red"
    assert (local_path(made["files"]) / "copy").read_text() == "from before"


def test_shell_fails_as_its_command_does(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match="code 7"):
        LoneContext(tmp_path).do(Shell, command="exit 7")
    LoneContext(tmp_path).do(Shell, command="exit 7", codes=[7])
    with pytest.raises(WorkflowError, match="signal SIGKILL"):
        LoneContext(tmp_path).do(Shell, command="kill -9 $$")
    with pytest.raises(WorkflowError, match="can be run"):
        LoneContext(tmp_path).do(Shell, command="/no/such/program", shell=False)


def test_python_gives_what_the_function_names(tmp_path: Path) -> None:
    module = tmp_path / "given_functions.py"
    module.write_text(
        "class Steps:\n    @staticmethod\n    def double(n):\n        return 2 * n\n"
        "def told(context, n, extra=0):\n    context.fact('rows', n)\n    return [n, extra, context.node]\n"
        "def everything(**given):\n    return sorted(given)\n"
        "def strange():\n    return object()\nvalue = 3\n"
    )
    context = LoneContext(tmp_path, inputs={"n": 4})
    assert context.do(Python, call="given_functions:Steps.double")["result"] == 8
    assert context.do(Python, call="given_functions:told", arguments={"extra": 1})["result"] == [4, 1, "node"]
    assert context.facts == {("", "rows"): 4}
    assert context.do(Python, call="given_functions:everything", arguments={"a": 1})["result"] == ["a", "n"]
    lone = LoneContext(tmp_path)
    with pytest.raises(WorkflowError, match=r"takes 'm'.*\n.*valid names: n"):
        lone.do(Python, call="given_functions:Steps.double", arguments={"m": 1})
    with pytest.raises(WorkflowError, match="did you mean told"):
        lone.do(Python, call="given_functions:tol")
    with pytest.raises(WorkflowError, match="int"):
        lone.do(Python, call="given_functions:value")
    with pytest.raises(WorkflowError, match="JSON value"):
        lone.do(Python, call="given_functions:strange")


def test_sql_reads_files_inputs_and_values(tmp_path: Path) -> None:
    pq.write_table(pa.table({"k": [1, 2, 3]}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("k,name\n1,one\n3,three\n")
    before = Artifact(kind="file", uri=(tmp_path / "a.parquet").as_uri())
    context = LoneContext(tmp_path, inputs={"a": before, "least": 2})
    query = "SELECT b.name, a.k FROM a JOIN b USING (k) WHERE k >= $least"
    made = context.do(Sql, query=query, files={"b": "b.csv"})
    assert pq.read_table(local_path(made["rows"])).to_pylist() == [{"name": "three", "k": 3}]
    assert made["count"] == 1
    with pytest.raises(WorkflowError, match="DuckDB"):
        context.do(Sql, query="SELECT nonsense FROM nowhere")


def test_sql_adds_to_a_lake_table_once_for_a_node_run(tmp_path: Path) -> None:
    def add(key: str, n: int) -> Any:
        context = LoneContext(tmp_path, key=key)
        return context.do(Sql, query="SELECT $n AS n, $n * 2 AS m", values={"n": n}, table="numbers")["rows"]

    first, repeated, second = add("r1/n", 1), add("r1/n", 1), add("r2/n", 2)
    assert first.version == repeated.version != second.version
    made = LoneContext(tmp_path).do(Sql, query="SELECT list(n ORDER BY n) AS n FROM numbers")
    assert pq.read_table(local_path(made["rows"])).to_pylist() == [{"n": [1, 2]}]
    old = LoneContext(tmp_path, inputs={"numbers": first}).do(Sql, query="SELECT count(*) AS c FROM numbers")
    assert pq.read_table(local_path(old["rows"])).to_pylist() == [{"c": 1}]
    merged = LoneContext(tmp_path).do(Sql, query="SELECT 1 AS n, 7 AS m", table="numbers", merge=["n"])["rows"]
    with Deployment(tmp_path) as deployment:
        (full,) = deployment.lake.tables()
        rows = deployment.lake.read(full).read_all().sort_by("n").to_pylist()
    assert rows == [{"n": 1, "m": 7}, {"n": 2, "m": 4}]
    assert merged.kind == "table"


class _Answers(BaseHTTPRequestHandler):
    seen: ClassVar[list[tuple[str, str, dict[str, str], bytes]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.command, self.path, dict(self.headers), self._body()))
        status = int(self.path.rpartition("/")[2]) if self.path[-3:].isdigit() else 200
        body = b"x" * 300_000 if self.path == "/big" else json.dumps({"path": self.path}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    _Answers.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_http_sends_and_takes_the_answer(tmp_path: Path, web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_SECRET_WEB_TOKEN", "t0k3n")
    context = LoneContext(tmp_path)
    made = context.do(Http, url=f"{web}/a", method="POST", body={"n": 1}, secrets={"Authorization": "web-token"})
    assert made == {"status": 200, "body": {"path": "/a"}}
    method, path, headers, body = _Answers.seen[0]
    assert (method, path, json.loads(body)) == ("POST", "/a", {"n": 1})
    assert (headers["Idempotency-Key"], headers["Authorization"]) == ("run/node", "t0k3n")
    assert context.hidden == ["t0k3n"]
    big = LoneContext(tmp_path).do(Http, url=f"{web}/big")
    assert local_path(big["file"]).stat().st_size == 300_000


def test_http_fails_with_what_was_answered(tmp_path: Path, web: str) -> None:
    with pytest.raises(WorkflowError, match=r"503: .*path"):
        LoneContext(tmp_path).do(Http, url=f"{web}/503")
    assert LoneContext(tmp_path).do(Http, url=f"{web}/404", codes=[404])["status"] == 404
    with pytest.raises(WorkflowError, match="network"):
        LoneContext(tmp_path).do(Http, url="http://127.0.0.1:1/")
    with pytest.raises(WorkflowError, match="address of the web"):
        LoneContext(tmp_path).do(Http, url="{{file:///etc/passwd")
