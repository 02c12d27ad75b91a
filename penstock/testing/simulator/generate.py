"""What a seed makes: workflows, how often what fails, and what users and programs outside do when."""

from __future__ import annotations

from random import Random
from typing import Any, Final

import msgspec

from penstock.workflows.core.requests import (
    Apply,
    FactGiven,
    KillRun,
    Pause,
    Rerun,
    Resume,
    SetPool,
    SetStream,
    SignalGiven,
    StartRun,
)
from penstock.workflows.spec.model import WorkflowSpec

__all__ = ["Faults", "Plan", "generate"]

STORM_US: Final = 12_000_000
_OUTSIDE: Final = (("items", "snapshot"), ("ticks", "offset"), ("orders", "offset"))


class Faults(msgspec.Struct, frozen=True):
    """How often what fails while the storm lasts: chances, but `..._us`, mean times between."""

    drop: float
    double: float
    late: float
    die_at_commit: float
    die_at_send: float
    refuse_commit: float
    fail_task: float
    hang_task: float
    long_task: float
    server_us: int
    worker_us: int
    stream_us: int
    line_us: int
    deaf_us: int
    step_us: int


class Plan(msgspec.Struct, frozen=True):
    """A world to be."""

    seed: int
    faults: Faults
    workers: dict[str, int]
    specs: list[WorkflowSpec]
    script: list[tuple[int, Any]]
    """What is asked of the scheduler in the storm, by time; then, in the calm, `last`."""
    last: list[Any]
    facts: dict[tuple[str, str], int]
    """The last position told of each outside fact."""
    wander: bool
    """A task that is sent again may go to another worker."""


def generate(seed: int) -> Plan:
    """Draws a world; the same seed gives the same."""
    rng = Random(seed)  # noqa: S311  a world is decided by its seed
    specs = [_batch(rng, "a")]
    if rng.random() < 0.4:
        specs.append(_batch(rng, "b"))
    if rng.random() < 0.6:
        specs.append(_streams(rng))
    script, last, facts = _script(rng, specs)
    workers = {f"w{n}": rng.choice((1, 2, 3)) for n in range(rng.choice((1, 1, 2, 3)))}
    return Plan(seed, _faults(rng), workers, specs, script, last, facts, rng.random() < 0.4)


def _faults(rng: Random) -> Faults:
    def chance(most: float) -> float:
        return 0.0 if rng.random() < 0.4 else rng.random() * most

    def mean_us(least: int) -> int:
        return 0 if rng.random() < 0.5 else int(least * (1 + 3 * rng.random()))

    return Faults(
        drop=chance(0.25), double=chance(0.25), late=chance(0.3), die_at_commit=chance(0.06),
        die_at_send=chance(0.03), refuse_commit=chance(0.05), fail_task=chance(0.5), hang_task=chance(0.2),
        long_task=chance(0.4), server_us=mean_us(3_000_000), worker_us=mean_us(3_000_000),
        stream_us=mean_us(3_000_000), line_us=mean_us(3_000_000), deaf_us=mean_us(4_000_000),
        step_us=mean_us(5_000_000),
    )  # fmt: skip


def _overlap(rng: Random, *, keyed: bool) -> dict[str, Any]:
    ways = ("parallel", "queue", "queue", "priority", "skip_new", "replace_running", "keep_newest")
    return {"how": rng.choice(ways), "limit": rng.choice((1, 1, 2, 3)), "key": "part" if keyed else None}


def _consume(rng: Random) -> dict[str, Any]:
    how = rng.choice(("each", "each", "coalesce", "latest", "window"))
    if how == "window":
        return {"how": how, "count": rng.choice((2, 3)), "deadline": "2s"}
    return {"how": how}


def _nodes(rng: Random, waits: list[str]) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = []
    for number in range(rng.choice((1, 2, 3, 4))):
        edges = [
            {"action": "start", "when": f'status({other["name"]}) == "done"'}
            for other in nodes if rng.random() < 0.6
        ]  # fmt: skip
        if waits and rng.random() < 0.25:
            edges.append({"action": "start", "when": rng.choice(waits)})
        node = {
            "name": f"n{number}", "kind": "batch", "component": "nothing", "edges": edges,
            "pool": rng.choice(("default", "narrow")),
            "on_failure": "continue" if rng.random() < 0.2 else "fail",
            "retry": {"times": rng.choice((0, 0, 1, 2)), "wait": rng.choice(("0s", "200ms", "1s"))},
            "timeout": "3s" if rng.random() < 0.5 else None,
            "deadline": "1s" if rng.random() < 0.2 else None,
            "priority": rng.choice((0, 0, 5)),
        }  # fmt: skip
        nodes.append(node)
    return nodes


def _batch(rng: Random, name: str) -> WorkflowSpec:
    keyed = rng.random() < 0.4
    triggers = []
    if rng.random() < 0.7:
        triggers.append({"name": "new", "on": "snapshot(items)", "consume": _consume(rng)})
    if rng.random() < 0.3:
        triggers.append({"name": "passed", "on": "offset(orders) >= 3", "consume": _consume(rng)})
    waits = ["offset(ticks) >= 3", "signal(go)", "offset(orders) >= 2"]
    if name == "b":
        fact = rng.choice(("snapshot(a.n0)", "done(a.n0)", "snapshot(a.n0)"))
        triggers.append({"name": "after", "on": fact, "consume": _consume(rng) | {"redone": rng.random() < 0.5}})
    schedule = None
    if rng.random() < 0.5:
        schedule = {"every": rng.choice(("1s", "3s"))}
    return WorkflowSpec.model_validate({
        "name": name, "nodes": _nodes(rng, waits), "triggers": triggers, "schedule": schedule,
        "overlap": _overlap(rng, keyed=keyed), "failure": rng.choice(("finish", "stop")),
        "timeout": "6s" if rng.random() < 0.2 else None,
        "parameters": [{"name": "part", "type": "integer", "default": 0}] if keyed else [],
    })  # fmt: skip


