"""The tables go up and down between revisions, keep what both know, and survive a death at any
step. On SQLite and on PostgreSQL."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from apinet import World, api_over, free_port
from dying import dying
from sqlalchemy import (
    JSON,
    Connection,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    insert,
    inspect,
    select,
    text,
)

from sn46.api.check import check_api
from sn46.api.database import Database, DatabaseError
from sn46.api.migrating import BASE, Migration, revisions
from sn46.api.records import Origin, Records
from sn46.api.schema import metadata
from sn46.api.server import StartError, serve
from sn46.api.trail import LogQuery, RequestEntry, Trail
from sn46.cli import main

REVISIONS = revisions()
STEPS = list(pairwise(REVISIONS))
NOW = datetime(2024, 3, 15, 16, 0, tzinfo=UTC)
Send = Callable[..., Any]
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture
async def send() -> AsyncIterator[Send]:
    async with dying("migrate") as sending:
        yield sending


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        await database.close()


async def ask(database: Database, question: Callable[[Connection], Any]) -> Any:
    async with database.write() as connection:
        return await connection.run_sync(question)


def differences(connection: Connection) -> list[Any]:
    return compare_metadata(MigrationContext.configure(connection), metadata)


def tables(connection: Connection) -> dict[str, Table]:
    found = MetaData()
    found.reflect(connection)
    return {name: t for name, t in found.tables.items() if name != "alembic_version"}


def fill(connection: Connection) -> None:
    """Three rows into every table, of whatever columns it has."""
    for table in tables(connection).values():
        rows = [{c.name: value_for(c.name, c.type, n) for c in table.columns} for n in range(3)]
        connection.execute(insert(table), rows)


def value_for(name: str, kind: Any, n: int) -> Any:
    if isinstance(kind, JSON):
        return [name, n]
    if isinstance(kind, DateTime):
        return NOW.replace(hour=n)
    if isinstance(kind, Integer):
        return 1 if name == "count" else n
    if isinstance(kind, LargeBinary):
        return name.encode() + bytes([n])
    assert isinstance(kind, String)
    return f"{n}{name}"[: kind.length]


def revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def rows(connection: Connection) -> Rows:
    return rows_of(tables(connection), connection)


def rows_of(known: Mapping[str, Table], connection: Connection) -> Rows:
    return {
        name: sorted(
            (dict(row) for row in connection.execute(select(table)).mappings()),
            key=lambda row: [str(row[c.name]) for c in table.primary_key],
        )
        for name, table in known.items()
    }


def common(one: Rows, other: Rows) -> tuple[Rows, Rows]:
    """Two states of the tables, each without the tables and columns that the other has not."""

    def within(rows: Rows, beside: Rows) -> Rows:
        return {
            name: [cut(row, beside[name][0] if beside[name] else row) for row in found]
            for name, found in rows.items()
            if name in beside
        }

    return within(one, other), within(other, one)


def cut(row: Mapping[str, Any], beside: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name in beside}


async def test_up_down_and_up_again(database_url: str) -> None:
    async with opened(database_url) as database:
        for _ in range(2):
            assert await database.migrate() == Migration(BASE, REVISIONS[-1])
            assert await ask(database, differences) == []
            await ask(database, fill)
            assert await database.migrate() == Migration(REVISIONS[-1], REVISIONS[-1])
            assert await database.migrate(BASE) == Migration(REVISIONS[-1], BASE)
            assert await ask(database, lambda c: inspect(c).get_table_names()) == [
                "alembic_version"
            ]


@pytest.mark.parametrize(("lower", "upper"), STEPS)
async def test_each_step_keeps_what_both_revisions_know(
    database_url: str, lower: str, upper: str
) -> None:
    async with opened(database_url) as database:
        await database.migrate(lower)
        await ask(database, fill)
        before = await ask(database, rows)
        await database.migrate(upper)
        after = await ask(database, rows)
        kept, found = common(before, after)
        assert kept == found
        assert set(before) <= set(after)
        # Down again with what only the upper one can have filled.
        await database.migrate(BASE)
        await database.migrate(upper)
        await ask(database, fill)
        before = await ask(database, rows)
        await database.migrate(lower)
        after = await ask(database, rows)
        kept, found = common(before, after)
        assert kept == found
        await database.migrate()
        assert await ask(database, differences) == []


async def test_down_from_the_audit_leaves_what_the_first_version_knew(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.migrate("0002")
        known = RequestEntry(NOW, "a", "5F", "btauth", "GET", "/x", 200, None, "::", "e")
        await Trail(database).add(
            [known, known._replace(hotkey=""), known._replace(status=429, counted=7)]
        )
        await Records(database).issue("e", "miner", "5F", NOW, Origin("a", "::", "btauth"))
        await database.migrate("0001")
        left = await ask(database, rows)
        assert [(r["request_id"], r["hotkey"], r["status"]) for r in left["requests"]] == [
            ("a", "5F", 200)
        ]
        assert [r["hotkey"] for r in left["credentials"]] == ["5F"]
        await database.migrate()
        # What it wrote then can be read, with an origin that nobody knows.
        (credentials, request) = await Trail(database).entries(LogQuery(hotkey="5F"))
        assert {credentials.request_id, request.request_id} == {None, "a"}


async def test_several_at_once(database_url: str, send: Send) -> None:
    """In processes of their own that wait for each other's beginning; and in this one."""
    async with dying("migrate") as other, dying("migrate") as third:
        for to in (REVISIONS[-1], BASE, REVISIONS[-1]):
            order = {"url": database_url, "to": to}
            ends = await asyncio.gather(*(s(**order) for s in (send, other, third)))
            assert [code for code, _ in ends] == [0, 0, 0]
    databases = [Database(database_url) for _ in range(4)]
    await databases[0].migrate(BASE)
    moved = await asyncio.gather(*(database.migrate() for database in databases))
    assert sorted(m.before for m in moved) == sorted([BASE, *[REVISIONS[-1]] * 3])
    assert await ask(databases[0], differences) == []
    for database in databases:
        await database.close()


