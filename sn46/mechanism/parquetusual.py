"""How much a file holds that Polars wrote, as miners upload them: its headers read by patterns.

``parquetfooter.check_file`` reads any file, field by field; a submission has ten thousand fields.
Nearly all files are of the few layouts below. What a pattern here matches is what that module reads
in the same bytes: headers and types are literal, a length takes the one alternative of its size, a
number of more than four bytes matches nothing. So there are two answers only: the Extent that
``check_file`` gives for the same bytes, or None, and then it is for ``check_file`` to judge.

Source: Apache Parquet format, ``parquet.thrift``;
Apache Thrift, "Thrift Compact protocol encoding".
"""

import io
import re
from dataclasses import dataclass
from functools import cache
from typing import Final

import polars as pl

from sn46.mechanism.parquetfooter import (
    KEY_VALUE,
    MAGIC,
    MAX_FOOTER_BYTES,
    MAX_PAGES,
    SCHEMA_ELEMENT,
    Extent,
    FileSchemaFault,
    check_file,
    most_decoded,
)
from sn46.mechanism.thriftread import ThriftFault, ThriftReader

# A field's header is a byte: how far its number is from the one before, and its type. Types are a
# boolean's values 1 and 2, numbers of 16, 32 and 64 bits 4 to 6, bytes 8, a list 9, a struct 12.
_NUMBER: Final = rb"[\x80-\xff]{0,3}[\x00-\x7f]"
_INT16: Final = rb"[\x80-\xff]?[\x00-\x7f]"
_BYTES: Final = rb"(?:\x00|%b)" % b"|".join(
    re.escape(bytes([size])) + rb".{%d}" % size for size in range(1, 128)
)
_ENCODINGS: Final = rb"(?:\x15[\x00-\x7f]|\x25[\x00-\x7f]{2}|\x35[\x00-\x7f]{3})"
# Statistics: null_count 3, max_value 5, min_value 6.
_STATISTICS: Final = rb"\x36%b(?:\x28%b\x18%b)?\x00" % (_NUMBER, _BYTES, _BYTES)

# FileMetaData: num_rows 3, row_groups 4, of which there are up to 14.
_ROWS: Final = rb"\x16(%b)\x19([\x1c\x2c\x3c\x4c\x5c\x6c\x7c\x8c\x9c\xac\xbc\xcc\xdc\xec])" % (
    _NUMBER
)
# FileMetaData: created_by 6.
_WRITER: Final = rb"\x18%b" % _BYTES
# RowGroup: total_byte_size 2, num_rows 3, file_offset 5, total_compressed_size 6, ordinal 7.
_GROUP: Final = rb"\x16%b\x16(%b)\x26%b\x16%b\x14%b\x00" % (*[_NUMBER] * 4, _INT16)
# ColumnChunk: file_offset 2, meta_data 3, where its indexes lie 4 to 7. ColumnMetaData: type 1,
# encodings 2, path_in_schema 3, codec 4 (none or snappy), num_values 5, total_uncompressed_size 6,
# total_compressed_size 7, data_page_offset 9, dictionary_page_offset 11, statistics 12.
_CHUNK: Final = b"".join((
    rb"\x26%b\x1c\x15([\x00-\x7f])\x19%b\x19\x18(%b)" % (_NUMBER, _ENCODINGS, _BYTES),
    rb"\x15[\x00\x02]\x16(%b)\x16%b\x16(%b)\x26(%b)" % (*[_NUMBER] * 4,),
    rb"(?:\x26(%b)\x1c|\x3c)%b\x00" % (_NUMBER, _STATISTICS),
    rb"(?:\x16%b\x15%b\x16%b\x15%b)?\x00" % (*[_NUMBER] * 4,),
))  # fmt: skip
# PageHeader: type 1, uncompressed_page_size 2, compressed_page_size 3, and dictionary_page_header 7
# with num_values 1, encoding 2 (plain), is_sorted 3.
_DICTIONARY: Final = rb"\x15\x04\x15(%b)\x15(%b)\x4c\x15(%b)\x15[\x00\x04][\x11\x12]?\x00\x00" % (
    *[_NUMBER] * 3,
)
# PageHeader: the same, and data_page_header 5 with num_values 1, encoding 2 (as parquetfooter has
# them), definition_level_encoding 3, repetition_level_encoding 4, statistics 5.
_PAGE: Final = b"".join((
    rb"\x15\x00\x15(%b)\x15(%b)\x2c\x15(%b)" % (*[_NUMBER] * 3,),
    rb"\x15[\x00\x04\x0a\x10\x12]\x15%b\x15%b(?:\x1c%b)?\x00\x00" % (_NUMBER, _NUMBER, _STATISTICS),
))  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """The patterns, and what all files with the same columns have in common.

    ``head`` is the footer up to its number of rows, ``chunks`` stands before a row group's chunks,
    ``columns`` are the type and the path of each, ``notes`` and ``orders`` stand around the
    writer's name behind the row groups.
    """

    head: bytes
    chunks: bytes
    columns: tuple[tuple[bytes, bytes], ...]
    notes: bytes
    orders: bytes
    rows: re.Pattern[bytes]
    group: re.Pattern[bytes]
    writer: re.Pattern[bytes]
    chunk: re.Pattern[bytes]
    dictionary: re.Pattern[bytes]
    page: re.Pattern[bytes]


