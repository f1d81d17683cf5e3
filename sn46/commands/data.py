"""``sn46 data``: published epochs asked with SQL, and kept as an Apache Iceberg table."""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sn46.commands.outcome import AskedWrongly, Errors, saying

if TYPE_CHECKING:
    from sn46.data.answers import Format
    from sn46.data.library import Library
    from sn46.data.objects import Origin
    from sn46.data.registering import ListingsTable
    from sn46.data.settings import DataSettings

app = typer.Typer(name="data", help="Ask what validators published, or keep it as a table.")

_PIPED_WIDTH = 160

_From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="DIR",
        help="The folder of an export; without it, the bucket that the S3 settings name.",
    ),
]
_Validators = Annotated[
    list[str] | None,
    typer.Option(
        "--validator",
        metavar="HOTKEY",
        help="Count this validator alone, more than once for several; TRUSTED_VALIDATORS, or all.",
    ),
]


def _wrongly() -> Errors:
    from sn46.data.errors import QueryError

    return (QueryError,)


def _failed() -> Errors:
    from sn46.data.errors import DataError
    from sn46.mechanism.errors import MechanismError
    from sn46.store.base import StoreError

    return (DataError, MechanismError, StoreError)


@app.command()
@saying("data query", wrongly=_wrongly, failed=_failed)
def query(
    sql: Annotated[str, typer.Argument(help="One SELECT, over the tables of sn46 data tables.")],
    source: _From = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="table, csv, json or parquet; what --out ends in, or table."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the answer to this file.")] = None,
    validator: _Validators = None,
    memory: Annotated[
        int | None, typer.Option(min=128, help="The most memory to take, in MB (DATA_MEMORY_MB).")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask what is kept already; read nothing new.")
    ] = False,
) -> int:
    """Ask the published epochs a question in SQL (DuckDB's). What is new is fetched first, and
    kept in DATA_CACHE. Reads only: nothing can be changed from here."""
    from sn46.data.asking import asked

    settings = _settings(validator)
    chosen = _format(form, out)
    library = asyncio.run(_library(settings, source, offline))
    memory_mb = memory or settings.data_memory_mb
    with asked(library, sql, memory_mb=memory_mb, say=_say) as answer:
        _write(answer, chosen, out)
    return 0


@app.command()
def tables() -> int:
    """List the tables that can be asked, with their columns, types and meanings."""
    from sn46.data.columns import TABLES

    for name, (meaning, columns) in TABLES.items():
        print(f"{name}: {meaning}")
        width = max(len(column.name) for column in columns)
        for column in columns:
            kind = column.type.partition("(")[0] if len(column.type) > 24 else column.type
            print(f"  {column.name:{width}}  {kind:24}  {column.meaning}")
        print()
    return 0


@app.command()
@saying("data register", failed=_failed)
def register(
    source: _From = None,
    validator: _Validators = None,
) -> int:
    """Append every epoch that is over to the Iceberg table sn46.listings, each exactly once,
    however often and from however many machines this is run. CATALOG_URI is its SQL catalog,
    WAREHOUSE the folder or bucket of its files; the table is made where there is none."""
    from sn46.clock import SystemClock
    from sn46.data.registering import register_epochs

    settings = _settings(validator)
    catalog = _catalog(settings)
    library = asyncio.run(_library(settings, source, offline=False))
    with catalog as table:
        done = register_epochs(
            table, library, settings.epoch_seconds, now=SystemClock().now(), say=print
        )
    print(f"{len(done)} epochs appended; {table.held} are in the table.")
    return 0


@app.command()
@saying("data follow", failed=_failed)
def follow(
    source: _From = None,
    validator: _Validators = None,
    every: Annotated[
        int | None, typer.Option(min=1, help="Seconds between looks; an eighth of an epoch.")
    ] = None,
) -> int:
    """As register, again and again: a service for whoever keeps the table."""
    from sn46.clock import SystemClock
    from sn46.data.following import Follower
    from sn46.logs import configure_logs

    configure_logs("console", "info")
    settings = _settings(validator)
    catalog = _catalog(settings)
    follower = Follower(
        lambda: _library(settings, source, offline=False),
        catalog,
        settings.epoch_seconds,
        clock=SystemClock(),
        every_seconds=every or max(1, settings.epoch_seconds // 8),
        say=_say_line,
    )
    asyncio.run(follower.run())
    return 0


def _settings(validators: list[str] | None) -> "DataSettings":
    from sn46.configuration import read_settings
    from sn46.data.settings import DataSettings

    given: dict[str, Any] = {"trusted_validators": validators} if validators else {}
    return read_settings(DataSettings, **given)


def _catalog(settings: "DataSettings") -> "ListingsTable":
    """The table's catalog, not yet opened."""
    from sn46.data.registering import ListingsTable

    if settings.warehouse is None:
        raise AskedWrongly(
            "WAREHOUSE is not set: the folder, or s3://BUCKET/PREFIX, that the table's files go to."
        )
    access = settings.access() if settings.warehouse.startswith("s3://") else None
    return ListingsTable(settings.catalog_uri.get_secret_value(), settings.warehouse, access)


def _format(form: str | None, out: Path | None) -> "Format":
    from sn46.data.answers import Format, format_of

    if form is None:
        chosen = (format_of(out) if out else None) or Format.TABLE
    elif form in list(Format):
        chosen = Format(form)
    else:
        raise AskedWrongly(f"{form!r} is no format. Write one of: {', '.join(Format)}.")
    if chosen is Format.PARQUET and out is None and sys.stdout.isatty():
        raise AskedWrongly("Parquet is not for terminals. Write it to a file with --out FILE.")
    if out is not None and not out.absolute().parent.is_dir():
        raise AskedWrongly(f"There is no folder {out.parent} for --out.")
    return chosen


def _write(answer: Any, form: "Format", out: Path | None) -> None:
    """Write to standard output, or to a file that is there as a whole or not at all."""
    from sn46.data.answers import write_answer

    if out is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPED_WIDTH
        sys.stdout.flush()
        write_answer(answer, form, sys.stdout.buffer, width)
        sys.stdout.buffer.flush()
        return
    with tempfile.NamedTemporaryFile(dir=out.absolute().parent, delete=False) as file:
        try:
            rows = write_answer(answer, form, file, _PIPED_WIDTH)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            os.unlink(file.name)
            raise
    os.chmod(file.name, 0o644)
    os.replace(file.name, out)
    _say(f"{rows} rows in {out}")


async def _library(settings: "DataSettings", source: Path | None, offline: bool) -> "Library":
    """What is kept of the place, with all that is new there."""
    from sn46.data.decoder import Decoder
    from sn46.data.library import Library

    async with _origin(settings, source) as origin:
        library = Library(settings.data_cache, origin.name, settings.trusted_validators)
        if not offline:
            decoder = Decoder()
            try:
                await library.refresh(origin, decoder, _progress)
            finally:
                decoder.close()
    return library


@asynccontextmanager
async def _origin(settings: "DataSettings", source: Path | None) -> "AsyncGenerator[Origin]":
    from sn46.data.objects import BucketOrigin, FolderOrigin

    if source is not None:
        yield FolderOrigin(source)
        return
    async with BucketOrigin(settings.access(), settings.validated_bucket) as origin:
        yield origin


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == of else ""
        print(f"\rRead {done} of {of} new epochs", end=end, file=sys.stderr, flush=True)


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)


def _say_line(text: str) -> None:
    print(text, flush=True)