@pytest.mark.parametrize("down", [False, True])
async def test_a_death_at_any_step_leaves_a_whole_revision(
    database_url: str, send: Send, down: bool
) -> None:
    """Up from the first revision, or down to it, with data in the tables."""
    there, to = (REVISIONS[-1], "0001") if down else ("0001", REVISIONS[-1])
    async with opened(database_url) as database:
        await database.migrate(there)
        await ask(database, fill)
        known = await ask(database, tables)
        before = await ask(database, partial(rows_of, known))
        step = 0
        while True:
            code, _ = await send(url=database_url, to=to, die_at=step)
            if code == 0:
                break
            assert code == -signal.SIGKILL
            if await ask(database, revision) == there:
                assert await ask(database, partial(rows_of, known)) == before
            else:
                # Dead, but after the commit.
                assert await ask(database, revision) == to
                await database.migrate(BASE)
                await database.migrate(there)
                await ask(database, fill)
            step += 1
        assert step > 15
        kept, found = common(before, await ask(database, rows))
        assert kept == found
        await database.migrate()
        assert await ask(database, differences) == []


@asynccontextmanager
async def of_the_future(url: str) -> AsyncIterator[Database]:
    """A database that a later program has used."""
    async with opened(url) as database:
        await database.migrate()
        async with database.write() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
            await connection.execute(text("CREATE TABLE later (id INTEGER)"))
        yield database


async def test_a_newer_database_is_refused_and_left_alone(database_url: str) -> None:
    async with of_the_future(database_url) as database:
        before = await ask(database, rows)
        for to in ("head", BASE, "0001"):
            with pytest.raises(DatabaseError) as refused:
                await database.migrate(to)
            words = str(refused.value)
            assert "revision 9999" in words
            assert "newer sn46" in words
            assert f"--to {REVISIONS[-1]}" in words
            assert "\n" not in words
        assert await ask(database, rows) == before


async def test_the_server_does_not_start_on_a_newer_database(world: World) -> None:
    settings = world.settings(port=free_port())
    async with of_the_future(settings.database_url):
        with pytest.raises(StartError, match="newer sn46 has used it"):
            await serve(settings, world.clock)
        findings = {f.part: f async for f in check_api(settings, world.clock)}
        assert not findings["database"].ok
        assert "revision 9999" in findings["database"].text


@pytest.fixture
def owner(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The command line runs with the settings of this world."""
    monkeypatch.chdir(world.folder)
    for name, value in world.settings_values.items():
        monkeypatch.setenv(name.upper(), str(value))
    return world


async def test_the_owner_migrates_up_and_down(
    owner: World, capsys: pytest.CaptureFixture[str]
) -> None:
    async def migrate(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(main, ["api", "migrate", *arguments])
        captured = capsys.readouterr()
        (line,) = (captured.out + captured.err).splitlines()
        return code, line

    last = REVISIONS[-1]
    assert await migrate() == (0, f"The database was at revision base, and is at {last} now.")
    assert await migrate() == (0, f"The database is at revision {last} already.")
    code, line = await migrate("--to", "0001")
    assert (code, line) == (0, f"The database was at revision {last}, and is at 0001 now.")
    code, line = await migrate("--to", "mars")
    assert code == 1
    assert "no revision mars; there are base, 0001" in line
    code, line = await migrate("--to", "base")
    assert code == 2
    assert "--yes" in line
    # The server itself brings it up again, and works.
    async with api_over(owner) as net:
        await net.ready()
        await net.client("ann").miner_upload()
    code, line = await migrate("--to", "base", "--yes")
    assert code == 0
