"""A tree bound to a schema: every name resolved, every node typed, every kernel chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from penstock.errors import ExpressionError, nearest
from penstock.plan.expr import logic, operators
from penstock.plan.expr.access import bind_index, struct_field
from penstock.plan.expr.bound import Bound, Frame, apply, constant
from penstock.plan.expr.branches import bind_case
from penstock.plan.expr.casts import parse_date, parse_instant
from penstock.plan.expr.kernels import arrow, scalar, vector
from penstock.plan.expr.lambdas import ELEMENT, INDEX, Body
from penstock.plan.expr.lexer import refuse
from penstock.plan.expr.overloads import choose_overload, guarded, may_be_null, why_no_function
from penstock.plan.expr.registry import Function, Site, fill, functions, spread
from penstock.plan.expr.syntax import (
    Between,
    Binary,
    Call,
    Case,
    Cast,
    Const,
    Index,
    Lambda,
    Member,
    Name,
    Node,
    Unary,
    quote,
    write,
)
from penstock.plan.expr.types import (
    BOOL,
    DATE,
    DURATION,
    FLOAT,
    INSTANT,
    INT,
    NULL,
    TEXT,
    Column,
    Schema,
    Type,
)
from penstock.plan.expr.user import UserFunction

__all__ = ["bind"]

_TIMES = frozenset({"instant", "date", "duration"})


def bind(
    text: str, tree: Node, schema: Schema, users: Mapping[str, UserFunction], zone: str
) -> tuple[Bound, tuple[Column, ...]]:
    """The tree of `text`, typed, and the input columns in the order of its frames.

    Raises:
        ExpressionError: it does not type.
    """
    binder = _Binder(text, schema, users, zone)
    bound = binder.bind(tree)
    return bound, tuple(schema[name] for name in binder.slots)


class _Binder:
    """Binds one tree; `slots` collects the input columns in the order of their frames."""

    def __init__(self, text: str, schema: Schema, users: Mapping[str, UserFunction], zone: str) -> None:
        self.text, self.schema, self.users, self.zone = text, schema, users, zone
        self.slots: dict[str, int] = {}

    def error(self, node: Node, reason: str, remedy: str) -> ExpressionError:
        """An error that points at the node."""
        return refuse(self.text, node.at, reason, remedy)

    def bind(self, node: Node) -> Bound:
        """The node, typed.

        Raises:
            ExpressionError: it does not type.
        """
        match node:
            case Const():
                return self.literal(node)
            case Name():
                return self.name(node)
            case Binary():
                return self.binary(node)
            case Unary():
                return self.unary(node)
            case Between():
                return self.between(node)
            case Member():
                return self.member(node)
            case Case():
                return self.case(node)
            case Cast():
                return self.cast(node)
            case Index(value=value, index=index):
                found = bind_index(self.bind(value), self.bind(index), node, self.zone)
                return found or self.mismatch(node, "[...]", self.bind(value), self.bind(index))
            case Call():
                return self.call(node)
            case Lambda():
                raise self.error(
                    node, "a lambda stands in a call of a function of lists", "write list_transform(x, ...)"
                )
        raise AssertionError(f"unknown node {node!r}")

    # leaves

    def literal(self, node: Const) -> Bound:
        match node.kind:
            case "int":
                if not -(2**63) <= node.value < 2**63:
                    raise self.error(node, "an integer literal has 64 bits", f"write {node.value}.0 for a float")
                return constant(node, INT, scalar(node.value, INT), f"CAST({node.value} AS BIGINT)", node)
            case "decimal":
                number = float(node.value)
                if number - number != 0.0:
                    raise self.error(node, "a number literal is finite", "write a smaller number")
                return constant(node, FLOAT, scalar(number + 0.0, FLOAT), f"CAST({number!r} AS DOUBLE)", node)
            case "text":
                return constant(node, TEXT, scalar(node.value, TEXT), quote(node.value), node)
            case "bool":
                return constant(node, BOOL, scalar(node.value, BOOL), str(node.value).upper(), node)
            case "null":
                return constant(node, NULL, scalar(None, NULL), "NULL", node)
            case "duration":
                if not -(2**63) <= node.value < 2**63:
                    raise self.error(node, "a duration has 64 bits of microseconds", "write a shorter duration")
                return constant(node, DURATION, scalar(node.value, DURATION), f"to_microseconds({node.value})", node)
        kind, reader = (DATE, parse_date) if node.kind == "date" else (INSTANT, parse_instant)
        value = reader(node.value)
        if value is None:
            remedy = (
                "write DATE '2013-01-31'"
                if kind == DATE
                else "write TIMESTAMP '2013-01-31 12:00:00Z', with Z or an offset"
            )
            raise self.error(node, f"{node.value!r} is no {kind}", remedy)
        return constant(node, kind, scalar(value, kind), operators.literal_sql(kind, node.value), node)

    def name(self, node: Name) -> Bound:
        for n in range(len(node.parts), 0, -1):
            column = self.schema.get(".".join(node.parts[:n]))
            if column is not None:
                return self.fields(self.column(column, node), node.parts[n:], node)
        whole = ".".join(node.parts)
        remedy = nearest(whole, self.schema)
        if node.parts[0].lower() in functions() and len(node.parts) == 1:
            remedy = f"{remedy}; the function is called as {node.parts[0]}(...)"
        raise self.error(node, f"there is no column {whole}", remedy)

    def column(self, column: Column, node: Name) -> Bound:
        slot = self.slots.setdefault(column.name, len(self.slots) + 1)

        def run(frame: list[Any]) -> Any:
            return frame[slot]

        name = '"' + column.name.replace('"', '""') + '"'
        return Bound(node, column.type, column.nullable, frozenset((column.name,)), run, (), name)

    def fields(self, value: Bound, parts: Sequence[str], node: Node) -> Bound:
        for part in parts:
            if value.type.name != "struct":
                raise self.error(
                    node, f"{write(value.node)} is {value.type} and has no field {part}", "remove the field"
                )
            known = dict(value.type.args)
            if part not in known:
                raise self.error(node, f"{write(value.node)} has no field {part}", nearest(part, known))
            value = struct_field(value, part, node)
        return value

    # operators

    def binary(self, node: Binary) -> Bound:
        op = node.op
        if op in ("->", "->>"):
            name = "json_extract" if op == "->" else "json_extract_string"
            return self.call(Call(name, (node.left, node.right), at=node.at))
        left, right = self.bind(node.left), self.bind(node.right)
        found: Bound | None
        if op in operators.ARITHMETIC:
            found = operators.arithmetic(op, left, right, node, self.zone)
        elif op in ("AND", "OR"):
            found = logic.logical(op, left, right, node, self.zone)
        elif op in logic.COMPARISONS:
            found = logic.compare(op, left, right, node, self.zone)
        elif op == "IS DISTINCT FROM":
            found = logic.distinct(left, right, node, self.zone)
        elif op == "||" and "list" in (left.type.name, right.type.name):
            return self.call(Call("list_concat", (node.left, node.right), at=node.at))
        elif op == "||":
            found = logic.concat(left, right, node, self.zone)
        else:
            found = logic.like(op, left, right, node, self.zone)
        return found or self.mismatch(node, op, left, right)

    def mismatch(self, node: Node, op: str, *operands: Bound) -> Bound:
        """Raises the error for operands that an operator does not take."""
        kinds = " and ".join(str(o.type) for o in operands)
        remedy = "CAST one side to the type of the other"
        for one in operands:
            if one.literal is not None and one.literal.kind == "text" and {o.type.name for o in operands} & _TIMES:
                remedy = "an instant is written '2013-01-31 12:00:00Z' (with Z or an offset), a date '2013-01-31'"
        raise self.error(node, f"{op} does not take {kinds}", remedy)

    def unary(self, node: Unary) -> Bound:
        value = self.bind(node.value)
        found: Bound | None = None
        match node.op:
            case "-":
                found = operators.negate(logic.typed(value, FLOAT, self.zone), node)
            case "~":
                one = operators.convert(value, INT, self.zone)
                found = one and apply(node, arrow("bit_wise_not"), (one,), INT, one.nullable, "(~({0}))")
            case "NOT":
                held = logic.boolean(value, self.zone)
                found = held and apply(node, arrow("invert"), (held,), BOOL, held.nullable, "(NOT {0})")
            case "IS NULL":
                found = apply(node, arrow("is_null"), (value,), BOOL, False, "({0} IS NULL)")
            case "IS TRUE" | "IS FALSE":
                held = logic.boolean(value, self.zone)
                kernel = logic.is_true if node.op == "IS TRUE" else logic.is_false
                found = held and apply(node, kernel, (held,), BOOL, False, f"({{0}} {node.op})")
        return found or self.mismatch(node, node.op, value)

    def between(self, node: Between) -> Bound:
        value, low, high = self.bind(node.value), self.bind(node.low), self.bind(node.high)
        above = logic.compare(">=", value, low, node, self.zone)
        below = logic.compare("<=", value, high, node, self.zone)
        found = above and below and logic.logical("AND", above, below, node, self.zone)
        return found or self.mismatch(node, "BETWEEN", value, low, high)

    def member(self, node: Member) -> Bound:
        value, items = self.bind(node.value), [self.bind(item) for item in node.items]
        found = logic.member(value, items, node, self.zone)
        return self.mismatch(node.items[found], "IN", value, items[found]) if isinstance(found, int) else found

    def case(self, node: Case) -> Bound:
        conditions, values = [], []
        for condition, value in node.whens:
            bound = self.bind(condition)
            held = logic.boolean(bound, self.zone)
            if held is None:
                raise self.error(condition, f"WHEN takes a bool, not {bound.type}", "write a comparison")
            conditions.append(held)
            values.append(self.bind(value))
        branches = self.together([*values, self.bind(node.otherwise)], node, "CASE")
        return bind_case(node, conditions, branches)

    def together(self, values: Sequence[Bound], node: Node, what: str) -> list[Bound]:
        """Values brought to their common type."""
        held = values[0]
        for value in values[1:]:
            pair = operators.unify(held, value, self.zone)
            if pair is None:
                self.mismatch(node, what, held, value)
            else:
                held = pair[0] if pair[0].type != NULL else pair[1]
        found = [operators.convert(value, held.type, self.zone) for value in values]
        if held.type == NULL or None in found:
            raise self.error(node, f"{what} has no type: all its values are NULL", "write CAST(NULL AS float)")
        return [value for value in found if value is not None]

    def cast(self, node: Cast) -> Bound:
        value, target = self.bind(node.value), Type.parse(node.target)
        if value.literal is not None and value.literal.kind == "decimal" and target.name == "decimal":
            adapted = operators.literal_decimal(value)
            value = (adapted and operators.convert(value, adapted, self.zone)) or value
        found = operators.cast(value, target, self.zone)
        if found is None:
            remedy = _CAST_REMEDIES.get((value.type.name, target.name), "there is no such cast")
            raise self.error(node, f"{value.type} does not cast to {target}", remedy)
        found.literal = None
        return found

    # calls

    def call(self, node: Call) -> Bound:
        name = node.name
        user = self.users.get(name)
        if user is not None:
            return self.user_call(user, node)
        if name == "struct_extract":
            return self.extract(node)
        function = functions().get(name)
        if function is None:
            raise self.error(node, *why_no_function(name, self.users))
        if any(isinstance(arg, Lambda) for arg in node.args):
            return self.with_lambda(function, node)
        args = [self.bind(arg) for arg in node.args]
        chosen = choose_overload(function.overloads, args, self.zone)
        if chosen is None:
            shown = ", ".join(str(a.type) for a in args)
            known = "; or ".join(o.signature for o in function.overloads)
            raise self.error(node, f"{function.name} does not take ({shown})", f"it is {known}")
        _, overload, types, variables = chosen
        params = spread(overload, len(args))
        constants: list[Any] = []
        for at, (arg, param, kind) in enumerate(zip(args, params, types, strict=True)):
            converted = operators.convert(arg, kind, self.zone)
            assert converted is not None, (arg.type, kind)
            args[at] = converted
            if param.constant and (converted.scalar is None or converted.value is None):
                raise self.error(
                    node.args[at], f"argument {at + 1} of {function.name} is a literal", "write its value out"
                )
            constants.append(converted.value if param.constant else None)
        site = Site(types, tuple(constants), self.zone, self.refuser(node))
        site.result = overload.result(site) if callable(overload.result) else fill(overload.result, NULL, variables)
        kernel = overload.make(site)
        runtime = [arg for arg, held in zip(args, constants, strict=True) if held is None]
        found = apply(node, kernel, runtime, site.result, may_be_null(overload.nulls, args), None)
        found.args = tuple(args)
        found.template = guarded(overload.duckdb, site.result)
        return found

    def with_lambda(self, function: Function, node: Call) -> Bound:
        """A call whose last argument is a lambda over the elements of the list before it."""
        overload = next((o for o in function.overloads if o.params[-1].pattern.name == "lambda"), None)
        if overload is None:
            known = "; or ".join(o.signature for o in function.overloads)
            raise self.error(node, f"{function.name} takes no lambda", f"it is {known}")
        match node.args:
            case (given, Lambda() as made) if len(made.params) <= 2:
                lists = self.bind(given)
            case _:
                raise self.error(
                    node, f"{function.name} takes a list, and a lambda of an element or of an element and its position",
                    f"write {function.name}(x, lambda v: ...) or {function.name}(x, lambda v, i: ...)",
                )  # fmt: skip
        if lists.type.name != "list":
            raise self.error(given, f"{function.name} takes a list, not {lists.type}", f"it is {overload.signature}")
        body, captured = self.body(made, lists.type.element)
        site = Site((lists.type, body.bound.type), (None, body), self.zone, self.refuser(node))
        site.result = overload.result(site) if callable(overload.result) else lists.type
        kernel, args = overload.make(site), [lists, *captured]
        if body.bound.calls:  # a plan runs no user's code, so nothing is worked out beforehand

            def run(frame: Frame) -> Any:
                return kernel(*[vector(arg.run(frame), frame[0]) for arg in args])

            columns = frozenset[str]().union(*(arg.columns for arg in args))
            found = Bound(node, site.result, lists.nullable, columns, run, calls=True)
        else:
            found = apply(node, kernel, args, site.result, lists.nullable, None)
        names = ", ".join('"' + name.replace('"', '""') + '"' for name in made.params)
        names = names.replace("{", "{{").replace("}", "}}")
        found.args = (lists, body.bound)
        found.template = f"{function.name}({{0}}, lambda {names}: {{1}})"
        return found

    def body(self, made: Lambda, element: Type) -> tuple[Body, list[Bound]]:
        """A lambda's body, typed, and the columns of this scope that it captures."""
        fields = tuple(f"{name}." for name in made.params)
        outer = [c for c in self.schema.columns if c.name not in made.params and not c.name.startswith(fields)]
        own = [Column(made.params[0], element), *(Column(name, INT, False) for name in made.params[1:])]
        inner = _Binder(self.text, Schema([*outer, *own]), self.users, self.zone)
        bound = inner.bind(made.body)
        inputs, captured = list[int](), list[Bound]()
        for name in inner.slots:
            if name in made.params:
                inputs.append((ELEMENT, INDEX)[made.params.index(name)])
            else:
                inputs.append(len(captured))
                captured.append(self.column(self.schema[name], Name((name,), at=made.at)))
        return Body(bound, tuple(inputs)), captured

    def extract(self, node: Call) -> Bound:
        match node.args:
            case (value, Const(kind="text", value=field)):
                return self.fields(self.bind(value), (field,), node)
        raise self.error(
            node, "struct_extract takes a struct and a field", "write struct_extract(x, 'field') or x.field"
        )

    def refuser(self, node: Call) -> Callable[[int, str, str], ExpressionError]:
        return lambda at, reason, remedy: self.error(node.args[at] if node.args else node, reason, remedy)

    def user_call(self, user: UserFunction, node: Call) -> Bound:
        args = [self.bind(arg) for arg in node.args]
        if len(args) != len(user.arguments):
            raise self.error(
                node, f"{user.name} takes {len(user.arguments)} arguments, not {len(args)}", user.signature
            )
        for at, (arg, kind) in enumerate(zip(args, user.arguments, strict=True)):
            converted = operators.convert(arg, kind, self.zone)
            if converted is None:
                raise self.error(
                    node.args[at],
                    f"argument {at + 1} of {user.name} is {kind}, not {arg.type}",
                    f"it is {user.signature}",
                )
            args[at] = converted
        skipped = any(a.nullable and not o for a, o in zip(args, user.optional, strict=True))
        if not args:
            raise self.error(node, f"{user.name} takes no column", "a row function has at least one argument")
        kernel = user.kernel()
        if all(arg.scalar is not None for arg in args):
            # a plan runs no user's code, so a call on literals waits for rows too
            scalars = [arg.scalar for arg in args]

            def run(frame: Frame) -> Any:
                return pa.repeat(kernel(*scalars)[0], frame[0])

            return Bound(node, user.result, user.nullable or skipped, frozenset(), run, tuple(args), calls=True)
        found = apply(node, kernel, args, user.result, user.nullable or skipped, None)
        found.calls = True
        return found


_CAST_REMEDIES = {
    ("instant", "int"): "write epoch_us(x), epoch_ms(x) or epoch(x)",
    ("int", "instant"): "write instant_us(x) or instant_ms(x)",
    ("float", "instant"): "write to_timestamp(seconds)",
    ("duration", "int"): "write epoch_us(x)",
    ("duration", "float"): "write epoch(x), its seconds",
    ("int", "duration"): "write to_seconds(n), to_hours(n)...",
}
