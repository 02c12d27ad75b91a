"""For how long live state keeps rows as rows, and why it does where it never lets go of them. `time.md`, Forgetting."""

from __future__ import annotations

from penstock.algebra.folding import is_endless, unfolded
from penstock.algebra.layout import Window, WindowKind
from penstock.define.values import format_duration
from penstock.plan.asking import source_of
from penstock.plan.ir import AsOfPlan, GroupPlan

__all__ = ["kept_for_ever", "kept_text", "versions_kept"]


def kept_for_ever(group: GroupPlan) -> str:
    """Why a group's state keeps every row; nothing where old rows leave or are merged."""
    if not is_endless(group.layout):
        return ""
    source = source_of(group.input)
    if source.kind == "stream" and source.op is not None and source.corrected_us is None:
        name = source.name.name
        return f'rows of {name} may be corrected for ever: say how far back, corrected="7d", and old rows are merged'
    whole = list(dict.fromkeys(output.name for output in unfolded(group.layout)))
    if group.layout.include_self and whole:
        return "a request counts as a row itself, unless its row is there already, however old"
    return f"{', '.join(whole)} {'needs' if len(whole) == 1 else 'need'} every row" if whole else ""


def kept_text(group: GroupPlan) -> str:
    """The same in a few words: for how long rows are kept, and what becomes of older ones."""
    reason = kept_for_ever(group)
    if reason:
        return f"kept for ever: {reason}"
    windows = [group.layout.windows[output.window] for output in group.layout.outputs]
    kept = format_duration(max(map(_reach_us, windows), default=0) + group.observations_late_us)
    if not is_endless(group.layout):
        return f"kept {kept}"
    return f"kept {kept}, older ones {'merged' if _has_lifetime(windows) else 'forgotten but for the newest'}"


def versions_kept(read: AsOfPlan) -> str:
    """What live state keeps of a relation whose newest rows are looked up by rows of a stream."""
    name = source_of(read.relation).name.name
    return f"live state keeps every version of {name}, as the rows that look it up may come late by any time"


def _has_lifetime(windows: list[Window]) -> bool:
    return any(window.kind is WindowKind.LIFETIME for window in windows)


def _reach_us(window: Window) -> int:
    """How far back the window tells one row from another by its age."""
    days = {"day": 1, "week": 7, "month": 31, "year": 366}
    match window.kind:
        case WindowKind.TIME:
            return max(0, window.width_us + window.hop_us + window.offset_us)
        case WindowKind.CALENDAR:
            return (days[window.unit] * 86_400 + 3_600) * 1_000_000 + max(0, window.offset_us)
    return max(0, window.offset_us)
