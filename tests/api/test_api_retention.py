"""What is forgotten and what is not, over a clock that is moved, on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from apinet import L, Net, World, api_over
from sqlalchemy import Engine, event, func, insert, select

from sn46.api.database import Database
from sn46.api.records import Origin, Report
from sn46.api.retention import Retention
from sn46.api.schema import credentials, draws, epochs, reports, requests, statuses
from sn46.mechanism.epochs import epoch_at
from sn46.mechanism.names import Hotkey

CURRENT = "/api/v1/zipcode-assignments/current"
KEPT = (epochs, draws, credentials, reports)
FORGOTTEN = (requests, statuses)


async def counts(database: Database, *tables: Any) -> list[int]:
    async with database.read() as connection:
        return [
            (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for table in tables
        ]


async def use(net: Net) -> None:
    """One of everything that is kept on record."""
    assignment = (await net.client("ann").current()).assignment
    await net.client("ann").miner_upload()
    await net.client("ann").report_status(
        epoch_id=net.epoch.id,
        nonce=assignment.nonce,
        status="completed",
        listings_found=3,
        s3_upload_complete=True,
    )
    await net.http.get(CURRENT)
    report = Report(
        net.epoch.id, Hotkey(net.hotkey("vali")), net.epoch.start, "c", "a", (), 0, 0,
        net.clock.now(),
    )  # fmt: skip
    origin = Origin("announced", "127.0.0.1", "btauth")
    await net.services.records.put_report(report, replace=True, origin=origin)
    await net.services.audit.flush()


async def test_after_thirty_days_requests_and_statuses_go(world: World, database_url: str) -> None:
    async with api_over(world, database_url=database_url) as net:
        await net.ready()
        await use(net)
        database = net.services.database
        before = await counts(database, *KEPT)
        assert all(before)
        assert await counts(database, *FORGOTTEN) == [4, 1]

        net.clock.advance(timedelta(days=29))
        assert await net.services.retention.forget() == 0
        net.clock.advance(timedelta(days=1, hours=5))

        async def forgotten() -> bool:
            """The server does it by itself, within the hour."""
            net.clock.advance(timedelta(minutes=61))
            return await counts(database, *FORGOTTEN) == [0, 0]

        await net.until(forgotten)
        after = await counts(database, *KEPT)
        assert all(now >= then for now, then in zip(after, before, strict=True))
        async with database.read() as connection:
            (kept,) = (await connection.execute(select(credentials))).mappings()
        assert kept["hotkey"] == net.hotkey("ann")


def request(at: datetime) -> dict[str, Any]:
    return {
        "at": at,
        "request_id": "id",
        "hotkey": "5F",
        "way": "btauth",
        "method": "GET",
        "path": CURRENT,
        "status": 200,
        "address": "127.0.0.1",
    }


def status(at: datetime, n: int) -> dict[str, Any]:
    return {
        "epoch_id": epoch_at(at, L).id,
        "hotkey": f"hotkey-{n}",
        "status": "completed",
        "listings_found": 1,
        "s3_upload_complete": 1,
        "updated_at": at,
    }


@asynccontextmanager
async def aged(
    world: World, url: str, old: int, young: int, **changes: Any
) -> AsyncIterator[tuple[Database, Retention]]:
    """A database with old and young rows, under the settings of a world."""
    database, now = Database(url), world.clock.now()
    await database.migrate()
    rows = [now - timedelta(days=40)] * old + [now - timedelta(days=20)] * young
    async with database.write() as connection:
        if rows:
            await connection.execute(insert(requests), [request(at) for at in rows])
            every = [status(at, n) for n, at in enumerate(rows)]
            await connection.execute(insert(statuses), every)
    yield database, Retention(database, world.settings(**changes), world.clock)
    await database.close()


async def test_a_big_deletion_lets_others_write_meanwhile(world: World, database_url: str) -> None:
    async with aged(world, database_url, 9_000, 50) as (database, retention):
        deleted: list[int] = []
        begun = asyncio.Event()

        def executed(_c: Any, cursor: Any, statement: str, *_rest: Any) -> None:
            if statement.startswith("DELETE"):
                deleted.append(cursor.rowcount)
                begun.set()

        event.listen(Engine, "after_cursor_execute", executed)
        forgetting = asyncio.create_task(retention.forget())
        # Another writer gets its turn before the whole is done.
        await asyncio.wait_for(begun.wait(), 60)
        async with database.write() as connection:
            await connection.execute(insert(requests), [request(world.clock.now())])
        assert not forgetting.done()
        assert await forgetting == 18_000
        event.remove(Engine, "after_cursor_execute", executed)
        assert max(deleted) == 500
        assert sum(deleted) == 18_000
        assert await counts(database, *FORGOTTEN) == [51, 50]
        assert await retention.forget() == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({}, [5, 5]),
        ({"audit_days": 60}, [8, 5]),
        ({"status_days": 60}, [5, 8]),
        ({"audit_days": 10, "status_days": 10}, [0, 0]),
    ],
)
async def test_how_long_is_set_for_each(
    world: World, database_url: str, changes: dict[str, int], left: list[int]
) -> None:
    async with aged(world, database_url, 3, 5, **changes) as (database, retention):
        await retention.forget()
        assert await counts(database, *FORGOTTEN) == left


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_statuses_go_by_whole_epochs(world: World, database_url: str) -> None:
    """The epoch in which the last of the days begins is kept, and every later one."""
    async with aged(world, database_url, 0, 0) as (database, retention):
        edge = epoch_at(world.clock.now() - timedelta(days=30), L)
        moments = [edge.start - timedelta(seconds=1), edge.start, edge.end]
        async with database.write() as connection:
            every = [status(at, n) for n, at in enumerate(moments)]
            await connection.execute(insert(statuses), every)
        assert await retention.forget() == 1
        async with database.read() as connection:
            left = (await connection.execute(select(statuses.c.epoch_id))).scalars().all()
        assert sorted(left) == [edge.id, edge.next().id]
