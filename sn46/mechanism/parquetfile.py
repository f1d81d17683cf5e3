"""Reading a Parquet file that a stranger made (mechanism 5 and 6; lessons: files that lie).

Footer and page headers are held against the schema and the limits before a page is decoded
(``parquetfooter``), and what is decoded is validated in full before it reaches anything else.
All faults are one of two errors.
"""

import io
from collections.abc import Mapping
from typing import Any, Final, cast

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sn46.mechanism.listings import SCHEMA
from sn46.mechanism.parquetfooter import (
    FileSchemaFault,
    FileSizeFault,
    check_decoded,
    check_file,
)

__all__ = ["FileSchemaFault", "FileSizeFault", "decode"]

_compute: Final[Any] = pc  # its functions are made at run time, so no type checker knows them


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
    rows = check_file(body, schema, most_rows)
    try:
        texts = [name for name, dtype in schema.items() if isinstance(dtype, pl.String)]
        file = pq.ParquetFile(io.BytesIO(body), read_dictionary=texts)
        table = file.read(use_threads=False)
        table.validate(full=True)
        check_decoded(_text_bytes(table), table.num_rows)
        wanted = pa.schema([pa.field(name, _arrow_type(t)) for name, t in schema.items()])
        table = table.cast(wanted)
        table.validate(full=True)
        if table.num_rows != rows:
            raise FileSchemaFault("the pages hold another number of rows than the footer says")
        frame = cast(pl.DataFrame, pl.from_arrow(table))
        return frame.with_columns(pl.col(name).cast(t) for name, t in schema.items())
    except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError, KeyError) as error:
        raise FileSchemaFault(f"the file cannot be decoded: {str(error)[:160]}") from error
    except (pl.exceptions.PolarsError, OverflowError) as error:
        raise FileSchemaFault(f"the file cannot be decoded: {str(error)[:160]}") from error
