"""Group commit: concurrent first issues and statuses share transactions, and mean what they mean
one by one. On SQLite and on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from sn46.api.database import Database
from sn46.api.records import Origin, Records, StatusReport
from sn46.api.schema import credentials, statuses
from sn46.mechanism.names import EpochId, Hotkey

EPOCH = EpochId("2024-03-15-16:00")
NOW = datetime(2024, 3, 15, 16, 0, tzinfo=UTC)
ORIGIN = Origin("request", "203.0.113.7", "btauth")


@asynccontextmanager
async def replica(url: str) -> AsyncIterator[tuple[Database, Records]]:
    database = Database(url)
    try:
        await database.migrate()
        yield database, Records(database)
    finally:
        await database.close()


@contextmanager
def commits() -> Iterator[Callable[[], int]]:
    """How many transactions were committed since, over all connections of this process."""
    seen: list[object] = []

    def committed(connection: Any) -> None:
        seen.append(connection)

    event.listen(Engine, "commit", committed)
    try:
        yield lambda: len(seen)
    finally:
        event.remove(Engine, "commit", committed)


@asynccontextmanager
async def held_up(database: Database, table: str) -> AsyncIterator[None]:
    """Nobody can write to a table until this is left."""
    async with database.write() as connection:
        if not database.is_sqlite:
            await connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        yield


async def turns(number: int = 20) -> None:
    """Let what can run, run."""
    for _ in range(number):
        await asyncio.sleep(0)


def status(hotkey: str, word: str, found: int = 1) -> StatusReport:
    return StatusReport(EPOCH, Hotkey(hotkey), word, found, None, False, NOW)


async def test_many_first_issues_share_transactions(database_url: str) -> None:
    async with replica(database_url) as (database, records):
        moments = [NOW + timedelta(seconds=n) for n in range(300)]
        with commits() as committed:
            issued = await asyncio.gather(
                *(
                    records.issue(EPOCH, "miner", f"hotkey-{n // 2}", moment, ORIGIN)
                    for n, moment in enumerate(moments)
                )
            )
        assert committed() <= 3
        # Of two at once for one hotkey, the first one's moment is on record for both.
        assert issued == [moments[n // 2 * 2] for n in range(300)]
        assert len(await records.holders(EPOCH, ["miner"])) == 150
        # A server that was started anew reads the same.
        again = Records(database)
        for n in (0, 149):
            assert await again.issue(
                EPOCH, "miner", f"hotkey-{n}", NOW + timedelta(hours=1), ORIGIN
            ) == moments[2 * n]  # fmt: skip


async def test_who_comes_alone_has_a_transaction_alone(database_url: str) -> None:
    async with replica(database_url) as (_, records):
        with commits() as committed:
            for n in range(3):
                await records.issue(EPOCH, "miner", f"hotkey-{n}", NOW, ORIGIN)
                assert committed() == n + 1
            await records.issue(EPOCH, "miner", "hotkey-0", NOW, ORIGIN)
            assert committed() == 3


async def test_more_than_one_batch(database_url: str) -> None:
    async with replica(database_url) as (database, records):
        with commits() as committed:
            await asyncio.gather(
                *(records.issue(EPOCH, "miner", f"hotkey-{n}", NOW, ORIGIN) for n in range(1_700))
            )
        assert committed() <= 6
        async with database.read() as connection:
            query = select(func.count()).select_from(credentials)
            assert (await connection.execute(query)).scalar_one() == 1_700


async def test_an_error_reaches_everyone_and_nothing_is_kept(database_url: str) -> None:
    async with replica(database_url) as (database, records):
        for away, back in (("credentials", "away"), ("statuses", "away")):
            async with database.write() as connection:
                await connection.execute(text(f"ALTER TABLE {away} RENAME TO {back}"))
            work: list[Any] = [
                records.issue(EPOCH, "miner", f"hotkey-{n}", NOW, ORIGIN)
                if away == "credentials"
                else records.put_status(status(f"hotkey-{n}", "in_progress"))
                for n in range(20)
            ]
            results = await asyncio.gather(*work, return_exceptions=True)
            assert all(isinstance(result, SQLAlchemyError) for result in results)
            async with database.write() as connection:
                await connection.execute(text(f"ALTER TABLE {back} RENAME TO {away}"))
        # What failed was not remembered as done, and the writer works on.
        assert await records.holders(EPOCH, ["miner"]) == []
        later = NOW + timedelta(minutes=1)
        assert await records.issue(EPOCH, "miner", "hotkey-0", later, ORIGIN) == later
        assert await records.put_status(status("hotkey-0", "completed"))


async def test_who_goes_away_leaves_the_others(database_url: str) -> None:
    async with replica(database_url) as (database, records), AsyncExitStack() as stack:
        await stack.enter_async_context(held_up(database, "credentials"))
        tasks = [
            asyncio.create_task(records.issue(EPOCH, "miner", f"hotkey-{n}", NOW, ORIGIN))
            for n in range(10)
        ]
        await turns()
        # Among them the first, whose coming began the batch.
        for n in (0, 4, 9):
            tasks[n].cancel()
        await turns()
        assert [n for n, task in enumerate(tasks) if task.cancelled()] == [0, 4, 9]
        await stack.aclose()
        stayed = [task for n, task in enumerate(tasks) if n not in (0, 4, 9)]
        assert await asyncio.gather(*stayed) == [NOW] * 7
        assert await records.issue(EPOCH, "miner", "hotkey-x", NOW, ORIGIN) == NOW
        async with asyncio.timeout(60):
            first = await records.issue(EPOCH, "miner", "hotkey-0", NOW, ORIGIN)
        assert first == NOW


async def test_two_replicas_agree_on_who_was_first(database_url: str) -> None:
    hotkeys = [f"hotkey-{n}" for n in range(200)]
    async with replica(database_url) as (_, one), replica(database_url) as (_, two):
        there, back = await asyncio.gather(
            _issue_all(one, hotkeys, NOW),
            _issue_all(two, hotkeys[::-1], NOW + timedelta(seconds=1)),
        )
        assert there == back
        assert set(there.values()) <= {NOW, NOW + timedelta(seconds=1)}
        assert await one.holders(EPOCH, ["miner"]) == sorted(hotkeys)


async def _issue_all(
    records: Records, hotkeys: Sequence[str], now: datetime
) -> dict[str, datetime]:
    issued = await asyncio.gather(
        *(records.issue(EPOCH, "miner", hotkey, now, ORIGIN) for hotkey in hotkeys)
    )
    return dict(zip(hotkeys, issued, strict=True))


async def test_two_replicas_take_statuses_in_any_order(database_url: str) -> None:
    hotkeys = [f"hotkey-{n}" for n in range(100)]
    async with replica(database_url) as (database, one), replica(database_url) as (_, two):
        for words in (("in_progress", "completed"), ("failed", "in_progress")):
            results = await asyncio.gather(
                *(one.put_status(status(hotkey, words[0])) for hotkey in hotkeys),
                *(two.put_status(status(hotkey, words[1])) for hotkey in hotkeys[::-1]),
            )
            # Completed is always kept; after it nothing else is.
            assert all(results[100:]) == ("completed" in words)
            assert any(results[100:]) == ("completed" in words)
        assert await one.status_counts(EPOCH) == {"completed": 100}
        async with database.read() as connection:
            query = select(func.count()).select_from(statuses)
            assert (await connection.execute(query)).scalar_one() == 100


EPOCHS = count()
STATUSES = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "cid"]),
        st.sampled_from(["in_progress", "completed", "failed", "timeout"]),
    ),
    max_size=12,
)


def in_turn(known: dict[str, tuple[str, int]], hotkey: str, word: str, found: int) -> bool:
    """What a status does that comes alone."""
    if known.get(hotkey, ("", 0))[0] == "completed" and word != "completed":
        return False
    known[hotkey] = (word, found)
    return True


@given(before=STATUSES, together=STATUSES)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_statuses_together_do_what_they_do_in_turn(
    database_url: str, before: list[tuple[str, str]], together: list[tuple[str, str]]
) -> None:
    asyncio.run(_statuses_together(database_url, before, together))


async def _statuses_together(
    url: str, before: list[tuple[str, str]], together: list[tuple[str, str]]
) -> None:
    epoch = EpochId(f"epoch-{next(EPOCHS)}")
    known: dict[str, tuple[str, int]] = {}
    async with replica(url) as (database, records):
        for part in (before, together):
            expected = [in_turn(known, *said, n) for n, said in enumerate(part)]
            reports = [
                StatusReport(epoch, Hotkey(hotkey), word, n, None, False, NOW)
                for n, (hotkey, word) in enumerate(part)
            ]
            assert await asyncio.gather(*map(records.put_status, reports)) == expected
        async with database.read() as connection:
            rows = await connection.execute(select(statuses).where(statuses.c.epoch_id == epoch))
            assert {row.hotkey: (row.status, row.listings_found) for row in rows} == known


async def test_a_database_closes_once_what_is_under_way_has_ended(database_url: str) -> None:
    database = Database(database_url)
    await database.migrate()
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def write() -> int:
        async with database.write() as connection:
            inside.set()
            await go_on.wait()
            return (await connection.execute(text("SELECT 46"))).scalar_one()

    writing = asyncio.create_task(write())
    await inside.wait()
    closing = asyncio.create_task(database.close())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not closing.done()
    go_on.set()
    assert await writing == 46
    await closing
