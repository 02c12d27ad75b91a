"""`penstock features`: backfill, get, explain, live, replay-check."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import AsJson, Project
from penstock.cli.output import Output
from penstock.errors import DoorError

if TYPE_CHECKING:
    from penstock.engine.history import Progress

__all__ = ["app"]

app = typer.Typer(help="Features: over history, live, and for one request.", no_args_is_help=True)

What = Annotated[str, typer.Argument(help="A group or a view.")]
At = Annotated[str | None, typer.Option(help="The instant that cuts event time: 2013-03-01T12:00Z.")]
Known = Annotated[str | None, typer.Option(help="The instant that cuts knowledge; --at by default.")]
Keys = Annotated[list[str] | None, typer.Argument(help="The key, as in tailnum=N14228.", metavar="NAME=VALUE...")]


@app.command()
def backfill(
    what: What,
    out: Annotated[Path, typer.Option("--out", "-o", help="The Parquet file to write; whole or not at all.")],
    *,
    queries: Annotated[
        Path | None, typer.Option(help="Parquet with keys (of a view: its inputs) and the instants.")
    ] = None,
    at: At = None,
    q: Annotated[str, typer.Option(help="The queries' column that cuts event time.")] = "q",
    a: Annotated[str | None, typer.Option(help="The queries' column that cuts knowledge; q by default.")] = None,
    memory: Annotated[int | None, typer.Option(help="MiB that a run may take; above it rows spill.", min=64)] = None,
    threads: Annotated[int, typer.Option(help="Cores.", min=1)] = 1,
    work: Annotated[Path | None, typer.Option(help="A folder in which a killed run goes on.")] = None,
    statuses: Annotated[bool, typer.Option("--statuses", help="Also why a value is null.")] = False,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Compute features point in time for a table of queries, or for every key at an instant."""
    from penstock.doors.deployment import Deployment
    from penstock.doors.project import read_instant_us
    from penstock.doors.rows import resolver_for
    from penstock.engine.history import History

    output = Output(as_json=as_json)
    if (queries is None) == (at is None):
        raise DoorError("either --queries or --at", found="both" if at else "neither", remedy="say one of them")
    if queries is not None and not queries.exists():
        raise DoorError("a file of queries", found="none", remedy="write one with keys and q", where=str(queries))
    with Deployment(project) as deployment, output.progress(f"backfill of {what}", 1000) as step:
        history = History(
            deployment.plan,
            resolver_for(deployment),
            clock=deployment.clock,
            memory_bytes=None if memory is None else memory << 20,
            work=work,
            threads=threads,
            progress=_told(step),
        )
        _known_name(deployment.plan, what)
        if at is not None:
            found = history.all_keys(what, read_instant_us(at))
        else:
            assert queries is not None
            ask = history.group if what in deployment.plan.groups else history.view
            found = ask(what, queries, q=q, a=a)
        rows = found.write_parquet(out, statuses=statuses)
    output.say(f"{rows:,} rows in {out}")
    output.record(feature=what, rows=rows, path=str(out))


def _told(step: Callable[[int, str], None]) -> Callable[[Progress], None]:
    def told(progress: Progress) -> None:
        left = "" if progress.eta_s is None else f", {progress.eta_s:.0f} s left"
        step(int(progress.fraction * 1000), f"{progress.stage}: {progress.rows:,} rows{left}")

    return told


