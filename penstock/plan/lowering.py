"""Aggregates of a group lowered to slots and measures, with the types of their results."""

from __future__ import annotations

import hashlib
import inspect
import textwrap
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from penstock.algebra.layout import Measure, Op, Slot, SlotKind
from penstock.define.aggregate import Agg, Aggregate
from penstock.define.values import format_duration
from penstock.errors import Location, PlanError
from penstock.plan.expr import Expression
from penstock.plan.expr.annotations import annotated_type
from penstock.plan.expr.syntax import Name as Reference
from penstock.plan.expr.types import BOOL, FLOAT, INT, Schema, Type, list_of, map_of, struct_of
from penstock.plan.results import BUCKET_TYPES, counts, fold_type
from penstock.plan.scope import Scope

__all__ = ["Lowering", "Measured"]

_OPS = frozenset(Op)
_KINDS = {
    "int": SlotKind.INT,
    "instant": SlotKind.INT,
    "duration": SlotKind.INT,
    "date": SlotKind.INT,
    "float": SlotKind.FLOAT,
    "decimal": SlotKind.DECIMAL,
    "bool": SlotKind.BOOL,
}


@dataclass(frozen=True)
class Measured:
    """One aggregate, lowered: its measure's index, its type, the columns it reads, its parts."""

    index: int
    type: Type
    nullable: bool
    read: frozenset[str]
    parts: dict[str, Any]


