"""What the database is asked for past draws, so that anyone can make them again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from sn46.api.database import Database
from sn46.api.schema import draws, epochs, reports, zip_tables
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.names import ZipCode


@dataclass(frozen=True)
class PastDraw:
    """A draw as the history lists it, its ZIPs sorted. The document and what belongs to it are
    there only where they were asked for."""

    epoch: Epoch
    target_listings: int
    zipcodes: tuple[ZipCode, ...]
    document: bytes | None = None
    seed: str | None = None
    drawn_at: datetime | None = None


class DrawRecords:
    """The database's questions about past draws. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def has_table(self, version: str) -> bool:
        """Whether a draw has put this table on record."""
        query = select(zip_tables.c.version).where(zip_tables.c.version == version)
        async with self._database.read() as connection:
            return (await connection.execute(query)).first() is not None

    async def table(self, version: str, now: datetime) -> bytes | None:
        """A table's packed document, once an epoch that was drawn from it has begun."""
        query = select(zip_tables.c.document).where(
            zip_tables.c.version == version, zip_tables.c.first_start <= now
        )
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalar()

    async def page(
        self, before: datetime, ended_by: datetime, count: int, *, documents: bool
    ) -> list[PastDraw]:
        """The newest draws for epochs that start before a moment and have ended by another, newest
        first."""
        columns: list[Any] = [epochs.c.epoch_id, epochs.c.start, epochs.c.seconds]
        columns.append(epochs.c.target_listings)
        if documents:
            columns += [epochs.c.document, epochs.c.seed, epochs.c.drawn_at]
        query = (
            select(*columns)
            .where(epochs.c.start < before, epochs.c.end <= ended_by)
            .order_by(epochs.c.start.desc())
            .limit(count)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
            if not rows:
                return []
            drawn = await connection.execute(
                select(draws.c.start, draws.c.zipcode)
                .where(draws.c.start >= rows[-1].start, draws.c.start <= rows[0].start)
                .order_by(draws.c.zipcode)
            )
            zipcodes: dict[datetime, list[ZipCode]] = {row.start: [] for row in rows}
            for start, zipcode in drawn:
                zipcodes[start].append(zipcode)
        return [_past_draw(row, zipcodes[row.start], documents=documents) for row in rows]

    async def newest_counted(
        self, before: datetime, announced_by: datetime, count: int
    ) -> list[datetime]:
        """Starts of the newest epochs before a moment on which a report was announced in time,
        oldest first."""
        query = (
            select(reports.c.start)
            .where(reports.c.start < before, reports.c.announced_at <= announced_by)
            .distinct()
            .order_by(reports.c.start.desc())
            .limit(count)
        )
        async with self._database.read() as connection:
            return sorted(row[0] for row in await connection.execute(query))

    async def targets_between(self, first: datetime, before: datetime) -> dict[datetime, int]:
        """What the epochs that start in [first, before) asked for, in listings, by their start."""
        query = select(epochs.c.start, epochs.c.target_listings).where(
            epochs.c.start >= first, epochs.c.start < before
        )
        async with self._database.read() as connection:
            return {row[0]: row[1] for row in await connection.execute(query)}


def _past_draw(row: Any, zipcodes: Sequence[ZipCode], *, documents: bool) -> PastDraw:
    return PastDraw(
        Epoch(row.start, row.seconds),
        row.target_listings,
        tuple(zipcodes),
        *((row.document, row.seed, row.drawn_at) if documents else ()),
    )