@app.command()
def get(
    what: What,
    keys: Keys = None,
    *,
    at: At = None,
    known: Known = None,
    limit: Annotated[int, typer.Option(help="Rows shown on a terminal; --json gives all.", min=1)] = 50,
    log: Annotated[bool, typer.Option("--log", help="Keep what live state says, for `replay-check`.")] = False,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Features of one key at one instant; of a group without a key, those of every key.

    Without --at they are read from the state of the live job, if one was started, else computed from history.
    """
    from penstock.doors.project import Project as Opened
    from penstock.doors.shown import instant_text, shown_rows

    output = Output(as_json=as_json)
    with Opened(project) as opened:
        _known_name(opened.plan, what)
        values = _values(opened, what, keys or [])
        if at is None and known is None and keys and opened.is_live:
            _show_now(output, opened.now(what, logged=log, **values))
            return
        if log:
            raise DoorError(
                "reads of live state are logged",
                found="an answer of history",
                remedy="leave out --log, or --at, and start `penstock features live`",
            )
        instant = at if at is not None else instant_text(opened.now_us())
        assert instant is not None
        found = opened.features(what, at=instant, known=known, **values)
        table = found.arrow()
        rows = list(shown_rows(table if as_json else table.slice(0, limit), as_json=as_json))
        if as_json or len(rows) != 1:
            output.rows(rows, table.column_names)
            if table.num_rows > len(rows):
                output.say(f"... and {table.num_rows - limit:,} more; --limit shows more, --json all")
            return
        lines = [
            {"column": n, "value": "null" if v is None else v, "type": found.types.get(n, "")}
            for n, v in rows[0].items()
        ]
        output.rows(lines, ("column", "value", "type"), f"{what} at {instant}")


def _show_now(output: Output, found: Any) -> None:
    """The one answer of a live job, a line per column with its status."""
    from penstock.doors.shown import shown_rows

    (row,) = shown_rows(found.arrow(), as_json=output.as_json)
    if output.as_json:
        output.record(**row)
        return
    lines = [
        {
            "column": name,
            "value": "null" if value is None else value,
            "type": found.types.get(name, ""),
            "status": row.get(f"{name}:status", ""),
        }
        for name, value in row.items()
        if not name.endswith(":status")
    ]
    output.rows(lines, ("column", "value", "type", "status"), found.title)


@app.command()
def explain(
    column: Annotated[str, typer.Argument(help="A column of a group: by_tail.mean_12h.")],
    keys: Keys = None,
    *,
    at: Annotated[str, typer.Option(help="The instant that cuts event time: 2013-03-01T12:00Z.")],
    known: Known = None,
    limit: Annotated[int, typer.Option(help="Rows shown on a terminal.", min=1)] = 40,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """List the rows that count in a value, and those that do not, each with its reason."""
    from penstock.doors.project import Project as Opened
    from penstock.doors.shown import instant_text, shown_rows

    output = Output(as_json=as_json)
    with Opened(project) as opened:
        group = column.partition(".")[0]
        found = opened.explain(column, at=at, known=known, **_values(opened, group, keys or []))
    left, right = found.span_us
    output.record(
        column=found.column,
        key=dict(found.key),
        q=instant_text(found.q_us),
        a=instant_text(found.a_us),
        value=found.value,
        status=found.status,
        window=[instant_text(left), instant_text(right)],
        rows=found.reasons,
    )
    shown = found.rows if as_json else found.rows.slice(0, limit)
    output.say(repr(found).split("\n  +")[0].split("\n  -")[0].split("\n  ...")[0])
    rows = list(shown_rows(shown, as_json=True))
    if not as_json:
        rows = [{"": "+" if r.pop("counted") else "-"} | r for r in rows]
    output.rows(rows, list(rows[0]) if rows else [])
    if not as_json and found.rows.num_rows > limit:
        output.say(f"... and {found.rows.num_rows - limit:,} more; --limit shows more, --json all")


@app.command()
def live(
    emit: Annotated[
        list[str] | None, typer.Option(help="A join or group whose rows go to a topic of its name; may be repeated.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Stop when all that is in the log is applied.")] = False,
    memory_dir: Annotated[
        Path | None, typer.Option(help="Where the state's memory goes; by default shared memory.", file_okay=False)
    ] = None,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Run the groups live on the log until stopped; Ctrl-C makes a last checkpoint."""
    from penstock.doors.deployment import Deployment
    from penstock.doors.shown import instant_text

    output = Output(as_json=as_json)
    with Deployment(project) as deployment:
        job = deployment.live_job(emit or (), memory_dir=memory_dir)
        if job.metrics.replayed:
            output.say(f"went on after {job.metrics.recovery_s:.2f} s, {job.metrics.replayed:,} batches run again")
        with _until_told(job.stop), output.progress("live") as step:
            if once:
                while job.step():
                    step(job.metrics.rows_in, f"{job.metrics.rows_in:,} rows")
                job.checkpoint(wait=True)
                job.close()
            else:
                _run_reporting(job, output, step)
        metrics = job.metrics
    shown = {
        "rows in": metrics.rows_in,
        "rows out": metrics.rows_out,
        "from the lake": metrics.lake_rows,
        "batches": metrics.batches,
        "known until": instant_text(metrics.frontier_us) if metrics.rows_in else None,
        "state MB": round(metrics.state_bytes / 1e6, 1),
        "rows/s in batches": round(metrics.rows_in / metrics.batch_s) if metrics.batch_s else 0,
    }
    output.rows([shown], list(shown))


def _run_reporting(job: Any, output: Output, step: Callable[[int, str], None]) -> None:
    """Runs a job in this thread while another tells, each second, how it does."""
    import threading

    done = threading.Event()

    def report() -> None:
        told = -1
        while not done.wait(1.0):
            metrics = job.metrics
            step(metrics.rows_in, f"{metrics.rows_in:,} rows, {metrics.lag_rows:,} behind")
            if metrics.rows_in != told:
                told = metrics.rows_in
                output.record(
                    rows_in=told, rows_out=metrics.rows_out, lag_rows=metrics.lag_rows, frontier_us=metrics.frontier_us
                )

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        job.run()
    finally:
        done.set()
        reporter.join()


@contextmanager
def _until_told(stop: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `stop` meanwhile."""
    signals = (signal.SIGINT, signal.SIGTERM)
    former = [signal.signal(number, lambda *_: stop()) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, former, strict=True):
            signal.signal(number, handler)


@app.command("replay-check")
def replay_check(
    names: Annotated[list[str] | None, typer.Argument(help="Joins and groups put out live; by default all.")] = None,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Compare what live put out, and what was read online with --log, with what history says; exit code 1 when a value
    differs."""
    from penstock.doors.deployment import Deployment
    from penstock.doors.replay_check import check_reads
    from penstock.doors.replay_check import replay_check as compare
    from penstock.plan.ir import SourcePlan

    output = Output(as_json=as_json)
    with Deployment(project) as deployment:
        topics = set(deployment.log.topics()) if deployment.has_log else set()
        derived = {n: r for n, r in deployment.plan.relations.items() if not isinstance(r, SourcePlan)}
        asked = names or [n for n, r in derived.items() if str(r.name) in topics]  # type: ignore[union-attr]
        reads = None if names else check_reads(deployment)
        if not asked and reads is None:
            raise DoorError(
                "something was put out live, or read online",
                found="nothing",
                remedy="penstock features live --emit GROUP --once, or penstock features get GROUP KEY=... --log",
            )
        found = [compare(deployment, name) for name in asked]
    columns = ("name", "rows", "values", "missing", "extra", "different")
    if found:
        output.rows([{c: getattr(f, c) for c in columns} for f in found], columns)
    for comparison in found:
        for example in comparison.examples:
            output.stream([{"name": comparison.name} | example])
    if reads is not None:
        kept = ("reads", "values", "different", "other_version")
        output.rows([{c: getattr(reads, c) for c in kept}], kept, "logged reads")
        output.stream({"different": words} for words in reads.examples)
    if not all(f.ok for f in found) or (reads is not None and reads.different):
        raise typer.Exit(1)


def _known_name(plan: Any, what: str) -> None:
    from penstock.errors import nearest

    if what not in plan.groups and what not in plan.views:
        known = [*plan.groups, *plan.views]
        raise DoorError(f"{what!r} is a group or a view", found="none", remedy=nearest(what, known))


def _values(opened: Any, what: str, keys: list[str]) -> dict[str, Any]:
    """`name=value` arguments in the types of the key, or of the view's inputs."""
    from penstock.doors.project import read_values

    pairs = []
    for text in keys:
        name, equals, value = text.partition("=")
        if not equals:
            raise DoorError("a key is NAME=VALUE", found=repr(text), remedy="write tailnum=N14228")
        pairs.append((name, value))
    values: dict[str, Any] = read_values(opened.plan, what, pairs)
    return values
