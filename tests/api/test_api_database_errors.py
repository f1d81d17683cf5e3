"""What a database that fails lets anyone know: that it fails, and nothing of what it was given."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from apinet import World, api_over
from sqlalchemy import make_url, text
from sqlalchemy.exc import SQLAlchemyError

from sn46.api.database import Database, DatabaseError, reason_of
from sn46.api.records import Records
from sn46.api.services import Services
from sn46.mechanism.assignment import selection_seed

SHORTLY = 0.5
FULL = {
    "sqlite": ("CREATE TRIGGER no BEFORE INSERT ON epochs BEGIN SELECT RAISE(ABORT, 'full'); END",),
    "postgresql": (
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53100', DETAIL = NEW.seed; END $$",
        "CREATE TRIGGER no BEFORE INSERT ON epochs FOR EACH ROW EXECUTE FUNCTION no()",
    ),
}


async def fill(services: Services) -> None:
    """Let every epoch be refused, as a full disk does."""
    async with services.database.write() as connection:
        for statement in FULL["sqlite" if services.database.is_sqlite else "postgresql"]:
            await connection.execute(text(statement))


async def test_a_draw_that_cannot_be_kept_is_shown_without_its_seed(
    world: World, database_url: str
) -> None:
    async with api_over(world, database_url=database_url) as net:
        await net.ready()
        await fill(net.services)
        coming = net.epoch.next()
        net.clock.advance_to(coming.draw_at)

        async def failed() -> bool:
            return net.services.scheduler.last_error is not None

        await net.until(failed)
        told = [
            (await net.http.get(path)).text
            for path in ("/readyz", "/api/v1/zipcode-assignments/stats")
        ]
        seed = selection_seed(net.services.settings.secret, coming.id)
    for answer in told:
        assert "the server's log says why" in answer
        assert "full" not in answer
        assert seed not in answer


def test_a_reason_is_one_line_even_where_there_is_none() -> None:
    # What asyncpg raises where PostgreSQL's machine does not answer.
    assert reason_of(TimeoutError()) == "TimeoutError"
    assert reason_of(OSError("one\ntwo")) == "one"


def test_an_address_without_a_port_is_named_without_its_password() -> None:
    with pytest.raises(DatabaseError) as refused:
        Database("postgresql+asyncpg://sn46:p@ss:w0rd@db/sn46")
    assert "DATABASE_URL" in str(refused.value)
    assert "w0rd" not in str(refused.value)
    assert refused.value.__cause__ is None


class Firewall:
    """Stands before a PostgreSQL, and can forget the connections that go through it."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._remembered: set[asyncio.StreamWriter] = set()

    def forget(self) -> None:
        self._remembered.clear()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(str(self._socket))
        self._remembered.add(writer)

        async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                if writer in self._remembered:
                    target.write(data)

        await asyncio.gather(pass_on(reader, there_writer), pass_on(there_reader, writer))


@pytest.fixture
async def firewalled(postgres: str) -> AsyncIterator[tuple[Firewall, str]]:
    url = make_url(postgres)
    firewall = Firewall(Path(str(url.query["host"])) / ".s.PGSQL.5432")
    server = await asyncio.start_server(firewall.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield firewall, f"postgresql+asyncpg://{url.username}@127.0.0.1:{port}/{url.database}"
    server.close()


async def test_connections_that_went_silent_are_given_up(
    firewalled: tuple[Firewall, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    firewall, url = firewalled
    monkeypatch.setattr("sn46.api.database._ANSWER_SECONDS", SHORTLY)
    database = Database(url)
    records = Records(database)
    await asyncio.gather(*(records.ping() for _ in range(3)))
    firewall.forget()
    async with asyncio.timeout(30):
        found = await asyncio.gather(*(records.ping() for _ in range(3)), return_exceptions=True)
        assert all(isinstance(error, SQLAlchemyError | OSError) for error in found)
        await records.ping()
        await database.close()


async def test_a_migration_waits_for_another_servers(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sn46.api.database._ANSWER_SECONDS", SHORTLY)
    one, other = Database(postgres), Database(postgres)
    async with one.write(exclusive=True):
        waiting = asyncio.create_task(other.migrate())
        done, _ = await asyncio.wait({waiting}, timeout=2 * SHORTLY)
        assert not done
    assert (await waiting).before == "base"
    await one.close()
    await other.close()
