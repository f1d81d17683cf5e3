"""Answers written down: as a table for people, or as CSV, JSON or Parquet for programs.

Rows are written as they come, so an answer may be larger than memory. What strangers wrote stays
text: a control character in it is shown, and never reaches a terminal as one.
"""

import csv
import io
import json
import math
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from rich.cells import cell_len

from sn46.data.errors import QueryError
from sn46.printing import printable

_SHOWN_ROWS: Final = 1_000
_SHOWN_TEXT: Final = 60
_LEGIBLE: Final = 8
"""So much of a column is shown side by side with others, or nothing."""

_BETWEEN: Final = 3


class Format(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def format_of(path: Path) -> Format | None:
    """The format that a file's name asks for."""
    named = {".csv": Format.CSV, ".json": Format.JSON, ".parquet": Format.PARQUET}
    return named.get(path.suffix.lower())


def write_answer(answer: pa.RecordBatchReader, form: Format, to: IO[bytes], width: int) -> int:
    """Write an answer; how many rows it has, or were shown.

    Args:
        answer: the rows.
        form: how.
        to: where.
        width: of a table, in characters.

    Raises:
        QueryError: where a value cannot be written so, such as a day after the year 9999.
    """
    try:
        return _write(answer, form, to, width)
    except (OverflowError, pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise QueryError(
            f"The answer has a value that cannot be written as {form}: "
            f"{' '.join(str(error).split()).rstrip('.')}. Make it a text: column::VARCHAR."
        ) from error


def _write(answer: pa.RecordBatchReader, form: Format, to: IO[bytes], width: int) -> int:
    match form:
        case Format.TABLE:
            return _write_table(answer, to, width)
        case Format.CSV:
            return _write_csv(answer, to)
        case Format.JSON:
            return _write_json(answer, to)
        case Format.PARQUET:
            return _write_parquet(answer, to)


def _rows(answer: pa.RecordBatchReader) -> Iterator[list[Any]]:
    for batch in answer:
        columns = [column.to_pylist() for column in batch.columns]
        for row in zip(*columns, strict=True):
            yield list(row)


def _write_parquet(answer: pa.RecordBatchReader, to: IO[bytes]) -> int:
    count = 0
    with pq.ParquetWriter(to, answer.schema, compression="zstd") as writer:
        for batch in answer:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def _write_csv(answer: pa.RecordBatchReader, to: IO[bytes]) -> int:
    """RFC 4180: a head line, then the rows; lists and structures as JSON, null as nothing."""
    lines = io.TextIOWrapper(to, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(lines)
    writer.writerow(answer.schema.names)
    count = 0
    for row in _rows(answer):
        writer.writerow([_flat(value) for value in row])
        count += 1
    lines.detach()
    return count


def _flat(value: Any) -> Any:
    if isinstance(value, list | dict | tuple):
        return json.dumps(_plain(value), ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    return _plain(value)


def _write_json(answer: pa.RecordBatchReader, to: IO[bytes]) -> int:
    """An array with an object a row, a line each. Names that come twice are told apart."""
    names = _distinct(answer.schema.names)
    count = 0
    to.write(b"[")
    for row in _rows(answer):
        named = dict(zip(names, map(_plain, row), strict=True))
        to.write(b",\n" if count else b"\n")
        to.write(json.dumps(named, ensure_ascii=False).encode())
        count += 1
    to.write(b"\n]\n")
    return count


def _distinct(names: list[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        number, new = 1, name
        while new in found:
            number += 1
            new = f"{name}_{number}"
        found.append(new)
    return found


def _plain(value: Any) -> Any:
    """A value as JSON has it: times in UTC with their zone, numbers that it lacks as null."""
    if isinstance(value, dict):
        return {str(_plain(k)): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        # DuckDB's maps come as lists of pairs.
        return [_plain(one) for one in value]
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if value is None or isinstance(value, str | int):
        return value
    return str(value)


def _write_table(answer: pa.RecordBatchReader, to: IO[bytes], width: int) -> int:
    """A table; or, where its columns are too many for the width, each row as lines of its own."""
    names = [_shown(name) for name in answer.schema.names]
    rows: list[list[str]] = []
    more = False
    for row in _rows(answer):
        if len(rows) == _SHOWN_ROWS:
            more = True
            break
        rows.append([_shown(value) for value in row])
    if _are_legible(names, rows, width):
        lines = _table_lines(answer.schema, names, rows, width)
    else:
        lines = _row_lines(names, rows)
    count = len(rows)
    said = f"{count} {'row' if count == 1 else 'rows'}"
    if more:
        said = f"The first {count} rows; for all of them, --format csv, or --out FILE."
    to.write("\n".join([*lines, said, ""]).encode())
    return count


def _are_legible(names: list[str], rows: list[list[str]], width: int) -> bool:
    """Whether there is room for a few characters of each column side by side."""
    widest = [max(map(cell_len, column)) for column in zip(names, *rows, strict=True)]
    return sum(min(one, _LEGIBLE) + _BETWEEN for one in widest) - _BETWEEN <= width


def _table_lines(
    schema: pa.Schema, names: list[str], rows: list[list[str]], width: int
) -> Iterator[str]:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, field in zip(names, schema, strict=True):
        numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        justify = "right" if numeric or pa.types.is_decimal(field.type) else "left"
        table.add_column(Text(name), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    drawn = io.StringIO()
    Console(file=drawn, width=width, color_system=None, force_terminal=False).print(table)
    return filter(None, (line.rstrip() for line in drawn.getvalue().splitlines()))


def _row_lines(names: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Each row with the name of a column on each line. What is null is left out."""
    indent = max(map(cell_len, names))
    for number, row in enumerate(rows, start=1):
        yield f"row {number}"
        for name, value in zip(names, row, strict=True):
            if value:
                yield f"  {name}{' ' * (indent - cell_len(name))}  {value}"


def _shown(value: Any) -> str:
    """A value in a table: one line, nothing that a terminal would obey."""
    if value is None:
        return ""
    if isinstance(value, float):
        shown = f"{value:.6f}".rstrip("0").rstrip(".") if abs(value) < 1e15 else repr(value)
    elif isinstance(value, datetime):
        shown = value.strftime("%Y-%m-%d %H:%M:%S")
    else:
        shown = str(_flat(value))
    safe = printable(shown)
    return safe if len(safe) <= _SHOWN_TEXT else f"{safe[: _SHOWN_TEXT - 1]}…"
