"""What is stored about a topic, and the rules by which its schema evolves."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Final

import msgspec
import pyarrow as pa

from penstock.errors import DataError, StoreError, nearest
from penstock.names import Name
from penstock.semantics.columns import is_system_column
from penstock.store.log.interface import TopicConfig

__all__ = ["Spec", "check_config", "check_schema", "evolved", "pack_config", "pack_schema", "unpack_schema"]

_MAX_PARTITIONS: Final = 1024


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """A topic as stored: its number, configuration, every version of its schema, and its first frontier slot."""

    number: int
    name: str
    config: str
    schemas: tuple[str, ...]
    slot: int
    created_us: int

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Spec:
        """Reads what `encode` wrote."""
        return msgspec.json.decode(data, type=cls)

    def encode(self) -> bytes:
        """The spec as JSON."""
        return msgspec.json.encode(self)

    def topic_config(self) -> TopicConfig:
        """The configuration the topic was created with."""
        return _config(self.config)

    def schema(self, version: int | None = None) -> pa.Schema:
        """A version of the schema, counted from 1; the newest by default.

        Raises:
            StoreError: there is no such version.
        """
        version = len(self.schemas) if version is None else version
        if not 1 <= version <= len(self.schemas):
            raise StoreError(
                f"schema version {version} of {self.name}",
                found=f"versions 1 to {len(self.schemas)}",
                remedy="ask for one of these, or for None, the newest",
            )
        return unpack_schema(self.schemas[version - 1])


@lru_cache(maxsize=1024)
def _config(text: str) -> TopicConfig:
    return msgspec.json.decode(text, type=TopicConfig)


def pack_config(config: TopicConfig) -> str:
    """A configuration as text."""
    return msgspec.json.encode(config).decode()


def pack_schema(schema: pa.Schema) -> str:
    """A schema as text."""
    return base64.b64encode(schema.serialize()).decode()


@lru_cache(maxsize=1024)
def unpack_schema(text: str) -> pa.Schema:
    """Reads what `pack_schema` wrote."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def check_schema(schema: pa.Schema, where: Name) -> None:
    """Refuses columns a topic cannot hold.

    Raises:
        DataError: a reserved or repeated name, or a dictionary type.
    """
    for field in schema:
        if is_system_column(field.name):
            raise DataError(
                "a user's column does not start with _, which is kept for system columns",
                found=repr(field.name),
                remedy="rename the column",
                where=str(where),
            )
        if pa.types.is_dictionary(field.type):
            raise DataError(
                f"column {field.name} has a plain type",
                found=str(field.type),
                remedy=f"declare it as {field.type.value_type}",
                where=str(where),
            )
    if len(set(schema.names)) != len(schema.names):
        raise DataError("column names differ", found=repr(schema.names), remedy="rename one", where=str(where))


def check_config(config: TopicConfig, schema: pa.Schema, where: Name) -> None:
    """Refuses a configuration that cannot hold.

    Raises:
        DataError: what is wrong with it.
    """

    def refuse(asked: str, found: object, remedy: str) -> None:
        raise DataError(asked, found=repr(found), remedy=remedy, where=str(where))

    if not 1 <= config.partitions <= _MAX_PARTITIONS:
        refuse(f"a topic has 1 to {_MAX_PARTITIONS} partitions", config.partitions, "choose fewer")
    if config.clock not in ("live", "source"):
        refuse("a topic's clock is 'live' or 'source'", config.clock, "name one of them")
    if config.dedup_us < 0 or (config.dedup_us and not config.ids):
        refuse("dedup_us counts from 0 and needs ids=True", config.dedup_us, "set ids=True")
    if config.corrected and not config.ids:
        refuse("corrections find their row by its id", config, "set ids=True")
    if config.corrected_us is not None and (config.corrected_us < 0 or not config.corrected):
        refuse("corrected_us counts from 0 and needs corrected=True", config.corrected_us, "set corrected=True")
    if config.carried and config.clock != "source":
        refuse("a derived topic inherits its known times", config.clock, "set clock='source'")
    for column in config.key:
        index = schema.get_field_index(column)
        if index < 0:
            refuse("a key column is a column of the topic", column, nearest(column, schema.names))
        if pa.types.is_floating(schema.field(index).type):
            refuse(
                "a key is of int, text, bool or date", str(schema.field(index)), "round it to an integer or use text"
            )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def evolved(old: pa.Schema, new: pa.Schema, where: str) -> pa.Schema:
    """The schema after a change, in the new one's order, or a refusal.

    A change may add nullable columns at any place and widen a type without loss (int32 to int64, float to double,
    a date to an instant of the same zone is no widening). It may not drop, rename, narrow, or make nullable columns
    not null.

    Raises:
        DataError: the change breaks one of these rules.
    """
    for field in old:
        index = new.get_field_index(field.name)
        if index < 0:
            raise DataError(
                f"a column of a topic stays: {field.name}",
                found=f"columns {new.names!r}",
                remedy="keep it; to rename or drop, create a new version of the topic",
                where=where,
            )
        target = new.field(index)
        if not (target.type.equals(field.type) or _widens(field.type, target.type)):
            raise DataError(
                f"column {field.name} is {field.type} or wider",
                found=str(target.type),
                remedy="widen only where no value is lost",
                where=where,
            )
        if field.nullable and not target.nullable:
            raise DataError(
                f"column {field.name} stays nullable", found="not null", remedy="declare it nullable", where=where
            )
    for field in new:
        if old.get_field_index(field.name) < 0 and not field.nullable:
            raise DataError(
                f"a new column is nullable: {field.name}",
                found="not null",
                remedy="declare it nullable; older rows have null there",
                where=where,
            )
    return new


_WIDER: Final = {
    pa.int8(): (pa.int16(), pa.int32(), pa.int64()),
    pa.int16(): (pa.int32(), pa.int64()),
    pa.int32(): (pa.int64(),),
    pa.uint8(): (pa.int16(), pa.int32(), pa.int64(), pa.uint16(), pa.uint32(), pa.uint64()),
    pa.uint16(): (pa.int32(), pa.int64(), pa.uint32(), pa.uint64()),
    pa.uint32(): (pa.int64(), pa.uint64()),
    pa.float32(): (pa.float64(),),
    pa.string(): (pa.large_string(),),
    pa.binary(): (pa.large_binary(),),
}


def _widens(old: pa.DataType, new: pa.DataType) -> bool:
    if pa.types.is_decimal(old) and pa.types.is_decimal(new):
        return bool(new.scale == old.scale and new.precision >= old.precision)
    return new in _WIDER.get(old, ())
