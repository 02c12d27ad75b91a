"""Value types of Penstock, independent of any engine, and the schemas made of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pyarrow as pa

from penstock.errors import PlanError, nearest

__all__ = ["BOOL", "BYTES", "DATE", "DURATION", "FLOAT", "INSTANT", "INT", "JSON", "NULL", "TEXT", "Type"]
__all__ += ["Column", "Schema", "decimal", "list_of", "map_of", "struct_of"]

MAX_PRECISION = 38


@dataclass(frozen=True, slots=True)
class Type:
    """A value type: bool, int, float, decimal(p,s), text, date, instant, duration, bytes, json, list, map, struct.

    An instant is UTC microseconds, a duration microseconds (a day is 24 h), an int 64 bits, a float 64 bits.

    >>> str(Type.parse("map<text,decimal(12, 2)>"))
    'map<text, decimal(12,2)>'
    """

    name: str
    args: tuple[Any, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Type:
        """Reads a type as `str(type)` writes it, or by its SQL name (BIGINT, DOUBLE, VARCHAR, TIMESTAMPTZ...).

        Raises:
            PlanError: the text names no type.
        """
        return _parse(text)

    @classmethod
    def from_arrow(cls, dt: pa.DataType, zone: str | None = None) -> Type:
        """The type that holds every value of an Arrow type; narrow integers and floats widen, dictionaries unpack.

        Args:
            dt: the Arrow type.
            zone: the zone of local timestamps, if the source names one; the caller converts the values.

        Raises:
            PlanError: no type holds it: a local timestamp without a zone, a time of day, a decimal above 38 digits.
        """
        return _from_arrow(dt, zone)

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type in which values of this type travel."""
        return _arrow(self)

    @property
    def numeric(self) -> bool:
        """True for int, float and decimal."""
        return self.name in _NUMERIC

    @property
    def element(self) -> Type:
        """The element type of a list, the value type of a map."""
        element: Type = self.args[-1]
        return element

    @property
    def precision(self) -> int:
        """Digits of a decimal, or of the decimal that holds every int."""
        return int(self.args[0]) if self.name == "decimal" else 19

    @property
    def scale(self) -> int:
        """Digits after the point of a decimal; 0 for an int."""
        return int(self.args[1]) if self.name == "decimal" else 0

    def __str__(self) -> str:
        match self.name:
            case "decimal":
                return f"decimal({self.args[0]},{self.args[1]})"
            case "list" | "map":
                return f"{self.name}<{', '.join(map(str, self.args))}>"
            case "struct":
                return f"struct<{', '.join(f'{name}: {kind}' for name, kind in self.args)}>"
        return self.name


BOOL, INT, FLOAT, TEXT = Type("bool"), Type("int"), Type("float"), Type("text")
DATE, INSTANT, DURATION = Type("date"), Type("instant"), Type("duration")
BYTES, JSON = Type("bytes"), Type("json")
NULL = Type("null")  # the type of a bare NULL; no column has it

_NUMERIC = frozenset({"int", "float", "decimal"})
_SIMPLE = {t.name: t for t in (BOOL, INT, FLOAT, TEXT, DATE, INSTANT, DURATION, BYTES, JSON)}
_SQL_NAMES = {
    "boolean": BOOL, "bigint": INT, "integer": INT, "int64": INT, "int4": INT, "int8": INT, "long": INT,
    "double": FLOAT, "double precision": FLOAT, "float64": FLOAT, "float8": FLOAT,
    "varchar": TEXT, "string": TEXT, "char": TEXT, "str": TEXT,
    "timestamptz": INSTANT, "timestamp with time zone": INSTANT, "interval": DURATION,
    "blob": BYTES, "bytea": BYTES, "binary": BYTES, "varbinary": BYTES,
}  # fmt: skip


def decimal(precision: int, scale: int) -> Type:
    """The decimal of `precision` digits, `scale` of them after the point.

    Raises:
        PlanError: not 1 <= precision <= 38, or not 0 <= scale <= precision.
    """
    if not (1 <= precision <= MAX_PRECISION and 0 <= scale <= precision):
        raise PlanError(
            "a decimal has 1 to 38 digits and a scale of 0 to that many",
            found=f"decimal({precision},{scale})",
            remedy="choose a smaller precision or scale, or float",
        )
    return Type("decimal", (precision, scale))


def list_of(element: Type) -> Type:
    """The list of `element`."""
    return Type("list", (element,))


def map_of(key: Type, value: Type) -> Type:
    """The map from `key` to `value`."""
    return Type("map", (key, value))


