"""Thrift's compact protocol, as far as Parquet's footer and page headers need it.

Strict where a stranger could make two readers disagree: what a shape does not name is refused,
a field comes once and in rising order, every number fits its width. So whatever this module
accepts, any other reader reads in the same way.

A validator reads a quarter of a million page headers an epoch, so a shape is made into a Plan once,
and one loop reads a struct by it.

Source: Apache Thrift, "Thrift Compact protocol encoding".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

BOOL: Final = "bool"
BYTE: Final = "byte"
I16: Final = "i16"
I32: Final = "i32"
I64: Final = "i64"
BINARY: Final = "binary"

_WIRE_TYPES: Final = {BYTE: 3, I16: 4, I32: 5, I64: 6, BINARY: 8}
_BOOL: Final = -1
_BINARY: Final = 8
_LIST: Final = 9
_STRUCT: Final = 12
_BITS: Final = {BYTE: 8, I16: 16, I32: 32, I64: 64}
_LONG_VARINT: Final = 10
_LAST_FIELD: Final = 0x7FFF


class ThriftFault(ValueError):
    """The bytes are not in the shape that was asked for."""


@dataclass(frozen=True)
class ListOf:
    """A list whose items are all of one type."""

    item: Any


Shape = Mapping[int, Any]
"""What a struct may hold: field number to one of the type names, a ListOf, or a Shape."""


class Plan:
    """A shape made ready for reading."""

    def __init__(self, shape: Shape) -> None:
        self.fields: Mapping[int, _Kind] = {n: _Kind(kind) for n, kind in shape.items()}


class _Kind:
    """One type: its number on the wire (none for a boolean, which has two), and what is inside."""

    __slots__ = ("bits", "item", "plan", "wire")

    def __init__(self, kind: Any) -> None:
        self.bits = 0
        self.item: _Kind | None = None
        self.plan: Plan | None = None
        if isinstance(kind, ListOf):
            self.wire, self.item = _LIST, _Kind(kind.item)
        elif isinstance(kind, Mapping):
            self.wire, self.plan = _STRUCT, Plan(kind)  # pyright: ignore[reportUnknownArgumentType]
        elif kind == BOOL:
            self.wire = _BOOL
        else:
            self.wire = _WIRE_TYPES[kind]
            self.bits = _BITS.get(kind, 0)


class ThriftReader:
    """Reads structs from bytes, from ``position`` on, which then stands behind what was read."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self._data = data
        self.position = position

    def struct(self, shape: Shape | Plan) -> dict[int, Any]:
        """One struct as field number to value.

        Raises:
            ThriftFault: where the bytes end, or are not in this shape.
        """
        plan = shape if isinstance(shape, Plan) else Plan(shape)
        try:
            values, self.position = _struct(self._data, self.position, plan)
        except IndexError:
            raise ThriftFault("the bytes end too early") from None
        return values


# Each of these takes the bytes and where to read, and gives the value and where it ended. A byte
# beyond the end is an IndexError.


def _struct(data: bytes, at: int, plan: Plan) -> tuple[dict[int, Any], int]:
    values: dict[int, Any] = {}
    fields = plan.fields
    number = 0
    while header := data[at]:
        at += 1
        wire = header & 0x0F
        if header > 0x0F:
            number += header >> 4
            if number > _LAST_FIELD:
                raise ThriftFault("fields are out of order")
        else:
            number, at = _far_field(data, at, number)
        kind = fields.get(number)
        if kind is None:
            raise ThriftFault(f"field {number} is not known here")
        if wire == kind.wire:
            # Most are numbers of one byte, which are worth no call.
            if kind.bits > 8 and (raw := data[at]) < 0x80:
                values[number] = (raw >> 1) ^ -(raw & 1)
                at += 1
            else:
                values[number], at = _value(data, at, kind)
        elif kind.wire == _BOOL and wire in (1, 2):  # a field's header holds the boolean itself
            values[number] = wire == 1
        else:
            raise ThriftFault("a field is of another type")
    return values, at + 1


def _far_field(data: bytes, at: int, before: int) -> tuple[int, int]:
    """A field's number that stands for itself, as it is too far from the one before."""
    raw, at = _varint(data, at)
    number = _zigzag(raw, 16)
    if not before < number <= _LAST_FIELD:
        raise ThriftFault("fields are out of order")
    return number, at


def _value(data: bytes, at: int, kind: _Kind) -> tuple[Any, int]:
    if kind.bits > 8:
        raw, at = _varint(data, at)
        return _zigzag(raw, kind.bits), at
    if kind.wire == _BINARY:
        size, at = _varint(data, at)
        stop = at + size
        if stop > len(data):
            raise ThriftFault("the bytes end too early")
        return data[at:stop], stop
    if kind.plan is not None:
        return _struct(data, at, kind.plan)
    if kind.item is not None:
        return _list(data, at, kind.item)
    raw = data[at]  # a byte
    return raw - 0x100 if raw > 0x7F else raw, at + 1


def _list(data: bytes, at: int, item: _Kind) -> tuple[list[Any], int]:
    header = data[at]
    at += 1
    size = header >> 4
    if size == 0x0F:
        size, at = _varint(data, at)
    # Every item takes a byte at least, so a longer list than that is a lie.
    if header & 0x0F != item.wire or size > len(data) - at:
        raise ThriftFault("a list is of another type, or longer than the bytes")
    values: list[Any] = []
    for _ in range(size):
        value, at = _value(data, at, item)
        values.append(value)
    return values, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = data[at]
    if value < 0x80:
        return value, at + 1
    value &= 0x7F
    for index in range(1, _LONG_VARINT):
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ThriftFault("a number does not end")


def _zigzag(raw: int, bits: int) -> int:
    if raw >> bits:
        raise ThriftFault(f"a number does not fit into {bits} bits")
    return (raw >> 1) ^ -(raw & 1)
