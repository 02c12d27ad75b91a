"""What makes runs: the clock, new values of facts, conditions that come true. Every value is accounted for once."""

from __future__ import annotations

from itertools import islice
from typing import Any

import msgspec

from penstock.errors import WorkflowError
from penstock.store.meta.rows import ConsumptionRow, WorkflowRow
from penstock.workflows.core.graph import Graph, TriggerPlan
from penstock.workflows.core.lookup import lookup_outside
from penstock.workflows.core.runs import make_run, overlap_key, parameters_of, room_for
from penstock.workflows.core.turn import Turn, dumps, replace
from penstock.workflows.core.watching import Owner, watch
from penstock.workflows.spec.predicate import Scope
from penstock.workflows.spec.schedule import interval_at, next_firing

__all__ = [
    "arm_schedule",
    "arm_window",
    "await_triggers",
    "consume",
    "fire_schedule",
    "forget_triggers",
    "look_at_condition",
    "look_at_schedule",
]

SCHEDULE = "schedule"
UNSET = -(1 << 62)
"""The cursor of a schedule that goes by a fact which nobody has told yet."""


def arm_schedule(turn: Turn, workflow: WorkflowRow) -> None:
    """Sets the timer of a workflow's next firing."""
    schedule = turn.state.current(workflow.name).spec.schedule
    if schedule is None or workflow.state != "active":
        return
    fact = turn.state.current(workflow.name).time
    if fact is None:
        at = next_firing(schedule, workflow.cursor_us)
        if at is not None:
            turn.state.wake_at(at, "schedule", workflow.name, workflow.cursor_us)
        return
    owner, reached = ("schedule", workflow.name), turn.state.values.get((fact.kind, fact.subject))
    turn.watching.remove(owner)
    if workflow.cursor_us == UNSET:
        turn.watching.add(owner, (fact,))
        if reached is not None:
            turn.touched[owner] = None
    elif (at := next_firing(schedule, workflow.cursor_us)) is not None:
        if reached is not None and reached >= at:
            turn.state.wake_at(turn.now_us, "schedule", workflow.name, workflow.cursor_us)
        else:
            turn.watching.add(owner, (), (), [(fact, at)])


def look_at_schedule(turn: Turn, owner: Owner) -> None:
    """The fact by which a schedule goes has moved: it fires, or begins where the fact stands first."""
    row = turn.state.workflows.get(owner[1])
    if row is None or row.state != "active":
        return
    fact = turn.state.current(row.name).time
    if fact is None:
        turn.watching.remove(owner)
    elif row.cursor_us == UNSET:
        after = replace(row, cursor_us=turn.state.values[fact.kind, fact.subject], revision=row.revision + 1)
        turn.put(row, after)
        arm_schedule(turn, after)
    else:
        fire_schedule(turn, row.name, row.cursor_us)


def fire_schedule(turn: Turn, name: str, cursor_us: int) -> None:
    """Makes the runs that are due; what was missed while nothing ran is made now, in order, some in each turn."""
    row = turn.state.workflows.get(name)
    if row is None or row.state != "active" or row.cursor_us != cursor_us:
        return
    graph = turn.state.current(name)
    schedule = graph.spec.schedule
    if schedule is None:
        return
    fact = graph.time
    reached = turn.now_us if fact is None else turn.state.values.get((fact.kind, fact.subject), UNSET)
    for _ in range(turn.settings.catch_up_most):
        at = next_firing(schedule, row.cursor_us)
        if at is None or at > reached:
            break
        after = replace(row, cursor_us=at, revision=row.revision + 1)
        turn.put(row, after)
        row = after
        interval = interval_at(schedule, at - 1) if schedule.every is not None else None
        _scheduled(turn, row, graph, at, interval)
    arm_schedule(turn, row)


def _scheduled(turn: Turn, row: WorkflowRow, graph: Graph, at: int, interval: tuple[int, int] | None) -> None:
    run_id = f"{row.name}.{SCHEDULE}.{at}"
    made = make_run(turn, run_id, row, SCHEDULE, graph.defaults, interval=interval)
    state = "skipped" if made is None else "consumed"
    value = dumps(list(interval) if interval else at)
    turn.put(None, ConsumptionRow(row.name, SCHEDULE, str(at), at, value, turn.now_us, state, run_id if made else ""))


def await_triggers(turn: Turn, workflow: WorkflowRow) -> None:
    """Lets the triggers of a workflow wait for their facts."""
    for number, trigger in enumerate(turn.state.current(workflow.name).triggers):
        if trigger.bare is not None:
            turn.watching.add(("bare", workflow.name, number), (trigger.bare,))
            continue
        owner = ("condition", workflow.name, number)
        watch(turn.watching, turn.state, owner, trigger.predicate, Scope(turn.now_us))
        turn.touched[owner] = None


def forget_triggers(turn: Turn, workflow: str, graph: Graph) -> None:
    """Lets the triggers of a version wait no more."""
    turn.watching.remove(("schedule", workflow))
    for number in range(len(graph.triggers)):
        turn.watching.remove(("bare", workflow, number))
        turn.watching.remove(("condition", workflow, number))