def _streams(rng: Random) -> WorkflowSpec:
    actions = [
        {"action": "reload", "when": "snapshot(items)"},
        {"action": "reload", "when": "snapshot(fit)"},
        {"action": "restart", "when": "offset(orders) >= 3"},
        {"action": "gate", "when": "offset(ticks) >= 1"},
        {"action": "start", "when": "offset(orders) >= 1"},
        {"action": "restart", "when": 'status(fit) == "failed"'},
        {"action": "stop", "when": "offset(ticks) >= 5"},
    ]
    edges = rng.sample(actions, rng.choice((1, 1, 2, 3)))
    fit = {
        "name": "fit", "kind": "batch", "component": "nothing",
        "edges": [{"action": "start", "when": "offset(feed) >= 2"}] if rng.random() < 0.5 else [],
    }  # fmt: skip
    schedule = {"every": "2s", "by": "watermark(feed)"} if rng.random() < 0.5 else None
    triggers = [{"name": "rows", "on": "offset(feed)", "consume": _consume(rng)}] if rng.random() < 0.4 else []
    return WorkflowSpec.model_validate({
        "name": "s", "schedule": schedule, "triggers": triggers, "overlap": _overlap(rng, keyed=False),
        "nodes": [{"name": "feed", "kind": "stream", "component": "nothing", "edges": edges}, fit],
    })  # fmt: skip


def _apply(spec: WorkflowSpec, number: int) -> Apply:
    text = spec.model_dump_json()
    return Apply(spec.name, text, f"{spec.name}/{number}", "user", "simulated")


def _script(
    rng: Random, specs: list[WorkflowSpec]
) -> tuple[list[tuple[int, Any]], list[Any], dict[tuple[str, str], int]]:
    script: list[tuple[int, Any]] = [(n, _apply(spec, 0)) for n, spec in enumerate(specs)]
    last: list[Any] = []
    position = dict.fromkeys(_OUTSIDE, 0)
    runs: list[str] = []
    for number in range(rng.randrange(4, 22)):
        at_us = rng.randrange(200_000, STORM_US)
        spec = rng.choice(specs)
        kind = rng.random()
        if kind < 0.4:
            fact = rng.choice(_OUTSIDE)
            position[fact] += 1
            script.append((at_us, fact))
            continue
        message: Any
        if kind < 0.6 or not runs:
            keyed = {"part": rng.randrange(3)} if spec.parameters else {}
            message = StartRun(f"r{number}", spec.name, keyed, priority=rng.choice((None, 3)))
            runs.append(message.run)
        elif kind < 0.68:
            message = KillRun(rng.choice(runs), "user")
        elif kind < 0.78:
            message = Rerun(
                f"r{number}", rng.choice(runs), how=rng.choice(("same", "newest")), only_failed=rng.random() < 0.5,
                from_node="n0" if rng.random() < 0.2 else "",
            )  # fmt: skip
            runs.append(message.run)
        elif kind < 0.84:
            message = rng.choice((Pause, Resume))(spec.name)
        elif kind < 0.88:
            message = SetPool("narrow", rng.choice((1, 1, 2, None)))
        elif kind < 0.92:
            message = SignalGiven("go", id=f"signal{number}")
        elif kind < 0.98 and specs[-1].name == "s":
            message = SetStream("s.feed", rng.choice(("start", "stop", "restart", "reload", "reload", "reload")))
        else:
            message = _apply(_changed(rng, spec), number + 1)
        script.append((at_us, message))
        if rng.random() < 0.15:
            script.append((at_us + rng.randrange(2_000_000), message))
    script.sort(key=lambda item: item[0])
    for number, spec in enumerate(specs):
        last += [_apply(spec.model_copy(update={"schedule": None}), 1000 + number), Resume(spec.name)]
        if spec.name == "s" and rng.random() < 0.3:
            last.append(SetStream("s.feed", rng.choice(("restart", "start", "reload"))))
    last += [SetPool("narrow", 1), SignalGiven("go", id="last")]
    return _positions(script), last, {fact: max(at, 6) for fact, at in position.items()}


def _changed(rng: Random, spec: WorkflowSpec) -> WorkflowSpec:
    """Another version: other retries and priority; triggers and overlap stay, so that the ledger knows them."""
    nodes = tuple(
        node.model_copy(update={"parameters": {"v": rng.randrange(9)}, "priority": rng.randrange(5)})
        for node in spec.nodes
    )
    return spec.model_copy(update={"nodes": nodes})


def _positions(script: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
    """Gives what is told of facts its positions, in the order of time."""
    position = dict.fromkeys(_OUTSIDE, 0)
    made: list[tuple[int, Any]] = []
    for at_us, item in script:
        if isinstance(item, tuple):
            position[item] += 1
            made.append((at_us, FactGiven(item[0], item[1], position[item], position=position[item])))
        else:
            made.append((at_us, item))
    return made
