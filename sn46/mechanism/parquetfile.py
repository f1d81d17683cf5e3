"""Reading a Parquet file that a stranger made (mechanism 5 and 6; lessons: files that lie).

The footer is held against the manifest and the limits before a page is decoded, and what is
decoded is validated in full before it reaches anything else. All faults are one of two errors.
"""

import io
from collections.abc import Mapping
from typing import Any, Final, cast

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sn46.mechanism.errors import MechanismError
from sn46.mechanism.listings import SCHEMA

MAX_ROW_GROUPS: Final = 64
MAX_DECODED_BYTES_PER_ROW: Final = 16 * 1024
"""A listing is about 300 bytes; a file that decodes to more than this a row is a bomb."""

_compute: Any = pc  # its functions are made at run time, so no type checker knows them
_CODECS = frozenset({"SNAPPY", "UNCOMPRESSED"})
_GROWING_ENCODINGS = frozenset({"DELTA_BYTE_ARRAY"})
"""Each value may repeat all of the one before it, so a page has no bound on what it decodes to."""


class FileSchemaFault(MechanismError):
    """The bytes are no Parquet file, or not one with these columns and types."""


class FileSizeFault(MechanismError):
    """The file claims more rows, row groups or decoded bytes than are allowed."""


def _arrow_type(dtype: pl.DataType) -> Any:
    if isinstance(dtype, pl.Int64):
        return pa.int64()
    if isinstance(dtype, pl.Float64):
        return pa.float64()
    if isinstance(dtype, pl.Date):
        return pa.date32()
    if isinstance(dtype, pl.Datetime):
        return pa.timestamp("us", tz="UTC")
    return pa.large_string()


def _parquet_type(dtype: pl.DataType) -> tuple[str, str]:
    """Physical and logical type, as Parquet's own footer names them."""
    if isinstance(dtype, pl.Int64):
        return "INT64", "NONE"
    if isinstance(dtype, pl.Float64):
        return "DOUBLE", "NONE"
    if isinstance(dtype, pl.Date):
        return "INT32", "DATE"
    if isinstance(dtype, pl.Datetime):
        return "INT64", "TIMESTAMP"
    return "BYTE_ARRAY", "STRING"


def _check_columns(schema: Any, expected: Mapping[str, pl.DataType]) -> None:
    names = [str(schema.column(i).path) for i in range(len(schema))]
    if names != list(expected):
        missing = [name for name in expected if name not in names]
        extra = [name[:40] for name in names if name not in expected]
        raise FileSchemaFault(
            f"the columns are not the schema's (missing: {missing[:5]}, unknown: {extra[:5]}, "
            f"{len(names)} in all; order counts)"
        )
    for index, (name, dtype) in enumerate(expected.items()):
        column = schema.column(index)
        physical, logical = _parquet_type(dtype)
        found = str(column.logical_type.type)
        signed_int = found == "INT" and str(column.logical_type) == (
            "Int(bitWidth=64, isSigned=true)"
        )
        if column.max_repetition_level or column.max_definition_level > 1:
            raise FileSchemaFault(f"column {name} is nested")
        if str(column.physical_type) != physical or not (
            found == logical or (logical == "NONE" and signed_int)
        ):
            raise FileSchemaFault(
                f"column {name} is {column.physical_type}/{found}, not {physical}/{logical}"
            )
        if logical == "TIMESTAMP" and not _is_utc_micros(str(column.logical_type)):
            raise FileSchemaFault(f"column {name} is not in UTC microseconds")


def _is_utc_micros(logical_type: str) -> bool:
    return "isAdjustedToUTC=true" in logical_type and "timeUnit=microseconds" in logical_type


