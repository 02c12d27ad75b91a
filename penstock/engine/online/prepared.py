"""One key of a group at a time with little Python: buffers are made once, two calls of the kernel answer."""

from __future__ import annotations

import struct
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from penstock.algebra.binding import ffi, lib
from penstock.algebra.layout import SlotKind, WindowKind
from penstock.algebra.monoids import Status
from penstock.algebra.program import Kind
from penstock.clock import Clock
from penstock.engine.live.flow import READABLE_BATCHES, origin_of
from penstock.engine.online.present import Present
from penstock.errors import DataError, EngineError
from penstock.plan.ir import GroupPlan

__all__ = ["PreparedGroup"]

_INT, _TEXT = 1, 4
_GOOD = (Status.OK, Status.ZERO)
_PATTERNS = 4_096
_LEAST, _GREATEST = -(2**63), 2**63 - 1


class PreparedGroup:
    """Reads one key of a group; made by `Online.prepare`.

    Attributes:
        names: of the values, in their order.

    Raises:
        EngineError: a feature is no number, a window is a calendar's, or a part of the key neither int nor text.
    """

    def __init__(self, present: Present, plan: GroupPlan, clock: Clock) -> None:
        self._present, self._plan, self._clock = present, plan, clock
        self._log = origin_of(plan.input).name
        self._lags_us = plan.observations_late_us
        self.names = tuple(output.name for output in plan.layout.outputs)
        self._kinds = [kind.name for kind in plan.key_types]
        self._state: Any = None
        self._choose: dict[bytes, Callable[[tuple[Any, ...]], tuple[Any, ...]]] = {}
        self._refuse()
        self._bind()

    def get_one(self, *key: int | str | None) -> tuple[float | int | None, ...]:
        """The values of one key at the present, by `names`; counts are 0 and all else null where nothing is known.

        Raises:
            DataError: the key has other parts, or parts of another type.
            EngineError: the live job has died in the middle of a batch and was not started again.
        """
        present = self._present
        while True:
            moment = present.moment()
            if present.group(self._plan) is not self._state:
                self._bind()
            if not self._place(key):
                return self._values()
            known_us, now_us = moment.known_us, self._clock.now_us()
            self._q[0] = now_us if now_us > known_us else known_us
            self._a[0] = moment.rank(self._log)
            handle = self._keyed
            done = lib.ps_live_find(handle, self._parts, len(key), 1, ffi.NULL, 0, self._record, self._hash)
            if not done:
                done = lib.ps_live_query(handle, self._asked, self._out)
            if not done and present.holds(moment, READABLE_BATCHES):
                return self._values()
            present.follow()

    def _values(self) -> tuple[float | int | None, ...]:
        statuses = bytes(self._status_bytes)
        choose = self._choose.get(statuses)
        if choose is None:
            choose = self._chooser(statuses)
        chosen: tuple[float | int | None, ...] = choose((*self._unpack(self._value_bytes), None))
        return chosen

    def _chooser(self, statuses: bytes) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
        """What takes the values shown out of all values and a null; kept, since few patterns of statuses come."""
        if len(self._choose) >= _PATTERNS:
            self._choose.clear()
        shown = [i if status in _GOOD else len(statuses) for i, status in enumerate(statuses[: len(self.names)])]
        choose = itemgetter(*shown) if len(shown) > 1 else lambda values: (values[shown[0]],)
        self._choose[statuses] = choose
        return choose

    def _place(self, key: tuple[int | str | None, ...]) -> bool:
        """Puts the key where the kernel looks; False for one with a null part, whose values are those of no rows."""
        if len(key) != len(self._kinds):
            raise DataError(
                f"{self._plan.name.name} is read by {', '.join(self._plan.key_names)}", found=f"{len(key)} parts"
            )
        for i, part in enumerate(key):
            if part is None:
                self._empty()
                return False
            if self._kinds[i] == "int" and type(part) is int and _LEAST <= part <= _GREATEST:
                self._ints[i][0] = part
            elif self._kinds[i] == "text" and type(part) is str:
                data = part.encode()
                self._held[i] = ffi.from_buffer("uint8_t[]", data)
                self._parts[i].values = ffi.cast("void *", self._held[i])
                self._ends[i][1] = len(data)
            else:
                raise DataError(f"{self._plan.key_names[i]} is {self._kinds[i]}", found=repr(part))
        return True

    def _empty(self) -> None:
        self._record[0] = self._hash[0] = 0
        lib.ps_live_query(self._keyed, self._asked, self._out)

    def _refuse(self) -> None:
        layout, found = self._plan.layout, ""
        for output in layout.outputs:
            measure = layout.measures[output.measure]
            code = measure.slot is not None and layout.slots[measure.slot].kind is not SlotKind.FLOAT
            valued = measure.op.name in ("FIRST", "LAST", "MIN", "MAX")
            if output.type not in ("int", "float") or (code and valued and output.type != "int"):
                found = f"{output.name}, {output.type}"
            if layout.windows[output.window].kind is WindowKind.CALENDAR:
                found = f"{output.name}, over a calendar's window"
        found = next((f"a key of {kind}" for kind in self._kinds if kind not in ("int", "text")), found)
        if found:
            raise EngineError(
                "a prepared read gives numbers over plain windows, by ints and text", found=found,
                remedy="ask online.group, or prepare a group of the numbers alone",
            )  # fmt: skip

    def _bind(self) -> None:
        state = self._state = self._present.group(self._plan)
        if state.has_slow:
            raise EngineError("a prepared read gives what is merged", found="last_n, per, or an aggregate of your own",
                              remedy="ask online.group")  # fmt: skip
        program, n = state.keyed.program, len(self._kinds)
        self._keyed, sizes = state.keyed.handle, len(program.outputs)
        self._parts = ffi.new("ps_part[]", n)
        self._ints = [ffi.new("int64_t[1]") for _ in self._kinds]
        self._ends = [ffi.new("int32_t[2]") for _ in self._kinds]
        self._held: list[Any] = [None] * n
        for i, kind in enumerate(self._kinds):
            self._parts[i].kind = _INT if kind == "int" else _TEXT
            self._parts[i].values = ffi.cast("void *", self._ints[i])
            self._parts[i].offsets = ffi.cast("void *", self._ends[i])
        self._record, self._hash = ffi.new("ps_off[1]"), ffi.new("uint64_t[1]")
        self._q, self._a = ffi.new("int64_t[1]"), ffi.new("int64_t[1]")
        asked = self._asked = ffi.new("ps_live_asked *")
        asked.n, asked.record, asked.hash, asked.q, asked.a = 1, self._record, self._hash, self._q, self._a
        asked.self, asked.calendar, asked.stride = 0, ffi.NULL, 1
        self._buffer = ffi.new("int64_t[]", sizes)
        self._marks = ffi.new("uint8_t[]", sizes)
        self._columns = [
            ffi.new("uint8_t *[]", [ffi.cast("uint8_t *", self._buffer + i) for i in range(sizes)]),
            ffi.new("uint8_t *[]", [self._marks + i for i in range(sizes)]),
        ]
        self._out = ffi.new("ps_columns *")
        self._out.values, self._out.statuses = self._columns
        self._value_bytes = ffi.buffer(self._buffer)
        self._status_bytes = ffi.buffer(self._marks)
        self._unpack = struct.Struct("=" + "".join("d" if k is Kind.FLOAT else "q" for k in program.kinds)).unpack
