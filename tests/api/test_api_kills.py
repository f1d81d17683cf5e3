"""A server killed at any step of a transition leaves whole epochs only, and the next one
completes it. The steps are counted, and every one of them is tried."""

import json
import shutil
import signal
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from apinet import L, World
from dying import dying
from sqlalchemy import func, select

from sn46.api.database import Database
from sn46.api.schema import draws, epochs
from sn46.mechanism.assignment import read_assignment
from sn46.mechanism.epochs import epoch_at

LENGTH = timedelta(seconds=L)
Send = Callable[..., Any]


@pytest.fixture
async def send() -> AsyncIterator[Send]:
    async with dying("rounds") as sending:
        yield sending


@dataclass(frozen=True)
class Kept:
    """An epoch that was found whole, and whether its seed is published."""

    epoch_id: str
    revealed: bool


async def kept_in(url: str) -> list[Kept]:
    """Every epoch of a database, oldest first, each checked to be whole."""
    database = Database(url)
    async with database.read() as connection:
        rows = (await connection.execute(select(epochs).order_by(epochs.c.start))).all()
        counted = await connection.execute(
            select(draws.c.epoch_id, func.count(), func.sum(draws.c.expected_listings)).group_by(
                draws.c.epoch_id
            )
        )
        drawn = {row[0]: (row[1], row[2]) for row in counted}
    await database.close()
    assert set(drawn) == {row.epoch_id for row in rows}
    return [whole(row, drawn[row.epoch_id]) for row in rows]


def whole(row: Any, drawn: tuple[int, int]) -> Kept:
    assignment = read_assignment(json.loads(row.document))
    assert assignment.epoch.id == row.epoch_id
    assert assignment.selection.seed is None
    assert drawn == (len(assignment.zipcodes), assignment.total_expected_listings)
    if row.revealed_document is not None:
        revealed = read_assignment(json.loads(row.revealed_document))
        assert revealed.selection.seed == row.seed
        assert revealed.zipcodes == assignment.zipcodes
    return Kept(row.epoch_id, row.revealed_document is not None)


async def test_a_kill_at_every_step_of_a_transition(
    world: World, database_url: str, send: Send
) -> None:
    start = epoch_at(world.clock.now(), L).start

    async def rounds(*moments: int, die_at: int | None = None) -> tuple[int, int]:
        """Rounds at the starts of epochs, numbered from the first."""
        return await send(
            url=database_url,
            folder=str(world.folder),
            moments=[(start + n * LENGTH).timestamp() for n in moments],
            die_at=die_at,
        )

    code, steps = await rounds(0, 1)
    assert code == 0
    assert steps >= 8
    states: set[tuple[bool, bool]] = set()
    for step in range(steps):
        # What the kill before left behind is completed first, by this new server.
        epoch = step + 2
        assert (await rounds(epoch - 1, epoch, die_at=step))[0] == -signal.SIGKILL
        kept = await kept_in(database_url)
        assert [k.epoch_id for k in kept[:epoch]] == [
            epoch_at(start + n * LENGTH, L).id for n in range(epoch)
        ]
        assert all(k.revealed for k in kept[: epoch - 1])
        drawn, revealed = len(kept) > epoch, kept[epoch - 1].revealed
        assert len(kept) == epoch + drawn
        states.add((drawn, revealed))
    # Killed before the draw was kept, between it and the seed, and after both.
    assert states == {(False, False), (True, False), (True, True)}


def torn_at(wal: bytes) -> list[int]:
    """Where a write-ahead log can be cut: at every frame's beginning, behind its header, and in
    the middle of its page (its format: SQLite's "WAL-mode File Format")."""
    page = struct.unpack(">I", wal[8:12])[0]
    frame = 24 + page
    frames = (len(wal) - 32) // frame
    starts = [32 + n * frame for n in range(frames + 1)]
    return [0, 16, *(cut for s in starts for cut in (s, s + 24, s + 24 + page // 2))]


def beside(database: Path) -> Path:
    """The write-ahead log of an SQLite file."""
    return database.with_name(f"{database.name}-wal")


async def test_power_lost_at_any_page_of_a_transition(
    world: World, send: Send, tmp_path: Path
) -> None:
    """What a kill cannot show: the log reached the disk only up to some page."""
    start = epoch_at(world.clock.now(), L).start
    moments = [(start + n * LENGTH).timestamp() for n in range(2)]
    whole_file, file, torn = (tmp_path / f"{name}.db" for name in ("whole", "killed", "torn"))

    async def rounds(database: Path, *moments: float, die_at: int | None = None) -> tuple[int, int]:
        url = f"sqlite+aiosqlite:///{database}"
        return await send(url=url, folder=str(world.folder), moments=moments, die_at=die_at)

    # Who closes the file properly takes the log into it: it holds one epoch.
    await rounds(file, moments[0])
    shutil.copy(file, whole_file)
    shutil.copy(file, torn)
    _, steps = await rounds(whole_file, *moments)
    await rounds(file, *moments, die_at=steps - 1)
    wal = beside(file).read_bytes()
    states: list[tuple[int, bool]] = []
    for cut in torn_at(wal):
        beside(torn).write_bytes(wal[:cut])
        shutil.copy(file, torn)
        kept = await kept_in(f"sqlite+aiosqlite:///{torn}")
        states.append((len(kept), kept[0].revealed))
    assert sorted(set(states)) == [(1, False), (2, False), (2, True)]
    assert states == sorted(states)
