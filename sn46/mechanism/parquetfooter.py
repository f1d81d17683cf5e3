"""A Parquet file's footer and page headers, read without trusting them.

The libraries that decode Parquet take the footer at its word: some of what it may claim makes
them allocate without bound, and some ends the whole process, which no ``except`` can catch. So a
stranger's file is walked here first, header by header, and only what holds together and stays
within the limits is handed on.

Source: Apache Parquet format, ``parquet.thrift`` (names and numbers of all fields).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from sn46.mechanism.errors import MechanismError
from sn46.mechanism.thriftread import (
    BINARY,
    BOOL,
    BYTE,
    I16,
    I32,
    I64,
    ListOf,
    Plan,
    ThriftFault,
    ThriftReader,
)

MAX_FOOTER_BYTES: Final = 1024 * 1024
MAX_ROW_GROUPS: Final = 64
MAX_PAGES: Final = 20_000
MAX_DECODED_BYTES_PER_ROW: Final = 16 * 1024
MIN_DECODED_BYTES: Final = 1024 * 1024
"""A listing is about 300 bytes; a file that decodes to more than 16 kB a row (and more than
1 MB) is a bomb."""

MAGIC: Final = b"PAR1"
_NOTHING: Final[Mapping[int, Any]] = {}
_STATISTICS: Final = {
    1: BINARY, 2: BINARY, 3: I64, 4: I64, 5: BINARY, 6: BINARY, 7: BOOL, 8: BOOL, 9: I64,
}  # fmt: skip
KEY_VALUE: Final = {1: BINARY, 2: BINARY}
_STRING, _DATE, _TIMESTAMP, _INTEGER = 1, 6, 8, 10
_MICROS: Final = 2
_LOGICAL_TYPE: Final = {
    _STRING: _NOTHING,
    _DATE: _NOTHING,
    _TIMESTAMP: {1: BOOL, 2: {1: _NOTHING, _MICROS: _NOTHING, 3: _NOTHING}},
    _INTEGER: {1: BYTE, 2: BOOL},
}
SCHEMA_ELEMENT: Final = {
    1: I32, 2: I32, 3: I32, 4: BINARY, 5: I32, 6: I32, 7: I32, 8: I32, 9: I32, 10: _LOGICAL_TYPE,
}  # fmt: skip
_COLUMN_METADATA: Final = {
    1: I32,
    2: ListOf(I32),
    3: ListOf(BINARY),
    4: I32,
    5: I64,
    6: I64,
    7: I64,
    8: ListOf(KEY_VALUE),
    9: I64,
    10: I64,
    11: I64,
    12: _STATISTICS,
    13: ListOf({1: I32, 2: I32, 3: I32}),
    14: I64,
    15: I32,
    16: {1: I64, 2: ListOf(I64), 3: ListOf(I64)},
}
_COLUMN_CHUNK: Final = {2: I64, 3: _COLUMN_METADATA, 4: I64, 5: I32, 6: I64, 7: I32}
_ROW_GROUP: Final = {
    1: ListOf(_COLUMN_CHUNK),
    2: I64,
    3: I64,
    4: ListOf({1: I32, 2: BOOL, 3: BOOL}),
    5: I64,
    6: I64,
    7: I16,
}
FILE_SHAPE: Final = {
    1: I32,
    2: ListOf(SCHEMA_ELEMENT),
    3: I64,
    4: ListOf(_ROW_GROUP),
    5: ListOf(KEY_VALUE),
    6: BINARY,
    7: ListOf({1: _NOTHING}),
}
_PAGE_HEADER: Final = {
    1: I32,
    2: I32,
    3: I32,
    4: I32,
    5: {1: I32, 2: I32, 3: I32, 4: I32, 5: _STATISTICS},
    7: {1: I32, 2: I32, 3: BOOL},
    8: {1: I32, 2: I32, 3: I32, 4: I32, 5: I32, 6: I32, 7: BOOL, 8: _STATISTICS},
}
_FILE_PLAN: Final = Plan(FILE_SHAPE)
_PAGE_PLAN: Final = Plan(_PAGE_HEADER)
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3

_INT32, _INT64, _DOUBLE, _BYTE_ARRAY = 1, 2, 5, 6
_PHYSICAL_NAMES: Final = {
    0: "BOOLEAN", 1: "INT32", 2: "INT64", 3: "INT96", 4: "FLOAT", 5: "DOUBLE", 6: "BYTE_ARRAY",
    7: "FIXED_LEN_BYTE_ARRAY",
}  # fmt: skip
# The older way to name a logical type.
_UTF8, _CONVERTED_DATE, _CONVERTED_MICROS, _CONVERTED_INT64 = 0, 6, 10, 18
_CODECS: Final = frozenset({0, 1})
"""Uncompressed and snappy."""
_ENCODINGS: Final = frozenset({0, 2, 5, 8, 9})
"""Plain, dictionary (two names of it), delta for numbers, split bytes: what writers use by
themselves. Not DELTA_BYTE_ARRAY: each of its values may repeat all of the one before it, so a
page has no bound on what it decodes to."""


class FileSchemaFault(MechanismError):
    """The bytes are no Parquet file, or not one with these columns and types."""


class FileSizeFault(MechanismError):
    """The file claims more rows, row groups, pages or decoded bytes than are allowed."""


@dataclass(frozen=True)
class Extent:
    """How much a file holds: what it costs to read is bounded by these."""

    rows: int
    pages: int
    footer_bytes: int
    decoded_bytes: int

    def __add__(self, other: "Extent") -> "Extent":
        return Extent(
            self.rows + other.rows,
            self.pages + other.pages,
            self.footer_bytes + other.footer_bytes,
            self.decoded_bytes + other.decoded_bytes,
        )


@dataclass(frozen=True)
class _Column:
    """What the footer says of a leaf: its name and how it is stored."""

    name: str
    physical: int | None
    repetition: int | None
    converted: int | None
    logical: Mapping[int, Any] | None


def check_file(body: bytes, schema: Mapping[str, pl.DataType], most_rows: int) -> Extent:
    """Walk a file's footer and all page headers.

    Args:
        body: the file's bytes.
        schema: the columns that it must have, in their order.
        most_rows: how many rows it may have.

    Raises:
        FileSchemaFault: where it is no Parquet file, of other columns or types, or inconsistent.
        FileSizeFault: where it goes over a limit.
    """
    try:
        footer = _read_footer(body)
        _check_columns(footer, schema)
        pages, decoded = _check_groups(body, footer, len(schema), most_rows)
    except ThriftFault as fault:
        raise FileSchemaFault(f"the file is not sound Parquet: {fault}") from fault
    return Extent(footer[3], pages, int.from_bytes(body[-8:-4], "little"), decoded)


def most_decoded(rows: int) -> int:
    """How many bytes so many rows may decode to."""
    return max(MIN_DECODED_BYTES, rows * MAX_DECODED_BYTES_PER_ROW)


def check_decoded(decoded: int, rows: int) -> None:
    """Refuse what decodes to more bytes than its rows can need.

    Raises:
        FileSizeFault: where it does.
    """
    if decoded > most_decoded(rows):
        raise FileSizeFault(f"the pages decode to {decoded} bytes for {rows} rows")


def _read_footer(body: bytes) -> dict[int, Any]:
    if len(body) < 12 or body[:4] != MAGIC or body[-4:] != MAGIC:
        raise FileSchemaFault("the bytes are not a Parquet file")
    length = int.from_bytes(body[-8:-4], "little")
    if length > MAX_FOOTER_BYTES:
        raise FileSizeFault(f"the footer has {length} bytes; {MAX_FOOTER_BYTES} are allowed")
    end = len(body) - 8
    if length > end - 4:
        raise FileSchemaFault("the footer is longer than the file")
    footer = ThriftReader(body[end - length : end]).struct(_FILE_PLAN)
    for field in (1, 2, 3, 4):
        _needed(footer, field)
    return footer


def _needed(struct: Mapping[int, Any], field: int) -> Any:
    if field not in struct:
        raise ThriftFault(f"field {field} is missing")
    return struct[field]


def _columns(footer: Mapping[int, Any]) -> list[_Column]:
    root, *leaves = footer[2] or [{}]
    if root.get(5) != len(leaves) or any(leaf.get(5) for leaf in leaves):
        raise FileSchemaFault("the columns are nested")
    return [
        _Column(
            name=_needed(leaf, 4).decode("utf-8", "replace"),
            physical=leaf.get(1),
            repetition=leaf.get(3),
            converted=leaf.get(6),
            logical=leaf.get(10),
        )
        for leaf in leaves
    ]


def _check_columns(footer: Mapping[int, Any], schema: Mapping[str, pl.DataType]) -> None:
    columns = _columns(footer)
    names = [column.name for column in columns]
    if names != list(schema):
        missing = [name for name in schema if name not in names]
        extra = [name[:40] for name in names if name not in schema]
        raise FileSchemaFault(
            f"the columns are not the schema's (missing: {missing[:5]}, unknown: {extra[:5]}, "
            f"{len(names)} in all; order counts)"
        )
    for column, dtype in zip(columns, schema.values(), strict=True):
        if column.repetition not in (0, 1):
            raise FileSchemaFault(f"column {column.name} is nested")
        if not _stores(column, dtype):
            physical = _PHYSICAL_NAMES.get(column.physical or 0, "unknown")
            raise FileSchemaFault(
                f"column {column.name} (stored as {physical}) is not of type {dtype}"
            )


def _stores(column: _Column, dtype: pl.DataType) -> bool:
    """Whether a column is stored as Parquet stores this type."""
    logical, converted = column.logical or {}, column.converted
    if isinstance(dtype, pl.Int64):
        plain = logical.get(_INTEGER, {1: 64, 2: True}) == {1: 64, 2: True}
        named = set(logical) <= {_INTEGER} and converted in (None, _CONVERTED_INT64)
        return column.physical == _INT64 and plain and named
    if isinstance(dtype, pl.Float64):
        return column.physical == _DOUBLE and not logical and converted is None
    if isinstance(dtype, pl.Date):
        named = set(logical) == {_DATE} if logical else converted == _CONVERTED_DATE
        return column.physical == _INT32 and named
    if isinstance(dtype, pl.Datetime):
        utc_micros = {_TIMESTAMP: {1: True, 2: {_MICROS: {}}}}
        named = logical == utc_micros if logical else converted == _CONVERTED_MICROS
        return column.physical == _INT64 and named
    named = set(logical) == {_STRING} if logical else converted == _UTF8
    return column.physical == _BYTE_ARRAY and named


def _check_groups(
    body: bytes, footer: Mapping[int, Any], columns: int, most_rows: int
) -> tuple[int, int]:
    """How many pages the file has, and how many bytes they decode to."""
    rows, groups = footer[3], footer[4]
    if not 0 <= rows <= most_rows:
        raise FileSizeFault(f"the footer claims {rows} rows; {most_rows} are allowed")
    if len(groups) > MAX_ROW_GROUPS:
        raise FileSizeFault(f"the file has {len(groups)} row groups; {MAX_ROW_GROUPS} are allowed")
    in_groups = pages = decoded = 0
    for group in groups:
        group_rows, chunks = _needed(group, 3), _needed(group, 1)
        if group_rows < 0 or len(chunks) != columns:
            raise FileSchemaFault("a row group has other columns than the schema, or no rows")
        in_groups += group_rows
        for chunk, element in zip(chunks, footer[2][1:], strict=True):
            chunk_pages, chunk_decoded = _check_chunk(body, chunk, element, group_rows)
            pages, decoded = pages + chunk_pages, decoded + chunk_decoded
            if pages > MAX_PAGES:
                raise FileSizeFault(f"the file has over {MAX_PAGES} pages")
            check_decoded(decoded, rows)
    if in_groups != rows:
        raise FileSchemaFault(f"the row groups claim {in_groups} rows, the footer {rows}")
    return pages, decoded


def _check_chunk(
    body: bytes, chunk: Mapping[int, Any], element: Mapping[int, Any], rows: int
) -> tuple[int, int]:
    """A column chunk's pages and the bytes that they decode to."""
    metadata = _needed(chunk, 3)
    if _needed(metadata, 4) not in _CODECS:
        raise FileSchemaFault("a column is compressed with another codec than snappy")
    if _needed(metadata, 1) != element.get(1) or _needed(metadata, 3) != [element[4]]:
        raise FileSchemaFault("a column chunk is not of its column")
    if _needed(metadata, 5) != rows:
        raise FileSchemaFault("a column chunk holds another number of values than its group")
    first_data, size = _needed(metadata, 9), _needed(metadata, 7)
    dictionary = metadata.get(11, 0)
    start = dictionary if 0 < dictionary < first_data else first_data
    if start < 4 or not start <= first_data <= start + size <= len(body):
        raise FileSchemaFault("a column chunk lies outside the file")
    return _walk_pages(body, start, start + size, rows)


