"""A master table in a Parquet file: written whole or not at all, checked when read."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

import polars as pl

from sn46.durable import sync_folder
from sn46.zipcodes.table import TABLE_SCHEMA, MasterTable, ZipTableError, table_from_frame

_VERSION_KEY: Final = "sn46.table_version"
_REQUIRED: Final = ("zipcode", "state", "latitude", "longitude")
_FILLED: Final = {"city": "", "county": "", "population": 0, "property_count": 0}
_SHORTEST_ZIP: Final = 3
"""00501 is the lowest ZIP in use, so a number of one or two digits never was one."""


def save_table(table: MasterTable, path: Path) -> None:
    """Write the table with its version in the file's metadata. A reader of ``path`` sees the old
    file or the new one, whole, also after a crash.

    Raises:
        ZipTableError: where the file cannot be written.
    """

    def write(file: BinaryIO) -> None:
        table.to_frame().write_parquet(file, metadata={_VERSION_KEY: table.version})

    write_whole(path, write)


def saved_version(path: Path) -> str | None:
    """The version that the label of a saved table names; None where there is no label, as in a
    file that the owner made. The content is not compared with it: :func:`load_table` does that.

    Raises:
        ZipTableError: where the file is missing or broken.
    """
    try:
        return pl.read_parquet_metadata(path).get(_VERSION_KEY)
    except FileNotFoundError as error:
        raise ZipTableError(f"There is no ZIP table at {path}.") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ZipTableError(f"The ZIP table {path} is not a readable Parquet file.") from error


def write_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Have ``write`` fill a new file that then takes the place of ``path``. A reader of ``path``
    sees the old file or the new one, whole, also after a crash.

    Raises:
        ZipTableError: where the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{temporary_prefix(path)}{secrets.token_hex(6)}")
        try:
            with temporary.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise ZipTableError(f"{path} cannot be written: {error}.") from error


def temporary_prefix(path: Path) -> str:
    """How the names of the files begin that :func:`write_whole` fills before they become ``path``;
    a process that was killed may leave one."""
    return f".{path.name}.new-"


def load_table(path: Path) -> MasterTable:
    """Read a table from a file in ``TABLE_SCHEMA``, whether :func:`save_table` or the owner
    made it. ZIPs that were kept as numbers get their leading zeros back; the table's ``repaired``
    says how many did.

    Raises:
        ZipTableError: where the file is missing or broken, has other columns, holds a value that
            does not fit, or does not have the content that its recorded version names.
    """
    try:
        raw = pl.read_parquet(path, memory_map=False)
        recorded = pl.read_parquet_metadata(path).get(_VERSION_KEY)
    except FileNotFoundError as error:
        raise ZipTableError(f"There is no ZIP table at {path}.") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ZipTableError(f"The ZIP table {path} is not a readable Parquet file.") from error
    _check_columns(raw, path)
    zipcodes, repaired = _repaired(raw["zipcode"], path)
    columns = [zipcodes, *(_fitted(raw[c], path) for c in TABLE_SCHEMA if c != "zipcode")]
    table = table_from_frame(pl.DataFrame(columns), repaired)
    if recorded is not None and recorded != table.version:
        raise ZipTableError(
            f"The ZIP table {path} was changed after it was written: its content has version "
            f"{table.version[:12]}…, its label says {recorded[:12]}…. Restore or import it again."
        )
    return table


def _check_columns(raw: pl.DataFrame, path: Path) -> None:
    missing = [column for column in TABLE_SCHEMA if column not in raw.columns]
    unknown = [column for column in raw.columns if column not in TABLE_SCHEMA]
    if missing or unknown:
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        parts += [f"has unknown {', '.join(unknown)}"] if unknown else []
        raise ZipTableError(
            f"The ZIP table {path} has wrong columns: it {' and '.join(parts)}. "
            f"It needs exactly {', '.join(TABLE_SCHEMA)}."
        )


def _repaired(zipcodes: pl.Series, path: Path) -> tuple[pl.Series, int]:
    """The ZIPs as texts of five digits, and how many had lost zeros."""
    if zipcodes.dtype.is_float():
        zipcodes = _fitted(zipcodes.cast(pl.Float64).alias("zipcode"), path, pl.Int64())
    texts = zipcodes.cast(pl.String).str.strip_chars()
    form = f"^[0-9]{{{_SHORTEST_ZIP},5}}$"
    wrong = texts.filter(~texts.fill_null("").str.contains(form))
    if len(wrong):
        raise ZipTableError(
            f"The ZIP table {path} has {len(wrong)} values that are not ZIP codes, such as "
            f"{wrong[0]!r}. Five digits are needed."
        )
    return texts.str.zfill(5).alias("zipcode"), int((texts.str.len_bytes() < 5).sum())


def _fitted(column: pl.Series, path: Path, dtype: pl.DataType | None = None) -> pl.Series:
    """The column in its type, with its gaps filled where a gap has a meaning."""
    wanted = dtype or TABLE_SCHEMA[column.name]
    try:
        fitted = column.cast(wanted, strict=True)
    except pl.exceptions.PolarsError as error:
        raise ZipTableError(
            f"The ZIP table {path} has values in {column.name} that are no {wanted}: {error}."
        ) from error
    if column.dtype.is_float() and wanted == pl.Int64() and not (fitted == column).all():
        raise ZipTableError(f"The ZIP table {path} has fractions in {column.name}.")
    if column.name in _REQUIRED and fitted.null_count():
        raise ZipTableError(
            f"The ZIP table {path} has {fitted.null_count()} gaps in {column.name}."
        )
    filler = _FILLED.get(column.name)
    return fitted if filler is None else fitted.fill_null(filler)
