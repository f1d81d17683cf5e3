"""Thrift's compact protocol, as far as Parquet's footer and page headers need it.

Strict where a stranger could make two readers disagree: what a shape does not name is refused,
a field comes once and in rising order, every number fits its width. So whatever this module
accepts, any other reader reads in the same way.

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
_LIST: Final = 9
_STRUCT: Final = 12
_BITS: Final = {BYTE: 8, I16: 16, I32: 32, I64: 64}
_LONG_VARINT: Final = 10


class ThriftFault(ValueError):
    """The bytes are not in the shape that was asked for."""


@dataclass(frozen=True)
class ListOf:
    """A list whose items are all of one type."""

    item: Any


Shape = Mapping[int, Any]
"""What a struct may hold: field number to one of the type names, a ListOf, or a Shape."""


class ThriftReader:
    """Reads structs from bytes, from ``position`` on, which then stands behind what was read."""

    def __init__(self, data: bytes, position: int = 0, end: int | None = None) -> None:
        self._data = data
        self._end = len(data) if end is None else end
        self.position = position

    def struct(self, shape: Shape) -> dict[int, Any]:
        """One struct as field number to value.

        Raises:
            ThriftFault: where the bytes end, or are not in this shape.
        """
        values: dict[int, Any] = {}
        field = 0
        while header := self._byte():
            field = self._field_number(header >> 4, field)
            if field not in shape:
                raise ThriftFault(f"field {field} is not known here")
            values[field] = self._field(shape[field], header & 0x0F)
        return values

    def _field_number(self, step: int, before: int) -> int:
        number = before + step if step else self._number(16)
        if not before < number <= 0x7FFF:
            raise ThriftFault("fields are out of order")
        return number

    def _field(self, kind: Any, wire: int) -> Any:
        if kind == BOOL:  # a field's header holds the boolean itself
            if wire not in (1, 2):
                raise ThriftFault("a field is of another type")
            return wire == 1
        if wire != _wire_type(kind):
            raise ThriftFault("a field is of another type")
        return self._value(kind)

    def _value(self, kind: Any) -> Any:
        if isinstance(kind, ListOf):
            return self._list(kind.item)
        if isinstance(kind, Mapping):
            return self.struct(kind)
        if kind == BINARY:
            return self._take(self._varint())
        if kind == BYTE:
            return int.from_bytes(self._take(1), "little", signed=True)
        return self._number(_BITS[kind])

    def _list(self, item: Any) -> list[Any]:
        header = self._byte()
        size = header >> 4
        if size == 0x0F:
            size = self._varint()
        # Every item takes a byte at least, so a longer list than that is a lie.
        if header & 0x0F != _wire_type(item) or size > self._end - self.position:
            raise ThriftFault("a list is of another type, or longer than the bytes")
        return [self._value(item) for _ in range(size)]

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, count: int) -> bytes:
        start, stop = self.position, self.position + count
        if stop > self._end:
            raise ThriftFault("the bytes end too early")
        self.position = stop
        return self._data[start:stop]

    def _varint(self) -> int:
        value = 0
        for index in range(_LONG_VARINT):
            byte = self._byte()
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value
        raise ThriftFault("a number does not end")

    def _number(self, bits: int) -> int:
        """A zigzag varint of so many bits."""
        raw = self._varint()
        if raw >> bits:
            raise ThriftFault(f"a number does not fit into {bits} bits")
        return (raw >> 1) ^ -(raw & 1)


def _wire_type(kind: Any) -> int:
    if isinstance(kind, ListOf):
        return _LIST
    if isinstance(kind, Mapping):
        return _STRUCT
    return _WIRE_TYPES[kind]