def _walk_pages(body: bytes, start: int, end: int, rows: int) -> tuple[int, int]:
    size_of_chunk = end - start
    reader = ThriftReader(body[start:end])
    values = pages = decoded = 0
    while values < rows:
        header = reader.struct(_PAGE_PLAN)
        stored, size = _needed(header, 3), _needed(header, 2)
        if stored < 0 or size < 0 or reader.position + stored > size_of_chunk:
            raise FileSchemaFault("a page lies outside its column chunk")
        values += _page_values(header, rows, first=pages == 0)
        pages, decoded = pages + 1, decoded + size
        if pages > MAX_PAGES:
            raise FileSizeFault(f"the file has over {MAX_PAGES} pages")
        reader.position += stored
    if values != rows:
        raise FileSchemaFault("the pages hold another number of rows than the footer says")
    return pages, decoded


def _page_values(header: Mapping[int, Any], rows: int, *, first: bool) -> int:
    """How many of the column's values a page holds: none, for a dictionary."""
    kind = _needed(header, 1)
    if kind == _DICTIONARY_PAGE and first:
        dictionary = _needed(header, 7)
        if not 0 <= _needed(dictionary, 1) <= rows or _needed(dictionary, 2) not in (0, 2):
            raise FileSchemaFault("a dictionary is larger than its column, or not plain")
        return 0
    if kind == _DATA_PAGE:
        page, encoding = _needed(header, 5), 2
    elif kind == _DATA_PAGE_V2:
        page, encoding = _needed(header, 8), 4
    else:
        raise FileSchemaFault("a page is of no kind that belongs here")
    if _needed(page, encoding) not in _ENCODINGS:
        raise FileSchemaFault("a page is encoded in a way that is not allowed")
    values = _needed(page, 1)
    if values < 0 or (kind == _DATA_PAGE_V2 and _needed(page, 3) != values):
        raise FileSchemaFault("a page holds a number of values that cannot be")
    return values
