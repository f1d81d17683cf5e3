"""PostgreSQL as a service: set up once, kept over restarts, closed to strangers, gone with us."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from localnet_helpers import eventually, is_alive, until
from localnet_replicas import QUICK
from sqlalchemy import text

from sn46.api.database import Database
from sn46.localnet.accounts import Account, check_reach
from sn46.localnet.datadir import DataDir
from sn46.localnet.errors import LocalnetError
from sn46.localnet.plan import base_environment
from sn46.localnet.ports import choose_ports
from sn46.localnet.postgresservice import Postgres, PostgresService
from sn46.localnet.service import Event, State


@pytest.fixture
def server() -> Iterator[Postgres]:
    with DataDir(None) as data:
        ports = choose_ports(["postgres"], wanted={}, remembered={})
        log = data.logs / "postgres.log"
        yield Postgres(data.of("postgres"), ports["postgres"], "a secret", log)


def make_service(server: Postgres, events: list[Event]) -> PostgresService:
    service = PostgresService(server, base_environment(), events.append, QUICK)
    if service.account is not None:
        os.chown(server.folder.parent, -1, service.account.gid)
        server.folder.parent.chmod(0o710)
    return service


@pytest.fixture
async def service(server: Postgres, events: list[Event]) -> AsyncIterator[PostgresService]:
    made = make_service(server, events)
    made.start()
    await eventually(server.is_up)
    yield made
    await made.stop()


async def ask(server: Postgres, *statements: str) -> object:
    """Run statements in one transaction; the first value of the last one's answer."""
    database = Database(server.url)
    try:
        async with database.write() as connection:
            for statement in statements:
                result = await connection.execute(text(statement))
        return result.scalar() if result.returns_rows else None
    finally:
        await database.close()


async def test_data_outlive_a_kill_a_stop_and_a_process_id_given_away(
    server: Postgres, service: PostgresService, events: list[Event]
) -> None:
    await ask(server, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (46)")
    pid = service.pid
    assert pid is not None
    family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    service.kill()
    await until(lambda: service.pid not in (None, pid))
    await eventually(server.is_up)
    assert await ask(server, "SELECT n FROM kept") == 46
    assert not any(is_alive(one) for one in family)

    await service.stop()
    assert service.state is State.STOPPED
    assert not (server.data / "postmaster.pid").exists()
    # As after a kill of all, and a restart of the machine: the number is now someone else's.
    lines = [
        str(os.getpid()),
        str(server.data),
        "1",
        str(server.port),
        "",
        "127.0.0.1",
        "",
        "ready",
    ]
    (server.data / "postmaster.pid").write_text("\n".join(lines))
    again = make_service(server, events)
    again.start()
    await eventually(server.is_up)
    assert await ask(server, "SELECT n FROM kept") == 46
    await again.stop()
    assert [event.text for event in events] == [
        "was ended by SIGKILL; it is started again in 0.2 s"
    ]


async def test_it_asks_for_its_password_and_writes_nowhere_else(
    server: Postgres, service: PostgresService
) -> None:
    assert not await replace(server, password="another").is_up()
    assert not (server.folder / "password").exists()
    assert service.pid is not None
    assert "a secret" not in " ".join(psutil.Process(service.pid).cmdline())
    sockets = [c for c in psutil.Process(service.pid).net_connections("all") if c.laddr]
    assert {(c.laddr.ip, c.laddr.port) for c in sockets} == {("127.0.0.1", server.port)}


async def test_a_set_up_that_was_cut_short_is_made_anew(
    server: Postgres, events: list[Event]
) -> None:
    (server.folder / "data.part").mkdir()
    (server.folder / "data.part" / "PG_VERSION").write_text("18")
    service = make_service(server, events)
    service.start()
    await eventually(server.is_up)
    await service.stop()
    assert events == []
    assert not (server.folder / "data.part").exists()


async def test_a_port_in_use_is_said_in_its_own_words(
    server: Postgres, events: list[Event]
) -> None:
    taken = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", server.port)
    service = make_service(server, events)
    service.start()
    await until(lambda: bool(events))
    taken.close()
    await eventually(server.is_up)
    await service.stop()
    assert any("Address already in use" in line for line in events[0].tail)


async def test_a_reader_sees_one_state(server: Postgres, service: PostgresService) -> None:
    await ask(server, "CREATE TABLE counted (n int)")
    database = Database(server.url)
    count = text("SELECT count(*) FROM counted")
    async with database.read() as connection:
        before = (await connection.execute(count)).scalar()
        await ask(server, "INSERT INTO counted VALUES (1)")
        after = (await connection.execute(count)).scalar()
    async with database.read() as connection:
        later = (await connection.execute(count)).scalar()
    await database.close()
    assert (before, after, later) == (0, 0, 1)


def test_a_folder_that_is_closed_to_its_account_is_named(open_path: Path) -> None:
    nobody = Account("nobody", 65_534, 65_534)
    path = open_path / "shut" / "data"
    path.parent.mkdir(mode=0o700)
    with pytest.raises(LocalnetError, match=f"nobody.* may not pass through {path.parent} to"):
        check_reach(nobody, path)
    path.parent.chmod(0o711)
    check_reach(nobody, path)
