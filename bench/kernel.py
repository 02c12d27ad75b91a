"""The history kernel on workload W against code written for W alone: `python -m bench.kernel [events] [queries]`.

Arrays in memory, integer keys, unsorted rows and queries, one thread, CPU seconds of the process. Values are compared.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from cffi import FFI

from bench.report import Peer, last_line
from penstock.algebra.build_kernel import FLAGS, compiler
from penstock.algebra.history import sweep
from penstock.algebra.layout import Layout, Measure, Op, Output, Slot, SlotKind, Window, WindowKind
from penstock.algebra.sorting import gather, sort_rows
from penstock.algebra.table import Queries, Rows

KEYS, DAY = 100_000, 86_400_000_000
WIDTHS = (DAY // 144, DAY // 24, DAY, 7 * DAY, 30 * DAY)
OPS = (Op.COUNT, Op.SUM, Op.MEAN, Op.MIN, Op.MAX, Op.STD)


def layout() -> Layout:
    windows = tuple(Window(f"w{i}", WindowKind.TIME, width) for i, width in enumerate(WIDTHS))
    measures = (Measure(Op.COUNT), *(Measure(op, 0) for op in OPS[1:]), Measure(Op.LAST, 0), Measure(Op.DISTINCT, 1))
    outputs = [Output(f"{op}_{w}", i, w, "int") for i, op in enumerate(OPS) for w in range(5)]
    outputs += [Output("last", 6, 5, "int"), Output("distinct", 7, 2, "int")]
    slots = (Slot("amount", SlotKind.INT, "int"), Slot("category", SlotKind.INT, "int"))
    return Layout(slots, measures, (*windows, Window("", WindowKind.LIFETIME)), tuple(outputs))


def workload(n: int, m: int) -> tuple[list[Any], list[Any]]:
    """Events (key, t, known time, amount, category) in order of known time, and queries (key, q) in order of q."""
    rng = np.random.default_rng(7)
    share = np.arange(1, KEYS + 1) ** -0.8
    steps = np.cumsum(share / share.sum())
    known = np.sort(rng.integers(0, 30 * DAY, n))
    t = known - np.where(rng.random(n) < 0.01, rng.integers(0, DAY // 144, n), 0)
    amount = np.round(np.exp(rng.normal(3, 1, n)) * 100).astype(np.int64)
    keys = [np.minimum(np.searchsorted(steps, rng.random(size)), KEYS - 1).astype(np.int64) for size in (n, m)]
    return [keys[0], t, known, amount, rng.integers(0, 50, n)], [keys[1], np.sort(rng.integers(0, 30 * DAY, m))]


def ours(events: list[Any], queries: list[Any]) -> dict[str, Any]:
    key, t, known, amount, category = events
    found = sort_rows(key, t, known, n_keys=KEYS)
    columns = [gather(x, found.order) for x in (key, known, amount, category)]
    rows = Rows(columns[0], found.t, columns[1], columns[2:], [None, None])
    return sweep(layout(), rows, Queries(queries[0], queries[1], queries[1]))


def hardwired(lib: Any, ffi: FFI, events: list[Any], queries: list[Any]) -> list[Any]:
    key, t, known, amount, category = events
    found, asked = sort_rows(key, t, known, n_keys=KEYS), sort_rows(queries[0], queries[1], n_keys=KEYS)
    columns = [gather(x, found.order) for x in (known, amount, category)]
    out = [np.zeros(queries[0].size, np.int64) for _ in range(32)]
    given = [found.start, found.t, *columns, asked.start, asked.t, asked.order, np.array(WIDTHS)]
    lib.hardwired(KEYS, *(ffi.cast("int64_t *", x.ctypes.data) for x in given),
                  ffi.new("int64_t *[]", [ffi.cast("int64_t *", x.ctypes.data) for x in out]))  # fmt: skip
    return out


def compiled() -> tuple[Any, FFI]:
    ffi = FFI()
    ffi.cdef(
        "void hardwired(int64_t n_keys, " + ", ".join(f"const int64_t *p{i}" for i in range(9)) + ", int64_t **out);"
    )
    target = Path(tempfile.mkdtemp()) / "hardwired.so"
    source = Path(__file__).with_name("kernel_hardwired.c")
    subprocess.run([*compiler(), *FLAGS, "-fvisibility=default", "-shared", source, "-lm", "-o", target], check=True)
    return ffi.dlopen(str(target)), ffi


def differences(found: dict[str, Any], peer: list[Any]) -> int:
    """Values that differ, floats beyond 1e-9."""
    wrong = 0
    for column, values in zip(found.values(), peer, strict=True):
        theirs = values.view(np.float64) if column.values.dtype == np.float64 else values
        valid = column.valid
        wrong += int(np.sum(~np.isclose(column.values[valid], theirs[valid], rtol=1e-9, atol=1e-6)))
    return wrong


def main() -> None:
    n, m = (int(float(x)) for x in (*sys.argv[1:], *("1e6", "1e5")[len(sys.argv) - 1 :]))
    events, queries = workload(n, m)
    lib, ffi = compiled()
    seconds: dict[str, list[float]] = {"ours": [], "hardwired": []}
    for _ in range(3):
        begin = time.process_time()
        found = ours(events, queries)
        middle = time.process_time()
        peer = hardwired(lib, ffi, events, queries)
        seconds["ours"].append(middle - begin)
        seconds["hardwired"].append(time.process_time() - middle)
    rate = {name: n / min(took) / 1e6 for name, took in seconds.items()}
    wrong = differences(found, peer)
    print(f"{n:,} events, {m:,} queries, 32 columns; {wrong} of {32 * m:,} values differ")
    print(f"ours {rate['ours']:.2f} M events per CPU-s, hard-wired {rate['hardwired']:.2f} M")
    peer = Peer("this run", round(rate["hardwired"], 3), m, wrong == 0)
    ours_shown, unit = {"events": n, "queries": m}, "M events per CPU-second"
    last_line("kernel", round(rate["ours"], 3), unit, ours_shown, {"hardwired": peer}, mode="arrays in memory")


if __name__ == "__main__":
    main()
