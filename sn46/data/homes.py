"""The homes over all epochs: observations that share a listing_id, or an address and ZIP, are of
one home, however long the chain of such links is.

Made by DuckDB within a given memory, what does not fit on the disk: first which ids mean the same
home, then the observations split by home into parts of about 400,000, then each part's homes.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import duckdb

from sn46.data.columns import HISTORY, LISTINGS, OBSERVATIONS
from sn46.data.errors import DataError
from sn46.data.library import KeptEpoch, Library
from sn46.mechanism.canonical import hash_json

_ROWS_OF_A_PART: Final = 400_000
_ROWS_OF_A_GROUP: Final = 20_000


def text(value: object) -> str:
    """A text as SQL writes it."""
    return "'" + str(value).replace("'", "''") + "'"


def reading(files: Sequence[Path]) -> str:
    """The table function that reads these files."""
    return f"read_parquet([{', '.join(text(file) for file in files)}], hive_partitioning = false)"


def workshop(folder: Path, memory_mb: int) -> duckdb.DuckDBPyConnection:
    """A connection that takes no more memory than this, and puts the rest into ``folder``."""
    connection = duckdb.connect(":memory:")
    connection.execute(f"SET memory_limit = '{memory_mb}MiB'")
    connection.execute(f"SET temp_directory = {text(folder)}")
    connection.execute("SET preserve_insertion_order = false")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    return connection


def made_homes(library: Library, epochs: Sequence[KeptEpoch]) -> list[Path] | None:
    """The files with the homes of these epochs, columns as ``columns.LISTINGS``; empty where no
    epoch has rows, None where they are yet to be made. Hold the library."""
    files = library.files(epochs)
    if not files:
        return []
    folder = _folder(library, files)
    return sorted(folder.iterdir()) if folder.is_dir() else None


def make_homes(library: Library, memory_mb: int) -> None:
    """Make the homes of all kept epochs where they are not there yet, and remove older ones. Hold
    the library alone.

    Raises:
        DataError: where memory or disk do not suffice.
    """
    epochs = library.kept()
    if made_homes(library, epochs) is not None:
        return
    files = library.files(epochs)
    folder = _folder(library, files)
    part = library.parts / f"homes-{os.getpid()}"
    try:
        _make(part, files, sum(epoch.rows for epoch in epochs), memory_mb)
        os.replace(part / "homes", folder)
    except duckdb.Error as error:
        raise DataError(
            f"The homes could not be put together: {str(error).splitlines()[0]} Give more memory "
            "(--memory) or free some space."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for old in library.homes.iterdir():
        if old != folder:
            shutil.rmtree(old)


def _folder(library: Library, files: Sequence[Path]) -> Path:
    return library.homes / hash_json([file.name for file in files])[:16]


def _make(part: Path, files: Sequence[Path], rows: int, memory_mb: int) -> None:
    """Write the homes to ``part/homes``."""
    (part / "homes").mkdir(parents=True)
    with workshop(part / "spill", memory_mb) as connection:
        connection.execute(f"CREATE VIEW seen AS FROM {reading(files)}")
        _same_homes(connection)
        buckets = -(-rows // _ROWS_OF_A_PART)
        named = (
            "SELECT seen.*, coalesce(same.home, seen.listing_id) AS home_id "
            "FROM seen LEFT JOIN same ON seen.listing_id = same.id"
        )
        if buckets == 1:
            _write_homes(connection, named, part / "homes" / "0.parquet")
            return
        connection.execute("SET partitioned_write_flush_threshold = 50000")
        split = part / "split"
        connection.execute(
            f"COPY (SELECT *, hash(home_id) % {buckets} AS bucket FROM ({named})) "
            f"TO {text(split)} (FORMAT parquet, PARTITION_BY (bucket))"
        )
        for bucket in range(buckets):
            folder = split / f"bucket={bucket}"
            if folder.is_dir():
                rows_of_it = f"FROM {reading(sorted(folder.iterdir()))}"
                _write_homes(connection, rows_of_it, part / "homes" / f"{bucket}.parquet")
                shutil.rmtree(folder)


def _same_homes(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table ``same (id, home)``: listing_ids that are of a home named otherwise.

    Only addresses under which several ids were seen link anything. Each id starts as its own
    home; the smallest name wanders over the links until none changes, each round over those alone
    that changed in the last.
    """
    connection.execute("""
        CREATE TEMP TABLE pairs AS
            SELECT DISTINCT listing_id AS id, zipcode || ' ' || address_key AS address
            FROM seen WHERE address_key <> '';
        CREATE TEMP TABLE links AS
            SELECT id, address FROM pairs
            SEMI JOIN (SELECT address FROM pairs GROUP BY address HAVING count(*) > 1) shared
            USING (address);
        DROP TABLE pairs;
        CREATE TEMP TABLE same AS SELECT DISTINCT id, id AS home FROM links;
        CREATE TEMP TABLE changed AS FROM same;
    """)
    while _count(connection, "changed"):
        connection.execute("""
            CREATE OR REPLACE TEMP TABLE changed AS
                WITH smallest AS (
                    SELECT address, min(home) AS home
                    FROM changed JOIN links USING (id) GROUP BY address
                ), offered AS (
                    SELECT id, min(home) AS home FROM smallest JOIN links USING (address)
                    GROUP BY id
                )
                SELECT id, offered.home AS home FROM offered JOIN same USING (id)
                WHERE offered.home < same.home;
            UPDATE same SET home = changed.home FROM changed WHERE same.id = changed.id;
        """)
    connection.execute("DELETE FROM same WHERE id = home")


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return row[0] if row else 0


def _write_homes(connection: duckdb.DuckDBPyConnection, rows: str, path: Path) -> None:
    """Write the homes of these rows, each with all its observations among them, by ZIP.

    Histories are sorted by their fields in order, the epoch first, once they are lists: a list that
    is aggregated in order takes four times as long.
    """
    newest = ", ".join(f'newest."{column.name}"' for column in OBSERVATIONS)
    entry = ", ".join(f"'{name}': \"{name}\"" for name in HISTORY)
    columns = ", ".join(f'"{column.name}"' for column in LISTINGS)
    connection.execute(f"""
        COPY (
            WITH rows AS ({rows}), newest AS (
                FROM rows QUALIFY row_number() OVER (
                    PARTITION BY home_id
                    ORDER BY epoch_id DESC, confirmations DESC, rank, listing_id
                ) = 1
            ), listed AS (
                SELECT home_id, list_sort(list({{{entry}}})) AS history FROM rows GROUP BY home_id
            ), told AS (
                SELECT
                    home_id,
                    history[1].epoch_id AS first_epoch,
                    len(history) AS observations,
                    list_unique([seen.sale_date FOR seen IN history])::BIGINT AS sales,
                    list_sort(list_distinct([seen.listing_id FOR seen IN history])) AS listing_ids,
                    history
                FROM listed
            )
            SELECT {columns} FROM (
                SELECT home_id, {newest}, first_epoch, observations, sales, listing_ids, history
                FROM newest JOIN told USING (home_id)
            ) ORDER BY zipcode, address_key, home_id
        ) TO {text(path)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROWS_OF_A_GROUP})
    """)
    with open(path, "rb") as file:
        os.fsync(file.fileno())
