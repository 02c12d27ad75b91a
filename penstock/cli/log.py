"""`penstock log`: topics, appends, tails, loads."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import AsJson, Project
from penstock.cli.output import Output
from penstock.errors import DoorError

if TYPE_CHECKING:
    from penstock.doors.deployment import Deployment

__all__ = ["app"]

app = typer.Typer(help="Topics: what happened, in the order in which it became known.", no_args_is_help=True)


@app.command()
def topics(project: Project = Path(), as_json: AsJson = False) -> None:
    """List topics with what they have taken."""
    from penstock.doors.deployment import Deployment
    from penstock.doors.shown import instant_text
    from penstock.names import Name

    out = Output(as_json=as_json)
    with Deployment(project) as deployment:
        _require_log(deployment)
        rows = []
        for full in deployment.log.topics():
            topic = deployment.log.topic(full)
            counts, end = topic.counts(), topic.end()
            known = max(topic.frontier(end), default=0)
            rows.append(
                {
                    "topic": Name.parse(full).name,
                    "name": full,
                    "rows": counts.accepted,
                    "duplicates": counts.duplicates,
                    "dead": counts.dead,
                    "clock": topic.config.clock,
                    "partitions": topic.config.partitions,
                    "known until": instant_text(known) if counts.accepted or topic.config.clock == "live" else None,
                }
            )
    out.rows(rows, ("topic", "rows", "duplicates", "dead", "clock", "partitions", "known until"))


@app.command()
def tail(
    topic: Annotated[str, typer.Argument(help="A stream or table, or a topic's full name.")],
    *,
    n: Annotated[int, typer.Option("--rows", "-n", help="How many of the last rows.", min=0)] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for new ones.")] = False,
    dead: Annotated[bool, typer.Option("--dead", help="Rows refused by the log instead, with the reason.")] = False,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Show the last rows of a topic, and those that come."""
    from penstock.doors.deployment import Deployment
    from penstock.doors.shown import shown_rows

    out = Output(as_json=as_json)
    with Deployment(project) as deployment:
        _require_log(deployment)
        found = deployment.stored_topic(topic)
        if dead:
            total = found.counts().dead
            letters = found.dead_letters(max(0, total - n), n)
            out.stream({"reason": letter.reason, **letter.row} for letter in letters)
            return
        end = found.end()
        for partition, stop in enumerate(end.offsets):
            at = max(found.start().offsets[partition], stop - n)
            while at < stop:
                batch = found.read(partition, at, max_rows=stop - at)
                out.stream(shown_rows(batch.rows, as_json=as_json))
                at = batch.next_offset
        if follow:
            for batch in found.tail(end):
                out.stream(shown_rows(batch.rows, as_json=as_json))


@app.command()
def append(
    topic: Annotated[str, typer.Argument(help="A stream or table that takes events.")],
    file: Annotated[str, typer.Argument(help="CSV, NDJSON or Parquet; - for NDJSON from stdin.")],
    producer: Annotated[
        str | None, typer.Option(help="With it, rows that were appended are not appended again.")
    ] = None,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Append rows of a file to a topic."""
    from penstock.doors.append import append_file, append_lines
    from penstock.doors.deployment import Deployment

    out = Output(as_json=as_json)
    with Deployment(project) as deployment:
        if file == "-":
            results = append_lines(deployment, topic, sys.stdin.buffer, producer)
        else:
            results = append_file(deployment, topic, Path(file), producer)
        totals = {"accepted": 0, "duplicates": 0, "dead": 0, "repeated": 0}
        with out.progress(f"appending to {topic}") as step:
            for result in results:
                totals["repeated" if result.repeated else "accepted"] += result.accepted
                totals["duplicates"] += 0 if result.repeated else result.duplicates
                totals["dead"] += result.dead
                step(totals["accepted"], f"{totals['accepted']:,} rows")
    out.record(topic=topic, **totals)
    out.say(f"{topic}: " + ", ".join(f"{n:,} {what}" for what, n in totals.items() if n or what == "accepted"))
    if totals["dead"]:
        out.say(f"  rows that did not fit: penstock log tail {topic} --dead")


@app.command()
def load(
    streams: Annotated[
        list[str] | None, typer.Argument(help="Streams and tables; by default all that are read.")
    ] = None,
    speed: Annotated[float | None, typer.Option(help="Known time passes so many times as fast as the wall's.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what arrives.")] = False,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Bring what sources hold into their topics, in the order of known time, each row once."""
    from penstock.doors.deployment import Deployment
    from penstock.doors.topics import replayed

    out = Output(as_json=as_json)
    with Deployment(project) as deployment:
        sources = deployment.sources
        names = streams or [n for n, s in sources.items() if s.source.kind != "http"]
        files = [n for n in names if replayed(deployment.source(n))]
        growing = [n for n in names if n not in files]
        totals: dict[str, list[int]] = {name: [0, 0, 0] for name in names}
        with out.progress("loading") as step:
            for name, result in _loaded(deployment, files, growing, speed=speed, follow=follow):
                for i, count in enumerate((result.accepted, result.duplicates, result.dead)):
                    totals[name][i] += count
                done = sum(t[0] for t in totals.values())
                step(done, f"{done:,} rows")
                if follow and name in growing and result.accepted:
                    out.record(topic=name, accepted=result.accepted, known_time_us=result.known_time)
    rows = [{"topic": n, "rows": t[0], "duplicates": t[1], "dead": t[2]} for n, t in totals.items()]
    out.rows(rows, ("topic", "rows", "duplicates", "dead"))


def _loaded(
    deployment: Deployment, files: list[str], growing: list[str], *, speed: float | None, follow: bool
) -> Iterator[tuple[str, Any]]:
    if files:
        for step in deployment.replay(files, speed=speed).steps():
            yield from step.results.items()
    followers = {name: deployment.follower(name) for name in growing}
    try:
        for round_ in itertools.count():
            for name, follower in followers.items():
                if round_ and follow:
                    follower.stopped.wait(1.0 / len(followers))
                for result in follower.poll():
                    yield name, result
            if not follow or not followers:
                return
    finally:
        for follower in followers.values():
            follower.close()


def _require_log(deployment: Deployment) -> None:
    if not deployment.has_log:
        raise DoorError(
            f"{deployment.root} has a log",
            found="none yet",
            remedy="`penstock log load`, `penstock log append` or `penstock ingest` makes it",
        )