def look_at_condition(turn: Turn, owner: Owner) -> None:
    """Looks at a condition again: when it comes true, that is a value for its trigger."""
    _, name, number = owner
    row = turn.state.workflows.get(name)
    if row is None or row.state == "retired" or owner not in turn.watching:
        return
    trigger = turn.state.current(name).triggers[number]
    scope, lookup = Scope(turn.now_us), lookup_outside(turn.state)
    truth = trigger.predicate.evaluate(lookup, scope) is True
    if trigger.uses_now and (at := trigger.predicate.changes_at(lookup, scope)) is not None:
        turn.state.wake_at(at, "look", *owner)
    truths = msgspec.json.decode(row.truths)
    if truths.get(trigger.spec.name, False) == truth:
        return
    truths[trigger.spec.name] = truth
    turn.put(row, replace(row, truths=dumps(truths), revision=row.revision + 1))
    if truth:
        # The revision of the workflow's row grows with every flip, so that no two of them are the same value.
        consumption = ConsumptionRow(
            name, trigger.spec.name, "", row.revision + 1, dumps(True), turn.now_us, "waiting", ""
        )
        turn.put(None, consumption)
        turn.firing[name, trigger.spec.name] = None


def arm_window(turn: Turn, workflow: str, trigger: TriggerPlan) -> None:
    """Sets the timer of a window's deadline, counted from the oldest value that waits."""
    waiting = turn.state.waiting.get((workflow, trigger.spec.name))
    if waiting and trigger.spec.consume.deadline is not None:
        oldest = next(iter(waiting.values()))
        at = oldest.at_us + trigger.spec.consume.deadline
        turn.state.wake_at(max(at, turn.now_us + 1), "window", workflow, trigger.spec.name)


def consume(turn: Turn, key: tuple[str, str]) -> None:
    """Makes runs of the values that wait for a trigger, as its `consume` says."""
    workflow, name = key
    row = turn.state.workflows[workflow]
    if row.state != "active":
        return
    trigger = next((t for t in turn.state.current(workflow).triggers if t.spec.name == name), None)
    waiting = turn.state.waiting.get(key)
    if trigger is None or not waiting:
        return
    how = trigger.spec.consume.how
    if how == "each":
        for value in list(waiting.values()):
            _fire(turn, row, trigger, [value])
    elif how == "window":
        _fire_window(turn, row, trigger)
    else:
        _fire_when_room(turn, row, trigger)


def _fire_window(turn: Turn, row: WorkflowRow, trigger: TriggerPlan) -> None:
    rule, key = trigger.spec.consume, (row.name, trigger.spec.name)
    while waiting := turn.state.waiting.get(key):
        oldest = next(iter(waiting.values()))
        late = rule.deadline is not None and oldest.at_us + rule.deadline <= turn.now_us
        if rule.count is not None and len(waiting) >= rule.count:
            _fire(turn, row, trigger, list(islice(waiting.values(), rule.count)))
        elif late or (rule.count is None and rule.deadline is None):
            _fire(turn, row, trigger, list(waiting.values()))
        else:
            arm_window(turn, row.name, trigger)
            return


def _fire_when_room(turn: Turn, row: WorkflowRow, trigger: TriggerPlan) -> None:
    """`coalesce` and `latest`: what waits goes into one run, made when it can begin at once."""
    state, key = turn.state, (row.name, trigger.spec.name)
    waiting = state.waiting[key]
    newest = next(reversed(waiting.values()))
    graph = state.current(row.name)
    if graph.spec.overlap.how != "replace_running" and not room_for(turn, row.name, _key_of(graph, newest)):
        return
    *older, newest = waiting.values()
    latest = trigger.spec.consume.how == "latest"
    run = _fire(turn, row, trigger, [newest] if latest else [*older, newest])
    for value in older if latest else ():
        turn.put(value, replace(value, state="superseded", run=run))


def _key_of(graph: Graph, value: ConsumptionRow) -> str:
    """The part of the overlap that a run of this value would belong to; one that makes none needs no room."""
    try:
        return overlap_key(graph, _parameters(graph, [value]))
    except WorkflowError:
        return ""


def _fire(turn: Turn, row: WorkflowRow, trigger: TriggerPlan, values: list[ConsumptionRow]) -> str:
    """Makes one run of these values, and puts on record what became of each."""
    graph = turn.state.current(row.name)
    run_id = f"{row.name}.{trigger.spec.name}.{values[-1].revision}"
    made = None
    try:
        parameters = _parameters(graph, values)
        made = make_run(turn, run_id, row, trigger.spec.name, parameters, interval=_interval(trigger, values))
        reason = "" if made is not None else "the overlap skips it"
    except WorkflowError as error:
        reason = str(error)
    state = "skipped" if reason else "consumed"
    for value in values:
        turn.put(value, replace(value, state=state, run=run_id if made is not None else ""))
    return run_id if made is not None else ""


def _parameters(graph: Graph, values: list[ConsumptionRow]) -> dict[str, Any]:
    """Parameters of a run: the members of the newest value that are named like one, and the defaults of the rest."""
    value = msgspec.json.decode(values[-1].value)
    names = {parameter.name for parameter in graph.spec.parameters}
    given = {name: part for name, part in value.items() if name in names} if isinstance(value, dict) else {}
    return parameters_of(graph, given)


def _interval(trigger: TriggerPlan, values: list[ConsumptionRow]) -> tuple[int, int] | None:
    """The event time that done intervals span."""
    if trigger.bare is None or trigger.bare.kind != "interval":
        return None
    spans = [msgspec.json.decode(value.value) for value in values]
    return min(span[0] for span in spans), max(span[1] for span in spans)