@cache
def layout_of(columns: tuple[tuple[str, pl.DataType], ...]) -> Layout | None:
    """The layout of files with these columns, as the Polars that is installed writes them; None
    where it writes them in another way."""
    buffer = io.BytesIO()
    pl.DataFrame(schema=dict(columns)).write_parquet(buffer, compression="snappy")
    body = buffer.getvalue()
    rows, group, writer, chunk, dictionary, page = (
        re.compile(pattern, re.DOTALL)
        for pattern in (_ROWS, _GROUP, _WRITER, _CHUNK, _DICTIONARY, _PAGE)
    )
    try:
        # What follows takes for granted that the columns are sound.
        extent = check_file(body, dict(columns), 0)
        footer = body[-8 - extent.footer_bytes : -8]
        version_and_list = b"\x15\x02\x19" + _list_header(len(columns) + 1)
        reader = ThriftReader(footer, len(version_and_list))
        elements = [reader.struct(SCHEMA_ELEMENT) for _ in range(len(columns) + 1)]
        head = footer[: reader.position]
        no_rows_one_note = b"\x16\x00\x19\x0c\x19\x1c"
        notes_at = reader.position + len(no_rows_one_note) - 2
        reader.position = notes_at + 2
        reader.struct(KEY_VALUE)
    except (FileSchemaFault, ThriftFault):
        return None
    name = writer.match(footer, reader.position)
    if name is None or footer[: notes_at + 2] != head + no_rows_one_note:
        return None
    return Layout(
        head=head,
        chunks=b"\x19" + _list_header(len(columns)),
        columns=tuple(
            (bytes([2 * element[1]]), bytes([len(element[4])]) + element[4])
            for element in elements[1:]
        ),
        notes=footer[notes_at : reader.position],
        orders=footer[name.end() :],
        rows=rows,
        group=group,
        writer=writer,
        chunk=chunk,
        dictionary=dictionary,
        page=page,
    )


def _list_header(size: int) -> bytes:
    """Before a list of so many structs (fewer than 128)."""
    return bytes([size << 4 | 0x0C]) if size < 0x0F else bytes([0xFC, size])


def usual_extent(body: bytes, layout: Layout, most_rows: int) -> Extent | None:
    """How much a file of this layout holds, as ``check_file`` has it; None where it is of another
    layout or ``check_file`` may find fault with it.

    Args:
        body: the file's bytes.
        layout: that of its columns.
        most_rows: how many rows it may have.
    """
    size, end = int.from_bytes(body[-8:-4], "little"), len(body) - 8
    at = end - size
    if not body.startswith(MAGIC) or not body.endswith(MAGIC) or at < 4 or size > MAX_FOOTER_BYTES:
        return None
    found = layout.rows.match(body, at + len(layout.head), end)
    if found is None or not body.startswith(layout.head, at):
        return None
    rows, groups, at = _number(found[1]), found[2][0] >> 4, found.end()
    left, pages, decoded = rows, 0, 0
    for _ in range(groups):
        group = _group(body, layout, at, end)
        if group is None:
            return None
        left, pages, decoded = left - group.rows, pages + group.pages, decoded + group.decoded
        at = group.end
    sound = left == 0 and rows <= most_rows and pages <= MAX_PAGES
    if not sound or decoded > most_decoded(rows) or not body.startswith(layout.notes, at, end):
        return None
    writer = layout.writer.match(body, at + len(layout.notes), end)
    if writer is None or not body.startswith(layout.orders, writer.end(), end):
        return None
    return Extent(rows, pages, size, decoded)


@dataclass(frozen=True)
class _Group:
    rows: int
    pages: int
    decoded: int
    end: int


def _group(body: bytes, layout: Layout, at: int, end: int) -> _Group | None:
    """The row group whose list of chunks begins there, with where it ends in the footer."""
    if not body.startswith(layout.chunks, at, end):
        return None
    at += len(layout.chunks)
    chunks: list[tuple[bytes, bytes, bytes, bytes | None]] = []
    for column in layout.columns:
        found = layout.chunk.match(body, at, end)
        if found is None:
            return None
        kind, path, *chunk = found.groups()
        if (kind, path) != column:
            return None
        chunks.append((chunk[0], chunk[1], chunk[2], chunk[3]))
        at = found.end()
    found = layout.group.match(body, at, end)
    if found is None:
        return None
    rows, pages, decoded = _number(found[1]), 0, 0
    if rows <= 0:
        return None
    for values, stored, data, dictionary in chunks:
        # The same number in the same bytes.
        held = _chunk(body, layout, stored, data, dictionary, rows) if values == found[1] else None
        if held is None:
            return None
        pages, decoded = pages + held[0], decoded + held[1]
    return _Group(rows, pages, decoded, found.end())


def _chunk(
    body: bytes, layout: Layout, stored: bytes, data: bytes, dictionary: bytes | None, rows: int
) -> tuple[int, int] | None:
    """A column chunk's pages and the bytes that they decode to."""
    first_data = _number(data)
    start = first_data if dictionary is None else _number(dictionary)
    end = start + _number(stored)
    if start < 4 or not start <= first_data <= end <= len(body):
        return None
    at, left, pages, decoded = start, rows, 0, 0
    pattern = layout.page
    if dictionary is not None:
        if start == first_data:
            return None
        pattern = layout.dictionary
    while left:
        found = pattern.match(body, at, end)
        if found is None:
            return None
        size, length, values = map(_number, found.groups())
        at = found.end() + length
        pages, decoded = pages + 1, decoded + size
        if size < 0 or length < 0 or not 0 <= values <= left or at > end or pages > MAX_PAGES:
            return None
        if pattern is layout.page:
            left -= values
        pattern = layout.page
    return pages, decoded


def _number(raw: bytes) -> int:
    """A number of up to four bytes: seven bits in each, the lowest first, the sign at the end."""
    wide = int.from_bytes(raw, "little")
    number = wide & 0x7F | wide >> 1 & 0x3F80 | wide >> 2 & 0x1FC000 | wide >> 3 & 0xFE00000
    return number >> 1 ^ -(number & 1)