@dataclass
class Lowering:
    """Slots and measures of one group while they are found; equal ones are made once."""

    scope: Scope
    schema: Schema
    what: str
    slots: list[Slot] = field(default_factory=list)
    expressions: list[Expression] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    customs: dict[str, Aggregate] = field(default_factory=dict)

    def measure(self, name: str, agg: Agg) -> Measured:
        """One aggregate, lowered.

        Raises:
            PlanError: an argument, a condition or a bucket does not fit.
        """
        what, where = f"{self.what}, {name}", agg.at
        if agg.op not in _OPS:
            raise PlanError(
                f"{what}: {agg.op} folds outcomes of a join", found=agg.op, remedy="use count() or share()", where=where
            )
        if not agg.args and agg.op not in ("count", "decayed_count"):
            raise PlanError(
                f"{what}: {agg.op} needs an argument", found="none", remedy=f'write {agg.op}("amount")', where=where
            )
        arguments = [self._argument(agg, text, what) for text in agg.args]
        condition = (
            None if agg.condition is None else self.scope.condition(agg.condition, self.schema, f"{what}, where", where)
        )
        bucket = None if agg.bucket is None else self._bucket(agg.bucket, what, where)
        kind = self._result(agg, arguments, what)
        if bucket is not None:
            kind = map_of(bucket.type, kind)
        positions = [self._slot(e) for e in arguments]
        made = Measure(
            op=Op(agg.op),
            slot=positions[0] if positions else None,
            slot2=positions[1] if agg.op == "ratio" else None,
            slots=tuple(positions[1:]) if agg.op in ("last_n", "custom") else (),
            where=None if condition is None else self._slot(condition),
            per=None if bucket is None else self._slot(bucket),
            n=agg.n,
            limit=agg.limit,
            half_life_us=agg.half_life_us,
            custom=agg.custom.__name__ if agg.custom is not None else "",
        )
        if made not in self.measures:
            self.measures.append(made)
        used = [e for e in (*arguments, condition, bucket) if e is not None]
        return Measured(
            self.measures.index(made),
            kind,
            not counts(agg.op, bucket is not None),
            frozenset().union(*(e.columns for e in used)),
            self._parts(agg, arguments, condition, bucket),
        )

    def _argument(self, agg: Agg, text: str, what: str) -> Expression:
        if agg.op == "share":
            return self.scope.condition(text, self.schema, what, agg.at)
        return self.scope.expression(text, self.schema, what, agg.at)

    def _bucket(self, text: str, what: str, where: Location | None) -> Expression:
        bucket = self.scope.expression(text, self.schema, f"{what}, per", where)
        if bucket.type.name not in BUCKET_TYPES:
            raise PlanError(
                f"{what}, per: a result per value of {', '.join(BUCKET_TYPES)}",
                found=f"{text} is {bucket.type}",
                remedy="cast it to text or int",
                where=where,
            )
        return bucket

    def _result(self, agg: Agg, arguments: list[Expression], what: str) -> Type:
        match agg.op:
            case "custom":
                assert agg.custom is not None
                return self._custom(agg.custom, arguments, what, agg.at)
            case "last_n":
                if len(arguments) == 1:
                    return list_of(arguments[0].type)
                return list_of(struct_of(dict(zip(_field_names(arguments), (e.type for e in arguments), strict=True))))
            case "decayed_count":
                return FLOAT
            case "count" if not arguments:
                return fold_type("count", BOOL, what, agg.at)
        kinds = [fold_type(agg.op, e.type, what, agg.at) for e in arguments]
        return kinds[0]

    def _custom(self, made: type[Aggregate], arguments: list[Expression], what: str, where: Location | None) -> Type:
        name = made.__name__
        former = self.customs.setdefault(name, made())
        if type(former) is not made:
            raise PlanError(
                f"{what}: two aggregates are called {name}", found=f"one of {type(former).__module__}",
                remedy="rename one", where=where,
            )  # fmt: skip
        taken = list(inspect.signature(made.lift).parameters.values())[1:]
        if len(taken) != len(arguments) and not any(p.kind is p.VAR_POSITIONAL for p in taken):
            raise PlanError(
                f"{what}: {name}.lift takes {len(taken)} value(s)",
                found=f"{len(arguments)} argument(s)",
                remedy=f"give {name}.of(...) as many expressions",
                where=where,
            )
        self._check_lift(made, [p.name for p in taken], arguments, what, where)
        hints = get_type_hints(made.finalize)
        if "return" not in hints:
            raise PlanError(
                f"{what}: the return annotation of {name}.finalize says the type of the result",
                found="none",
                remedy="write def finalize(self, s) -> float",
                where=where,
            )
        return annotated_type(hints["return"], f"{what}, {name}.finalize", where)[0]

    @staticmethod
    def _check_lift(
        made: type[Aggregate], names: list[str], arguments: list[Expression], what: str, where: Location | None
    ) -> None:
        """Where lift says which values it takes, it gets those; an int may stand for a float."""
        hints = get_type_hints(made.lift)
        for name, argument in zip(names, arguments, strict=False):
            if hints.get(name, Any) is Any:
                continue
            taken = annotated_type(hints[name], f"{what}, {made.__name__}.lift, {name}", where)[0]
            if argument.type != taken and (argument.type, taken) != (INT, FLOAT):
                raise PlanError(
                    f"{what}: {made.__name__}.lift takes {taken} as {name}",
                    found=f"{argument.text} is {argument.type}",
                    remedy=f"write CAST({argument.text} AS {taken})",
                    where=where,
                )

    def _slot(self, expression: Expression) -> int:
        made = Slot(
            text=expression.text,
            kind=_KINDS.get(expression.type.name, SlotKind.CODE),
            type=str(expression.type),
            scale=expression.type.scale if expression.type.name == "decimal" else 0,
        )
        if made not in self.slots:
            self.slots.append(made)
            self.expressions.append(expression)
        return self.slots.index(made)

    def _parts(
        self, agg: Agg, arguments: list[Expression], condition: Expression | None, bucket: Expression | None
    ) -> dict[str, Any]:
        code = self.scope.code
        parts: dict[str, Any] = {"op": agg.op}
        if arguments:
            parts["of"] = [code(e) for e in arguments]
        for part, expression in (("where", condition), ("per", bucket)):
            if expression is not None:
                parts[part] = code(expression)
        for part in ("n", "limit"):
            if getattr(agg, part):
                parts[part] = getattr(agg, part)
        if agg.half_life_us:
            parts["half_life"] = format_duration(agg.half_life_us)
        if agg.custom is not None:
            parts |= {"custom": agg.custom.__name__, "version": agg.custom.version, "source": _source_hash(agg)}
        return parts


def _field_names(arguments: list[Expression]) -> list[str]:
    """The fields of last_n's structs: the column's name, for an expression value_2 by its place."""
    names = [e.tree.parts[-1] if isinstance(e.tree, Reference) else f"value_{i}" for i, e in enumerate(arguments, 1)]
    return names if len(set(names)) == len(names) else [f"value_{i}" for i, _ in enumerate(arguments, 1)]


def _source_hash(agg: Agg) -> str:
    assert agg.custom is not None
    try:
        source = textwrap.dedent(inspect.getsource(agg.custom))
    except (OSError, TypeError) as error:
        raise PlanError(
            f"the source of aggregate {agg.custom.__name__} is its version",
            found=str(error),
            remedy="define it in a file",
            where=agg.at,
        ) from error
    return hashlib.blake2b(source.encode(), digest_size=16).hexdigest()
