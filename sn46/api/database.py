"""The database connection: SQLite in a file by default, PostgreSQL where there are replicas."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Generator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.schema import Table

from sn46.api import migrating
from sn46.api.migrating import HEAD, Migration, RevisionError

# One number for the advisory lock under which PostgreSQL draws and migrates.
_LOCK = 46_046_046
_SQLITE_WAIT_MS = 15_000
_CLOSING_SECONDS = 15
_ANSWER_SECONDS = 60
"""What no statement of the server's takes, and no PostgreSQL that is there to connect to."""


class DatabaseError(Exception):
    """The database cannot be used as it is; the message says why and what to do."""


def reason_of(error: Exception) -> str:
    """What the database, or another part, said, as one line for logs and for people: neither the
    statement nor the row that it was about, which may hold what nobody may know yet."""
    said: BaseException = getattr(error, "orig", None) or error
    # SQLAlchemy words asyncpg's errors anew, and keeps the original as the cause.
    if said is not error and said.__cause__ is not None:
        said = said.__cause__
    lines = str(said).splitlines()
    return lines[0] if lines else type(said).__name__


class Database:
    """An engine and its two kinds of transactions.

    ``read`` sees one state of the database. ``write`` commits whole or not at all; on SQLite it
    takes the write lock when it begins, so that what it reads cannot change before it writes.
    SQLite has one writer at a time, and lets others ask again and again with growing pauses: the
    writers of one process stand in line here instead, first come, first served.
    """

    def __init__(self, url: str) -> None:
        """
        Raises:
            DatabaseError: where the address is none that SQLAlchemy knows, or an SQLite file's
                folder does not exist.
        """
        try:
            self._engine = _engine(url)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise DatabaseError(
                f"DATABASE_URL is not usable: {error}. Write sqlite+aiosqlite:///FILE or "
                "postgresql+asyncpg://USER:PASSWORD@HOST/NAME."
            ) from error
        except ValueError:
            # What it names as no number may be a part of the password.
            raise DatabaseError(
                "DATABASE_URL is not usable: its port is no number. Write "
                "postgresql+asyncpg://USER:PASSWORD@HOST:PORT/NAME, and @ : / # % of a password as "
                "%40 %3A %2F %23 %25."
            ) from None
        self._url = url
        self._reading: AsyncEngine = self._engine
        self._writing: AsyncEngine = self._engine
        self._turn: AbstractAsyncContextManager[Any] = nullcontext()
        self._under_way = 0
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        if self.is_sqlite:
            _check_folder(self._engine.url.database)
            _prepare_sqlite(self._engine)
            self._writing = self._engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
            self._turn = asyncio.Lock()
        else:
            # By default each statement of PostgreSQL's sees what was committed before it.
            self._reading = self._engine.execution_options(isolation_level="REPEATABLE READ")

    @property
    def is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncConnection]:
        with self._counted():
            async with self._reading.begin() as connection:
                yield connection

    @asynccontextmanager
    async def write(self, *, exclusive: bool = False) -> AsyncGenerator[AsyncConnection]:
        """A transaction that writes; ``exclusive`` lets one at a time in, over all replicas."""
        with self._counted():
            async with self._turn, self._writing.begin() as connection:
                if exclusive and not self.is_sqlite:
                    await _take_lock(connection)
                yield connection

    @contextmanager
    def _counted(self) -> Generator[None]:
        self._under_way += 1
        self._at_rest.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._at_rest.set()

    def insert(self, table: Table) -> Any:
        """An INSERT that knows ``on_conflict_do_…`` in this database's words."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    async def migrate(self, to: str = HEAD) -> Migration:
        """Bring the tables to this program's revision, or up or down to another: in one
        transaction, one process at a time.

        Raises:
            DatabaseError: where the database is newer than this program, or there is no such
                revision; nothing was changed.
        """
        if self.is_sqlite:
            async with self.write() as connection:
                return await _known(connection.run_sync(migrating.migrate, to))
        # It takes as long as it takes, and so does another server's before it.
        engine = _engine(self._url, patient=True)
        try:
            async with engine.begin() as connection:
                await _take_lock(connection)
                return await _known(connection.run_sync(migrating.migrate, to))
        finally:
            await engine.dispose()

    async def pending(self) -> Migration:
        """What ``migrate`` would do.

        Raises:
            DatabaseError: as ``migrate`` does.
        """
        async with self.read() as connection:
            return await _known(connection.run_sync(migrating.pending))

    async def close(self) -> None:
        """Let go of all connections, once the transactions under way have ended: who waits for
        one that was taken away waits for ever. After 15 seconds it is done regardless."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING_SECONDS):
                await self._at_rest.wait()
        await self._engine.dispose()


def _engine(url: str, *, patient: bool = False) -> AsyncEngine:
    """An engine for an address; ``patient`` waits for an answer for ever."""
    is_file = url.startswith("sqlite")
    # A connection that a firewall forgot, or a machine that died, says nothing more: the one who
    # waits for it must be told, and the pool let go of it.
    impatience = {"timeout": _ANSWER_SECONDS, "command_timeout": _ANSWER_SECONDS}
    return create_async_engine(
        url,
        # A file does not hang up: only a server's connections are tried before use.
        pool_pre_ping=not is_file,
        connect_args={} if is_file or patient else impatience,
        # Values in an error's text would tell a coming epoch's seed to logs and callers.
        hide_parameters=True,
    )


async def _take_lock(connection: AsyncConnection) -> None:
    await connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _LOCK})


def _check_folder(file: str | None) -> None:
    if file and file != ":memory:" and not Path(file).absolute().parent.is_dir():
        raise DatabaseError(
            f"DATABASE_URL names {file}, and there is no such folder. Create the folder first."
        )


async def _known(asked: Awaitable[Migration]) -> Migration:
    try:
        return await asked
    except RevisionError as error:
        raise DatabaseError(str(error)) from error


def _prepare_sqlite(engine: AsyncEngine) -> None:
    """Let SQLAlchemy, not the driver, begin transactions; keep a log that survives a kill."""

    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_SQLITE_WAIT_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    def on_begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        connection.exec_driver_sql(str(options.get("sqlite_begin", "BEGIN")))

    event.listen(engine.sync_engine, "connect", on_connect)
    event.listen(engine.sync_engine, "begin", on_begin)
