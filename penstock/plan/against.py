"""A plan against a former one: what is new, unchanged, must be rebuilt and why, or is gone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.errors import PlanError
from penstock.plan.describe import FORMAT, document
from penstock.plan.ir import Plan

__all__ = ["Change", "compare", "render_changes"]

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one definition.

    Attributes:
        state: "new", "unchanged", "rebuild" or "removed".
        reasons: what changed in it ("aggregates.n.where: 'ok' -> 'not ok'"), then what it rests on that changed.
    """

    name: str
    kind: str
    state: str
    reasons: tuple[str, ...] = ()


def compare(former: Mapping[str, Any], plan: Plan) -> tuple[Change, ...]:
    """What must be done to go from a former plan to this one; what was removed comes last.

    A definition whose fingerprint is the same keeps its state and its history, whatever its place or its name's
    variable. A new name with a fingerprint that a removed one had is said to be that one under another name.

    Args:
        former: the document that `penstock plan --json` printed then.

    Raises:
        PlanError: it is no such document, or of a newer form.
    """
    was = _definitions(former)
    now = document(plan)["definitions"]
    removed = {d["fingerprint"]: name for name, d in was.items() if name not in now}
    changes = [_change(name, d, was, now, removed) for name, d in now.items()]
    changes += [Change(name, d["kind"], "removed") for name, d in was.items() if name not in now]
    return tuple(changes)


def _definitions(former: Mapping[str, Any]) -> Mapping[str, Any]:
    found = former.get("definitions") if former.get("format") == FORMAT else None
    if not isinstance(found, Mapping) or not all("fingerprint" in d and "kind" in d for d in found.values()):
        raise PlanError(
            f"a former plan is a document of `penstock plan --json`, form {FORMAT}",
            found=f"form {former.get('format')!r}",
            remedy="save one with `penstock plan --json > former.json`",
        )
    return found


def _change(
    name: str, now: dict[str, Any], was: Mapping[str, Any], all_now: Mapping[str, Any], removed: Mapping[str, str]
) -> Change:
    former = was.get(name)
    if former is None:
        same = removed.get(now["fingerprint"])
        note = () if same is None else (f"{same} under another name: the same answers",)
        return Change(name, now["kind"], "new", note)
    if former["fingerprint"] == now["fingerprint"]:
        return Change(name, now["kind"], "unchanged")
    reasons = [*_differences(former.get("parts"), now["parts"], "")]
    if former["kind"] != now["kind"]:
        reasons.insert(0, f"kind: {former['kind']} -> {now['kind']}")
    for source in now["inputs"]:
        before = was.get(source)
        if before is None or before["fingerprint"] != all_now[source]["fingerprint"]:
            reasons.append(f"rests on {source}, which {'is new' if before is None else 'changed'}")
    return Change(name, now["kind"], "rebuild", tuple(reasons))


def _differences(former: Any, now: Any, path: str) -> Iterator[str]:
    if former == now:
        return
    if isinstance(former, Mapping) and isinstance(now, Mapping):
        for part in [*now, *(p for p in former if p not in now)]:
            yield from _differences(
                former.get(part, _MISSING), now.get(part, _MISSING), f"{path}.{part}" if path else str(part)
            )
    elif former is _MISSING:
        yield f"{path}: {_shown(now)} is new"
    elif now is _MISSING:
        yield f"{path}: {_shown(former)} is gone"
    else:
        yield f"{path}: {_shown(former)} -> {_shown(now)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def render_changes(changes: tuple[Change, ...]) -> str:
    """The changes as text for a terminal: a line per definition, its reasons beneath."""
    width = max((len(c.name) for c in changes), default=0)
    words = {"rebuild": "must be rebuilt"}
    lines = []
    for change in changes:
        lines.append(f"{change.name:<{width}}  {change.kind:<6}  {words.get(change.state, change.state)}")
        lines += [f"{'':<{width}}  - {reason}" for reason in change.reasons]
    return "\n".join(lines) + "\n"