def struct_of(fields: Mapping[str, Type]) -> Type:
    """The struct of named fields, in their order."""
    return Type("struct", tuple(fields.items()))


@lru_cache(maxsize=4096)
def _arrow(kind: Type) -> pa.DataType:
    match kind.name:
        case "decimal":
            return pa.decimal128(*kind.args)
        case "list":
            return pa.list_(kind.element.arrow)
        case "map":
            return pa.map_(kind.args[0].arrow, kind.args[1].arrow)
        case "struct":
            return pa.struct([pa.field(name, t.arrow) for name, t in kind.args])
    return _ARROW[kind.name]


_ARROW = {
    "bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "text": pa.string(), "date": pa.date32(),
    "instant": pa.timestamp("us", tz="UTC"), "duration": pa.duration("us"), "bytes": pa.binary(),
    "json": pa.string(), "null": pa.null(),
}  # fmt: skip

_JSON_TYPES: tuple[type, ...] = (pa.JsonType,) if hasattr(pa, "JsonType") else ()  # from pyarrow 19 on

_TOKEN = re.compile(r"\s*(?:([A-Za-z_]\w*|\d+)|\"([^\"]+)\"|([<>(),:\[\]]))")


class _Reader:
    """Recursive descent over the text of a type."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, at = text, [], 0
        while at < len(text.rstrip()):
            found = _TOKEN.match(text, at)
            if not found:
                raise self.wrong()
            self.tokens.append(found[1] or found[2] or found[3])
            at = found.end()
        self.at = 0

    def wrong(self) -> PlanError:
        names = [*_SIMPLE, *_SQL_NAMES, "decimal", "list", "map", "struct"]
        return PlanError(
            "this is no type",
            found=repr(self.text),
            remedy=nearest(self.text.split("(")[0].split("<")[0].lower(), names),
        )

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise self.wrong()
        self.at += 1
        return token

    def type(self) -> Type:
        name = self.take().lower()
        if name in ("double", "timestamp") and self.peek().lower() in ("precision", "with"):
            while self.peek().isalpha():
                name += " " + self.take().lower()
        kind = self._named(name)
        while self.peek() == "[":
            self.take("[")
            self.take("]")
            kind = list_of(kind)
        return kind

    def _named(self, name: str) -> Type:
        if name in ("decimal", "numeric"):
            if self.peek() != "(":
                return decimal(18, 3)
            self.take("(")
            precision, scale = self._number(), 0
            if self.peek() == ",":
                self.take(",")
                scale = self._number()
            self.take(")")
            return decimal(precision, scale)
        if name in ("list", "map", "struct") and self.peek() in ("<", "("):
            close = {"<": ">", "(": ")"}[self.take()]
            kind = self._nested(name)
            self.take(close)
            return kind
        if name == "varchar" and self.peek() == "(":
            raise self.wrong()
        found = _SIMPLE.get(name) or _SQL_NAMES.get(name)
        if found is None:
            raise self.wrong()
        return found

    def _nested(self, name: str) -> Type:
        if name == "list":
            return list_of(self.type())
        if name == "map":
            key = self.type()
            self.take(",")
            return map_of(key, self.type())
        fields = {}
        while True:
            field = self.take()
            if self.peek() == ":":
                self.take(":")
            fields[field] = self.type()
            if self.peek() != ",":
                return struct_of(fields)
            self.take(",")

    def _number(self) -> int:
        token = self.take()
        if not token.isdigit():
            raise self.wrong()
        return int(token)


@lru_cache(maxsize=4096)
def _parse(text: str) -> Type:
    reader = _Reader(text)
    kind = reader.type()
    if reader.peek():
        raise reader.wrong()
    return kind


def _from_arrow(dt: pa.DataType, zone: str | None) -> Type:
    kinds = pa.types
    if isinstance(dt, _JSON_TYPES):
        return JSON
    if kinds.is_boolean(dt):
        return BOOL
    if kinds.is_uint64(dt):
        return decimal(20, 0)
    if kinds.is_integer(dt):
        return INT
    if kinds.is_floating(dt):
        return FLOAT
    if kinds.is_decimal(dt) and dt.precision <= MAX_PRECISION and 0 <= dt.scale <= dt.precision:
        return decimal(dt.precision, dt.scale)
    if kinds.is_string(dt) or kinds.is_large_string(dt) or kinds.is_string_view(dt):
        return TEXT
    if kinds.is_binary(dt) or kinds.is_large_binary(dt) or kinds.is_binary_view(dt) or kinds.is_fixed_size_binary(dt):
        return BYTES
    if kinds.is_date(dt):
        return DATE
    if kinds.is_timestamp(dt) and (dt.tz or zone):
        return INSTANT
    if kinds.is_duration(dt):
        return DURATION
    if kinds.is_null(dt):
        return NULL
    if kinds.is_dictionary(dt):
        return _from_arrow(dt.value_type, zone)
    if kinds.is_map(dt):
        return map_of(_from_arrow(dt.key_type, zone), _from_arrow(dt.item_type, zone))
    if kinds.is_list(dt) or kinds.is_large_list(dt) or kinds.is_fixed_size_list(dt):
        return list_of(_from_arrow(dt.value_type, zone))
    if kinds.is_struct(dt):
        return struct_of({field.name: _from_arrow(field.type, zone) for field in dt})
    if kinds.is_timestamp(dt):
        raise PlanError(
            "a local timestamp is no instant until a zone is named",
            found=str(dt),
            remedy="give the source a zone, as in zone='America/New_York' (or 'UTC')",
        )
    raise PlanError(
        "no value type holds this Arrow type", found=str(dt), remedy="cast the column to text, int, float or decimal"
    )


@dataclass(frozen=True, slots=True)
class Column:
    """A named, typed column; `nullable` says whether null may occur."""

    name: str
    type: Type
    nullable: bool = True

    def __str__(self) -> str:
        return f"{self.name} {self.type}{'' if self.nullable else ' not null'}"


class Schema(Mapping[str, Column]):
    """Columns by name, in order; names may hold dots. Equal and hashable by its columns.

    >>> Schema.of(tail="text", dep_delay="float?")["dep_delay"].nullable
    True
    """

    __slots__ = ("_by_name", "_hash")

    def __init__(self, columns: Iterable[Column] = ()) -> None:
        self._by_name: dict[str, Column] = {}
        for column in columns:
            if column.name in self._by_name:
                raise PlanError(
                    "a column name occurs twice", found=repr(column.name), remedy="rename one of the two columns"
                )
            self._by_name[column.name] = column
        self._hash = hash(tuple(self._by_name.values()))

    @classmethod
    def of(cls, **types: str | Type) -> Schema:
        """A schema from `name="type"`; a type that ends in `?` is nullable, others are not."""
        return cls(
            Column(name, Type.parse(t.rstrip("?")) if isinstance(t, str) else t, isinstance(t, str) and t[-1:] == "?")
            for name, t in types.items()
        )

    @classmethod
    def from_arrow(cls, schema: pa.Schema, zone: str | None = None) -> Schema:
        """The schema of an Arrow schema, column by column as `Type.from_arrow`.

        Raises:
            PlanError: a column has a type that no value type holds; the error names the column.
        """
        columns = []
        for field in schema:
            try:
                columns.append(Column(field.name, Type.from_arrow(field.type, zone), field.nullable))
            except PlanError as error:
                raise PlanError(f"column {field.name}: {error.asked}", found=error.found, remedy=error.remedy) from None
        return cls(columns)

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema in which rows of this schema travel."""
        return pa.schema([pa.field(c.name, c.type.arrow, c.nullable) for c in self._by_name.values()])

    @property
    def names(self) -> tuple[str, ...]:
        """The column names, in order."""
        return tuple(self._by_name)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns, in order."""
        return tuple(self._by_name.values())

    def column(self, name: str, where: Any = None) -> Column:
        """The column of that name.

        Raises:
            PlanError: there is none; the error names the nearest.
        """
        found = self._by_name.get(name)
        if found is None:
            raise PlanError("there is no such column", found=repr(name), remedy=nearest(name, self), where=where)
        return found

    def select(self, names: Iterable[str]) -> Schema:
        """The schema of some columns, in the order of `names`."""
        return Schema(self.column(name) for name in names)

    def plus(self, columns: Iterable[Column]) -> Schema:
        """This schema with more columns behind."""
        return Schema([*self.columns, *columns])

    def prefixed(self, prefix: str) -> Schema:
        """This schema with `prefix.` before every name."""
        return Schema(replace(column, name=f"{prefix}.{column.name}") for column in self.columns)

    def __getitem__(self, name: str) -> Column:
        return self.column(name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def get(self, name: str, default: Any = None) -> Any:
        """The column of that name, or `default`."""
        return self._by_name.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.columns == other.columns

    def __repr__(self) -> str:
        return f"Schema({', '.join(map(str, self.columns))})"