def _check_sizes(metadata: Any, most_rows: int) -> None:
    rows = int(metadata.num_rows)
    if rows < 0 or rows > most_rows:
        raise FileSizeFault(f"the footer claims {rows} rows; {most_rows} are allowed")
    if metadata.num_row_groups > MAX_ROW_GROUPS:
        raise FileSizeFault(
            f"the file has {metadata.num_row_groups} row groups; {MAX_ROW_GROUPS} are allowed"
        )
    decoded = 0
    in_groups = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        decoded += max(0, int(group.total_byte_size))
        in_groups += _check_group(group)
    if in_groups != rows:
        raise FileSchemaFault(f"the row groups claim {in_groups} rows, the footer {rows}")
    _check_decoded(decoded, rows)


def _check_group(group: Any) -> int:
    """A row group's rows; its columns must hold as many values and be plainly stored."""
    rows = int(group.num_rows)
    for at in range(group.num_columns):
        column = group.column(at)
        codec = str(column.compression)
        if codec not in _CODECS:
            raise FileSchemaFault(f"a column is compressed with {codec}, not snappy")
        if _GROWING_ENCODINGS.intersection(column.encodings):
            raise FileSchemaFault("a column is encoded as DELTA_BYTE_ARRAY; write it plain")
        if rows < 0 or int(column.num_values) != rows:
            raise FileSchemaFault("a column chunk holds another number of values than its group")
    return rows


def _check_decoded(decoded: int, rows: int) -> None:
    if decoded > max(1024 * 1024, rows * MAX_DECODED_BYTES_PER_ROW):
        raise FileSizeFault(f"the pages decode to {decoded} bytes for {rows} rows")


def _text_bytes(table: Any) -> int:
    """How many bytes the table's texts will be once each row has its own: a dictionary's long
    text may stand for every row of the file."""
    total = 0
    for column in table.columns:
        for chunk in column.chunks:
            if isinstance(chunk, pa.DictionaryArray):
                lengths = _compute.binary_length(chunk.dictionary).cast(pa.int64())
                total += int(_compute.sum(lengths.take(chunk.indices)).as_py() or 0)
    return total


def footer_rows(body: bytes) -> int:
    """How many rows a file's footer claims.

    Raises:
        FileSchemaFault: where the bytes are no Parquet file.
    """
    try:
        return int(pq.ParquetFile(io.BytesIO(body)).metadata.num_rows)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise FileSchemaFault(f"the file is not Parquet: {str(error)[:160]}") from error


def decode(
    body: bytes, *, most_rows: int, schema: Mapping[str, pl.DataType] = SCHEMA
) -> pl.DataFrame:
    """Decode one file, refusing whatever is not exactly in ``schema``.

    Args:
        body: the file's bytes.
        most_rows: more rows than this in the footer are refused before anything is decoded.
        schema: the columns in their order.

    Raises:
        FileSchemaFault: other columns or types, corrupt pages, text that is not UTF-8.
        FileSizeFault: more rows, row groups or decoded bytes than allowed.
    """
    try:
        texts = [name for name, dtype in schema.items() if isinstance(dtype, pl.String)]
        file = pq.ParquetFile(io.BytesIO(body), read_dictionary=texts)
        _check_columns(file.schema, schema)
        _check_sizes(file.metadata, most_rows)
        table = file.read(use_threads=False)
        table.validate(full=True)
        _check_decoded(_text_bytes(table), table.num_rows)
        wanted = pa.schema([pa.field(name, _arrow_type(t)) for name, t in schema.items()])
        table = table.cast(wanted)
        table.validate(full=True)
        if table.num_rows != file.metadata.num_rows:
            raise FileSchemaFault("the pages hold another number of rows than the footer says")
        frame = cast(pl.DataFrame, pl.from_arrow(table))
        return frame.with_columns(pl.col(name).cast(t) for name, t in schema.items())
    except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError, KeyError) as error:
        raise FileSchemaFault(f"the file cannot be decoded: {str(error)[:160]}") from error
    except (pl.exceptions.PolarsError, OverflowError) as error:
        raise FileSchemaFault(f"the file cannot be decoded: {str(error)[:160]}") from error
