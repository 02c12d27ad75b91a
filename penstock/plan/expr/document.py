"""The page of functions, `docs/functions.md`: written from the registry, so that it cannot differ from it.

`python -m penstock.plan.expr.document docs/functions.md` writes it; a test checks that it is current.
"""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

from penstock.plan.expr.casts import cast_kernel
from penstock.plan.expr.registry import Family, Function, Overload, functions
from penstock.plan.expr.types import BOOL, BYTES, DATE, DURATION, FLOAT, INSTANT, INT, JSON, TEXT, decimal

__all__ = ["functions_page"]

_RULES = resources.files("penstock.plan.expr").joinpath("rules.md")
_TYPES = (BOOL, INT, FLOAT, decimal(12, 2), TEXT, DATE, INSTANT, DURATION, BYTES, JSON)


def _cast_table() -> str:
    head = ["from \\ to", *(t.name for t in _TYPES)]
    lines = [head, ["---"] * len(head)]
    for source in _TYPES:
        cells = ["yes" if source != t and cast_kernel(source, t, "UTC") else "" for t in _TYPES]
        lines.append([source.name, *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _in_duckdb(function: Function, overload: Overload) -> str:
    """How DuckDB says it: `same`, another text, or a dash."""
    template = overload.duckdb
    if template is None:
        return "-"
    names = [chr(ord("a") + at) for at, p in enumerate(overload.params) if not p.optional]
    if overload.params and overload.params[-1].repeats:
        names = [*names[:-1], "...", "z"]
    text = template(names) if callable(template) else template.format(*names)
    plain = f"{function.name}({', '.join(names)})"
    return "same" if text == plain or text is None else f"`{text}`"


def _rows(family: Family) -> list[str]:
    rows = []
    for function in family.functions.values():
        signatures = "<br>".join(f"`{_cell(o.signature)}`" for o in function.overloads)
        words = function.doc + (f" {function.rule[0].upper()}{function.rule[1:]}." if function.rule else "")
        if any(o.nulls == "all" for o in function.overloads):
            words += " Null only if all arguments are."
        if function.aliases:
            words += f" Also {', '.join(f'`{a}`' for a in function.aliases)}."
        duckdb = "<br>".join(dict.fromkeys(_cell(_in_duckdb(function, o)) for o in function.overloads))
        rows.append(f"| {signatures} | {_cell(words)} | {duckdb} |")
    return rows


def functions_page() -> str:
    """The text of `docs/functions.md`."""
    from penstock.plan.expr.functions import FAMILIES

    parts = [_RULES.read_text("utf-8").replace("<!-- casts -->\n", _cast_table())]
    for family in FAMILIES:
        parts += [f"\n### {family.title}\n\n| function | what it gives | in DuckDB |\n|---|---|---|\n"]
        parts += [row + "\n" for row in _rows(family)]
    count = len({function.name for function in functions().values()})
    parts.append(f"\n{count} functions.\n")
    return "".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(functions_page(), encoding="utf-8")
