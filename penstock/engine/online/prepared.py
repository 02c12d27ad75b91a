"""Groups and views prepared for reads of one key or request at a time, as fast as can be; they are not logged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa

from penstock.clock import Clock
from penstock.engine.live.flow import READABLE_BATCHES
from penstock.engine.online.present import Moment, Present
from penstock.engine.online.requests import plain_value
from penstock.engine.online.single import PLAIN, Plain, ReadAsOf, ReadGroup, Values
from penstock.errors import DataError, EngineError, nearest
from penstock.plan.expr.kernels import one
from penstock.plan.expr.types import Type
from penstock.plan.ir import GroupPlan, ViewPlan

__all__ = ["PreparedGroup", "PreparedView"]

_T = TypeVar("_T")


class _Prepared:
    """Asks at the present until all that was read is of one committed batch."""

    def __init__(self, present: Present, clock: Clock) -> None:
        self._present, self._clock = present, clock

    def _settled(self, read: Callable[[Moment, int], _T | None]) -> _T:
        present = self._present
        while True:
            moment = present.moment()
            known_us, now_us = moment.known_us, self._clock.now_us()
            found = read(moment, now_us if now_us > known_us else known_us)
            if found is not None and present.holds(moment, READABLE_BATCHES):
                return found
            present.follow()


class PreparedGroup(_Prepared):
    """Reads one key of a group; made by `Online.prepare`.

    Attributes:
        names: of the values, in their order.

    Raises:
        EngineError: as `ReadGroup`.
    """

    def __init__(self, present: Present, plan: GroupPlan, clock: Clock, columns: Sequence[str] | None = None) -> None:
        super().__init__(present, clock)
        self._group = ReadGroup(present, plan, columns)
        self.names = self._group.names

    def get_one(self, *key: int | str | None) -> Values:
        """The values of one key at the present, by `names`; counts are 0 and all else null where nothing is known.

        Raises:
            DataError: the key has other parts, or parts of another type.
            EngineError: the live job has died in the middle of a batch and was not started again.
        """
        read = self._group.read
        return self._settled(lambda moment, q_us: read(key, moment, q_us))


class PreparedView(_Prepared):
    """Answers one request of a view; made by `Online.prepare_view`.

    Attributes:
        names: of the values, in their order.

    Raises:
        EngineError: what it reads is not all numbers, truths and text by plain keys; or it has reads of two hops, or a
            group that includes the asking row.
    """

    def __init__(self, present: Present, plan: ViewPlan, clock: Clock) -> None:
        super().__init__(present, clock)
        if plan.two_hops or any(lookup.self_columns is not None for lookup in plan.lookups):
            raise EngineError(
                "a prepared view reads by the request's keys", found="two hops, or the asking row itself",
                remedy="ask online.view",
            )  # fmt: skip
        self._plan, self.names = plan, plan.outputs.names
        self._inputs = plan.inputs.columns
        self._reads: list[tuple[ReadGroup | ReadAsOf, tuple[str, ...], tuple[str, ...]]] = []
        types = {column.name: column.type for column in plan.inputs.columns}
        for lookup in plan.lookups:
            source, columns = lookup.source, lookup.columns
            if isinstance(source, GroupPlan):
                made: ReadGroup | ReadAsOf = ReadGroup(present, source, columns)
            else:
                made = ReadAsOf(present, source, columns)
            self._reads.append((made, lookup.keys, lookup.outputs.names))
            types |= {column.name: column.type for column in lookup.outputs.columns}
        self._types = types
        self._expressions = [(name, made, sorted(made.columns)) for name, made in plan.expressions]

    def get_one(self, request: Mapping[str, Any]) -> tuple[Any, ...]:
        """The view's columns for one request at the present, by `names`.

        Raises:
            DataError: the request does not fit, or an expression's function failed.
            EngineError: the live job has died in the middle of a batch and was not started again.
        """
        inputs = self._checked(request)
        values = self._settled(lambda moment, q_us: self._read(inputs, moment, q_us))
        arrays: dict[str, pa.Array] = {}
        for name, expression, columns in self._expressions:
            for column in columns:
                if column not in arrays:
                    arrays[column] = _array(values[column], self._types[column])
            batch = pa.RecordBatch.from_arrays([arrays[c] for c in columns], names=columns) if columns else _ONE_ROW
            arrays[name] = expression.evaluate(batch)
            values[name] = arrays[name][0].as_py()
        return tuple([values[name] for name in self.names])

    def _read(self, inputs: Mapping[str, Plain], moment: Moment, q_us: int) -> dict[str, Plain] | None:
        values = dict(inputs)
        for reader, keys, names in self._reads:
            found = reader.read([values[key] for key in keys], moment, q_us)
            if found is None:
                return None
            values.update(zip(names, found, strict=True))
        return values

    def _checked(self, request: Mapping[str, Any]) -> dict[str, Plain]:
        what = f"view {self._plan.name.name}"
        if request.keys() != self._plan.inputs.keys():
            wrong = next((name for name in request if name not in self._plan.inputs), None)
            missing = next((name for name in self._plan.inputs if name not in request), None)
            raise DataError(
                f"a request of {what} brings {', '.join(self._plan.inputs)}",
                found=f"no {missing}" if wrong is None else repr(wrong),
                remedy="give null where it is not known" if wrong is None else nearest(wrong, self._plan.inputs),
            )
        return {column.name: plain_value(request[column.name], column, what) for column in self._inputs}


def _array(value: Any, kind: Type) -> pa.Array:
    return one(value, kind) if kind.name in PLAIN else pa.array([value], kind.arrow)


_ONE_ROW = pa.RecordBatch.from_struct_array(pa.StructArray.from_buffers(pa.struct([]), 1, [None]))
