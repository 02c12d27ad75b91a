"""A tree bound to a schema: every name resolved, every node typed, every kernel chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from penstock.errors import ExpressionError, nearest
from penstock.plan.expr import operators
from penstock.plan.expr.access import bind_index, struct_field
from penstock.plan.expr.bound import Bound, apply, constant
from penstock.plan.expr.casts import parse_date, parse_instant
from penstock.plan.expr.kernels import arrow, length_of, rowwise, scalar, vector
from penstock.plan.expr.lexer import refuse
from penstock.plan.expr.like import like_kernel, like_row, text_join
from penstock.plan.expr.registry import Site, fill, functions, match, spread
from penstock.plan.expr.syntax import (
    Between,
    Binary,
    Call,
    Case,
    Cast,
    Const,
    Index,
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
    JSON,
    NULL,
    TEXT,
    Column,
    Schema,
    Type,
)
from penstock.plan.expr.user import UserFunction

__all__ = ["bind"]

_COMPARISONS = {
    "=": "equal", "<>": "not_equal", "<": "less", ">": "greater", "<=": "less_equal", ">=": "greater_equal",
}  # fmt: skip
_AGGREGATE_NAMES = """
count sum avg mean min max first last any_value median mode stddev stddev_samp stddev_pop var_samp var_pop variance
array_agg list string_agg group_concat bool_and bool_or arg_min arg_max approx_count_distinct quantile corr
approx_quantile histogram
"""
_AGGREGATES = frozenset(_AGGREGATE_NAMES.split())
_WINDOWS = frozenset({"row_number", "rank", "dense_rank", "lag", "lead", "ntile", "percent_rank", "nth_value"})
_WINDOWS |= {"first_value", "last_value"}
_IMPURE = {
    "now": "pass the instant as a column", "current_timestamp": "pass the instant as a column",
    "current_date": "pass the instant as a column", "today": "windows so far today are said in a group: ps.today(zone)",
    "random": "derive it from the row: hash64(id)", "uuid": "derive it from the row: sha256(id)",
    "gen_random_uuid": "derive it from the row: sha256(id)",
}  # fmt: skip
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
            found = self.logical(op, left, right, node)
        elif op in _COMPARISONS:
            found = self.compare(op, left, right, node)
        elif op == "IS DISTINCT FROM":
            found = self.distinct(left, right, node)
        elif op == "||":
            found = self.concat(left, right, node)
        else:
            found = self.like(op, left, right, node)
        return found or self.mismatch(node, op, left, right)

    def mismatch(self, node: Node, op: str, *operands: Bound) -> Bound:
        """Raises the error for operands that an operator does not take."""
        kinds = " and ".join(str(o.type) for o in operands)
        remedy = "CAST one side to the type of the other"
        for one in operands:
            if one.literal is not None and one.literal.kind == "text" and {o.type.name for o in operands} & _TIMES:
                remedy = "an instant is written '2013-01-31 12:00:00Z' (with Z or an offset), a date '2013-01-31'"
        raise self.error(node, f"{op} does not take {kinds}", remedy)

    def logical(self, op: str, left: Bound, right: Bound, node: Node) -> Bound | None:
        one, two = self.boolean(left), self.boolean(right)
        if one is None or two is None:
            return None
        kernel = arrow("and_kleene" if op == "AND" else "or_kleene")
        return apply(node, kernel, (one, two), BOOL, one.nullable or two.nullable, f"({{0}} {op} {{1}})")

    def boolean(self, value: Bound) -> Bound | None:
        return value if value.type == BOOL else operators.cast(value, BOOL, self.zone) if value.type == NULL else None

    def compare(self, op: str, left: Bound, right: Bound, node: Node) -> Bound | None:
        pair = operators.unify(left, right, self.zone)
        if pair is None:
            return None
        kind = pair[0].type
        nullable = pair[0].nullable or pair[1].nullable
        text = f"({{0}} {op} {{1}})"
        if kind == NULL:
            return apply(node, arrow(_COMPARISONS[op]), [self.typed(p, INT) for p in pair], BOOL, True, text)
        if kind.name in ("list", "map", "struct"):
            if op not in ("=", "<>"):
                return None
            same = rowwise(_same if op == "=" else _different, (kind, kind), BOOL)
            return apply(node, same, pair, BOOL, nullable, text)
        return apply(node, arrow(_COMPARISONS[op]), pair, BOOL, nullable, text)

    def typed(self, value: Bound, kind: Type) -> Bound:
        """A NULL of unknown type given one."""
        return (operators.cast(value, kind, self.zone) or value) if value.type == NULL else value

    def distinct(self, left: Bound, right: Bound, node: Node) -> Bound | None:
        pair = operators.unify(left, right, self.zone)
        if pair is None or pair[0].type.name in ("list", "map", "struct"):
            return None
        pair = self.typed(pair[0], INT), self.typed(pair[1], INT)
        text = "({0} IS DISTINCT FROM {1})"
        return apply(node, _distinct_kernel(), pair, BOOL, False, text)

    def concat(self, left: Bound, right: Bound, node: Node) -> Bound | None:
        if left.type.name == "list" or right.type.name == "list":
            return self.call(Call("list_concat", (left.node, right.node), at=node.at))
        one, two = self.as_text(left), self.as_text(right)
        if one is None or two is None:
            return None
        kernel = text_join("emit_null")
        return apply(node, kernel, (one, two), TEXT, one.nullable or two.nullable, "({0} || {1})")

    def as_text(self, value: Bound) -> Bound | None:
        if value.type.name in ("list", "map", "struct", "bytes"):
            return None
        return operators.cast(value, TEXT, self.zone)

    def like(self, op: str, left: Bound, right: Bound, node: Node) -> Bound | None:
        one, two = self.typed(left, TEXT), self.typed(right, TEXT)
        if one.type not in (TEXT, JSON) or two.type != TEXT:
            return None
        nullable = one.nullable or two.nullable
        text = f"({{0}} {op} {{1}})"
        if two.scalar is not None and two.value is not None:
            whole = apply(node, like_kernel(two.value, op == "ILIKE"), (one,), BOOL, nullable, text)
            whole.args = (one, two)
            return whole
        run = rowwise(lambda v, p: like_row(v, p, op == "ILIKE"), (TEXT, TEXT), BOOL)
        return apply(node, run, (one, two), BOOL, nullable, text)

    def unary(self, node: Unary) -> Bound:
        value = self.bind(node.value)
        found: Bound | None = None
        match node.op:
            case "-":
                found = operators.negate(self.typed(value, FLOAT), node)
            case "~":
                one = operators.convert(value, INT, self.zone)
                found = one and apply(node, arrow("bit_wise_not"), (one,), INT, one.nullable, "(~({0}))")
            case "NOT":
                held = self.boolean(value)
                found = held and apply(node, arrow("invert"), (held,), BOOL, held.nullable, "(NOT {0})")
            case "IS NULL":
                found = apply(node, arrow("is_null"), (value,), BOOL, False, "({0} IS NULL)")
            case "IS TRUE" | "IS FALSE":
                held = self.boolean(value)
                kernel = _is_true if node.op == "IS TRUE" else _is_false
                found = held and apply(node, kernel, (held,), BOOL, False, f"({{0}} {node.op})")
        return found or self.mismatch(node, node.op, value)

    def between(self, node: Between) -> Bound:
        value, low, high = self.bind(node.value), self.bind(node.low), self.bind(node.high)
        above, below = self.compare(">=", value, low, node), self.compare("<=", value, high, node)
        if above is None or below is None:
            return self.mismatch(node, "BETWEEN", value, low, high)
        return self.logical("AND", above, below, node) or self.mismatch(node, "BETWEEN", value)

    def member(self, node: Member) -> Bound:
        value = self.bind(node.value)
        found: Bound | None = None
        for item in node.items:
            bound = self.bind(item)
            equal = self.compare("=", value, bound, item)
            if equal is None:
                return self.mismatch(item, "IN", value, bound)
            found = equal if found is None else self.logical("OR", found, equal, node)
        assert found is not None
        return found

    def case(self, node: Case) -> Bound:
        conditions, values = [], []
        for condition, value in node.whens:
            bound = self.bind(condition)
            held = self.boolean(bound)
            if held is None:
                raise self.error(condition, f"WHEN takes a bool, not {bound.type}", "write a comparison")
            conditions.append(held)
            values.append(self.bind(value))
        branches = self.together([*values, self.bind(node.otherwise)], node, "CASE")
        kind = branches[0].type
        n = len(conditions)

        def kernel(*args: Any) -> Any:
            rows = length_of(args)
            found = args[-1]
            for at in range(n - 1, -1, -1):
                found = _choose(args[at], args[n + at], found)
            return vector(found, rows)

        def template(texts: list[str]) -> str:
            whens = "".join(f" WHEN {texts[at]} THEN {texts[n + at]}" for at in range(n))
            return f"(CASE{whens} ELSE {texts[-1]} END)"

        nullable = any(b.nullable for b in branches)
        return apply(node, kernel, (*conditions, *branches), kind, nullable, template)

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
            raise self.unknown(node)
        args = [self.bind(arg) for arg in node.args]
        chosen = self.overload(function.overloads, args)
        if chosen is None:
            shown = ", ".join(str(a.type) for a in args)
            known = "; or ".join(o.signature for o in function.overloads)
            raise self.error(node, f"{function.name} does not take ({shown})", f"it is {known}")
        overload, types, variables = chosen
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
        found = apply(node, kernel, runtime, site.result, _nullable(overload.nulls, args), None)
        found.args = tuple(args)
        found.template = _guarded(overload.duckdb, site.result)
        return found

    def extract(self, node: Call) -> Bound:
        match node.args:
            case (value, Const(kind="text", value=field)):
                return self.fields(self.bind(value), (field,), node)
        raise self.error(
            node, "struct_extract takes a struct and a field", "write struct_extract(x, 'field') or x.field"
        )

    def overload(self, overloads: Sequence[Any], args: Sequence[Bound]) -> Any:
        """The signature that fits with the least conversion; text literals may stand for dates and instants."""
        best: Any = None
        for overload in overloads:
            types = [arg.type for arg in args]
            found = match(overload, types)
            params = spread(overload, len(args))
            if found and any(p.constant and a.scalar is None for p, a in zip(params, args, strict=True)):
                found = (found[0] + 100, found[1], found[2])  # chosen only to say that a literal is needed
            if found is None:
                types = self.adapted(overload, args)
                found = match(overload, types)
                found = found and (found[0] + 10, found[1], found[2])
            if found is not None and (best is None or found[0] < best[0]):
                best = (found[0], overload, found[1], found[2])
        return best and best[1:]

    def adapted(self, overload: Any, args: Sequence[Bound]) -> list[Type]:
        params = spread(overload, len(args)) or ()
        types = [arg.type for arg in args]
        times = next((t for t in types if t.name in _TIMES or t.name == "decimal"), None)
        for at, (param, arg) in enumerate(zip(params, args, strict=False)):
            wanted = times if len(param.pattern.name) == 1 and times else None
            if param.pattern.name in _TIMES:
                wanted = Type(param.pattern.name)
            if wanted and arg.literal is not None and operators.convert(arg, wanted, self.zone):
                types[at] = wanted
        return types

    def refuser(self, node: Call) -> Callable[[int, str, str], ExpressionError]:
        return lambda at, reason, remedy: self.error(node.args[at] if node.args else node, reason, remedy)

    def unknown(self, node: Call) -> ExpressionError:
        name = node.name
        if name in _AGGREGATES:
            return self.error(
                node,
                f"{name} aggregates rows, an expression sees one row",
                "use it in a group: stream.by(key).over('1h').features(...)"
                + {
                    "min": "; the least of several values is least(a, b)",
                    "max": "; the greatest is greatest(a, b)",
                }.get(name, ""),
            )
        if name in _WINDOWS:
            return self.error(
                node, f"{name} is a window function", "windows are said in a group: stream.by(key).over('1h')"
            )
        if name in _IMPURE:
            return self.error(node, f"{name}() is no function of the row", _IMPURE[name])
        return self.error(node, f"there is no function {name}", nearest(name, [*functions(), *self.users]))

    def user_call(self, user: UserFunction, node: Call) -> Bound:
        args = [self.bind(arg) for arg in node.args]
        if len(args) != len(user.arguments):
            raise self.error(
                node, f"{user.name} takes {len(user.arguments)} arguments, not {len(args)}", user.signature
            )
        for at, (arg, kind) in enumerate(zip(args, user.arguments, strict=True)):
            found = operators.convert(arg, kind, self.zone)
            if found is None:
                raise self.error(
                    node.args[at],
                    f"argument {at + 1} of {user.name} is {kind}, not {arg.type}",
                    f"it is {user.signature}",
                )
            args[at] = found
        skipped = any(a.nullable and not o for a, o in zip(args, user.optional, strict=True))
        if not args:
            raise self.error(node, f"{user.name} takes no column", "a row function has at least one argument")
        return apply(node, user.kernel(), args, user.result, user.nullable or skipped, None)


_CAST_REMEDIES = {
    ("instant", "int"): "write epoch_us(x), epoch_ms(x) or epoch(x)",
    ("int", "instant"): "write instant_us(x) or instant_ms(x)",
    ("float", "instant"): "write to_timestamp(seconds)",
    ("duration", "int"): "write epoch_us(x)",
    ("duration", "float"): "write epoch(x), its seconds",
    ("int", "duration"): "write to_seconds(n), to_hours(n)...",
}


def _guarded(template: Any, kind: Type) -> Any:
    if template is None or not (kind in (INT, FLOAT) or kind.name == "decimal"):
        return template
    if callable(template):
        return lambda texts: operators.guard(template(texts), kind)
    return lambda texts: operators.guard(template.format(*texts), kind)


def _nullable(rule: str, args: Sequence[Bound]) -> bool:
    match rule:
        case "maybe":
            return True
        case "never":
            return False
        case "all":
            return all(arg.nullable for arg in args)
    return any(arg.nullable for arg in args)


_if_else, _fill_false, _fill_true = arrow("if_else"), arrow("coalesce"), arrow("coalesce")
_false, _true = scalar(False, BOOL), scalar(True, BOOL)
_invert, _and, _or = arrow("invert"), arrow("and"), arrow("or")
_equal, _is_null, _xor = arrow("equal"), arrow("is_null"), arrow("xor")


def _is_true(values: Any) -> Any:
    return _fill_false(values, _false)


def _is_false(values: Any) -> Any:
    return _invert(_fill_true(values, _true))


def _choose(condition: Any, then: Any, otherwise: Any) -> Any:
    if isinstance(condition, pa.Scalar):
        return then if condition.as_py() else otherwise
    if condition.null_count:
        condition = _fill_false(condition, _false)
    return _if_else(condition, then, otherwise)


def _same(left: Any, right: Any) -> bool:
    return bool(left == right)


def _different(left: Any, right: Any) -> bool:
    return bool(left != right)


def _distinct_kernel() -> Callable[[Any, Any], Any]:
    def run(left: Any, right: Any) -> Any:
        both = _fill_false(_equal(left, right), _false)
        neither = _and(_is_null(left), _is_null(right))
        return _invert(_or(both, neither))

    return run
