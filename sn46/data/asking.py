"""Asking the library with SQL, and nothing else: a question reads, and changes nothing anywhere.

DuckDB may read the library's folder alone, load nothing, and not change its own configuration;
and of statements only a single SELECT is taken, as DuckDB's own parser sees it.
"""

import contextlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from sn46.data.columns import EPOCHS, LISTINGS, OBSERVATIONS, TABLES, Column, empty_select
from sn46.data.errors import DataError, QueryError
from sn46.data.homes import made_homes, make_homes, reading, text, workshop
from sn46.data.library import KeptEpoch, Library
from sn46.data.preparing import epoch_start

Say = Callable[[str], None]
_BATCH_ROWS: Final = 10_000
_EPOCHS_SCHEMA: Final = pa.schema(
    {
        "epoch_id": pa.string(),
        "epoch_start": pa.timestamp("us", "UTC"),
        "listings": pa.int64(),
        "zipcodes": pa.int64(),
        "consensus_hash": pa.string(),
        "rows_sha256": pa.string(),
        "winners": pa.list_(pa.string()),
        "validators": pa.int64(),
        "agreeing": pa.list_(pa.string()),
        "differing": pa.map_(pa.string(), pa.string()),
    }
)


@contextlib.contextmanager
def asked(
    library: Library, sql: str, *, memory_mb: int, say: Say
) -> Generator[pa.RecordBatchReader]:
    """The answer to a question over all kept epochs, in batches of rows.

    Args:
        library: what is kept.
        sql: one SELECT over the tables of ``columns.TABLES``.
        memory_mb: the most that DuckDB takes; what does not fit goes to the disk.
        say: told what takes a while.

    Raises:
        QueryError: where it is no such question, or DuckDB cannot answer it.
        DataError: where memory or disk do not suffice.
    """
    needs_homes = "listings" in _check(sql, library.path)
    with (
        _held(library, needs_homes, memory_mb, say) as (epochs, homes),
        _errors(),
        workshop(library.path / "spill", memory_mb) as connection,
    ):
        _open_tables(connection, library, epochs, homes)
        _lock(connection, library.path)
        yield connection.sql(sql).to_arrow_reader(_BATCH_ROWS)


@contextlib.contextmanager
def _held(
    library: Library, needs_homes: bool, memory_mb: int, say: Say
) -> Generator[tuple[list[KeptEpoch], list[Path]]]:
    """The kept epochs and, where they are needed, the files of their homes; nobody changes them
    meanwhile. Homes are made alone, so another process may have read more by the time they are to
    be used; then they are made again."""
    while True:
        with library.held(alone=False):
            epochs = library.kept()
            homes = made_homes(library, epochs) if needs_homes else []
            if homes is not None:
                yield epochs, homes
                return
        with library.held(alone=True):
            say("Putting the homes together …")
            make_homes(library, memory_mb)


def _check(sql: str, folder: Path) -> set[str]:
    """The tables that a question names, or all, where only DuckDB with the tables at hand can tell.

    To find that out DuckDB opens the files and addresses that are named: it may no more than later.

    Raises:
        QueryError: where it is not one SELECT.
    """
    with _errors(), duckdb.connect(":memory:") as connection:
        _lock(connection, folder)
        statements = connection.extract_statements(sql)
        if not statements:
            raise QueryError("There is no question. Write a SELECT, such as: FROM epochs")
        if len(statements) > 1:
            raise QueryError(f"{len(statements)} statements were given. Ask one SELECT at a time.")
        kind = statements[0].type
        if kind is duckdb.StatementType.MULTI:
            raise QueryError(
                "Of a PIVOT, name the values: FROM (PIVOT … ON column IN ('a', 'b') …)"
            )
        if kind is not duckdb.StatementType.SELECT:
            raise QueryError(
                f"Only SELECT is answered, not {kind.name}: the data cannot be changed from here. "
                "Write results with --out FILE."
            )
        try:
            return {name.lower() for name in connection.get_table_names(sql)}
        except duckdb.BinderException:  # Here no table has columns: nothing can be joined on any.
            return set(TABLES)


def _open_tables(
    connection: duckdb.DuckDBPyConnection,
    library: Library,
    epochs: Sequence[KeptEpoch],
    homes: Sequence[Path],
) -> None:
    _create_view(connection, "observations", OBSERVATIONS, library.files(epochs))
    _create_view(connection, "listings", LISTINGS, homes)
    typed = ", ".join(f'"{column.name}"::{column.type} AS "{column.name}"' for column in EPOCHS)
    connection.register("kept", pa.Table.from_pylist(list(map(_epoch_row, epochs)), _EPOCHS_SCHEMA))
    connection.execute(f"CREATE TABLE epochs AS SELECT {typed} FROM kept")
    connection.unregister("kept")


def _create_view(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    columns: tuple[Column, ...],
    files: Sequence[Path],
) -> None:
    rows = f"FROM {reading(files)}" if files else empty_select(columns)
    connection.execute(f"CREATE VIEW {name} AS {rows}")


def _epoch_row(epoch: KeptEpoch) -> dict[str, Any]:
    return {
        "epoch_id": epoch.epoch_id,
        "epoch_start": epoch_start(epoch.epoch_id),
        "listings": epoch.rows,
        "zipcodes": epoch.zipcodes,
        "consensus_hash": epoch.consensus_hash,
        "rows_sha256": epoch.digest or None,
        "winners": list(epoch.winners),
        "validators": len(epoch.agreeing) + len(epoch.differing),
        "agreeing": list(epoch.agreeing),
        "differing": list(epoch.differing.items()),
    }


def _lock(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """From here on the connection reads this folder and nothing else, for good."""
    connection.execute(f"SET allowed_directories = [{text(f'{folder}/')}]")
    for setting in (
        "enable_external_access",
        "python_enable_replacements",
        "autoload_known_extensions",
        "autoinstall_known_extensions",
        "allow_community_extensions",
    ):
        connection.execute(f"SET {setting} = false")
    connection.execute("SET lock_configuration = true")


@contextlib.contextmanager
def _errors() -> Generator[None]:
    """DuckDB's errors as ours, one line each."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise DataError(
            f"The answer needs more memory or disk than it may take: {_one_line(error)} Give more "
            "with --memory, or ask for less."
        ) from error
    except duckdb.Error as error:
        raise QueryError(_one_line(error)) from error


def _one_line(error: duckdb.Error) -> str:
    """What DuckDB says, without the lines that point into the question."""
    lines: list[str] = []
    for line in str(error).splitlines():
        if line.startswith("LINE "):
            break
        if line.strip():
            lines.append(line.strip())
    said = " ".join(lines)
    return said if said.endswith((".", "!", "?")) else f"{said}."
