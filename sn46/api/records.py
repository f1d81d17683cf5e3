"""What the database is asked and told, each question once. The audit's own is in ``trail``."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, NamedTuple, cast

from sqlalchemy import ColumnElement, func, or_, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sn46.api.database import Database
from sn46.api.grouping import GroupWriter
from sn46.api.schema import credentials, draws, epochs, reports, statuses, zip_tables
from sn46.mechanism.assignment import AssignedZip
from sn46.mechanism.draw import DrawHistory
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.names import EpochId, Hotkey

CredentialKind = Literal["miner", "evidence", "results", "folder", "listing"]
COMPLETED = "completed"


@dataclass(frozen=True)
class StoredEpoch:
    """A drawn epoch as it is kept. ``document`` are the signed bytes that every caller gets,
    ``revealed_document`` those with the seed once the epoch has ended."""

    epoch: Epoch
    seed: str
    nonce: str
    assignment_hash: str
    table_version: str
    target_listings: int
    total_listings: int
    eligible: int
    relaxed: tuple[str, ...]
    draw_rules: Mapping[str, Any]
    document: bytes
    revealed_document: bytes | None
    drawn_at: datetime

    @property
    def epoch_id(self) -> EpochId:
        return self.epoch.id


@dataclass(frozen=True)
class EpochFigures:
    """What the history shows of an epoch."""

    epoch_id: EpochId
    start: datetime
    end: datetime
    target_listings: int
    total_listings: int
    zipcodes: int
    relaxed: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """An announced report, its figures as read from the report itself."""

    epoch_id: EpochId
    validator_hotkey: Hotkey
    start: datetime
    consensus_hash: str
    assignment_hash: str
    top_3: tuple[Hotkey, ...]
    participants: int
    reached_95: int
    announced_at: datetime


@dataclass(frozen=True)
class StatusReport:
    """A miner's word on how far it is."""

    epoch_id: EpochId
    hotkey: Hotkey
    status: str
    listings_found: int
    zipcodes_completed: int | None
    s3_upload_complete: bool
    updated_at: datetime


@dataclass(frozen=True)
class Origin:
    """Which request something goes back to: kept beside it, for the audit."""

    request_id: str
    address: str
    way: str


class _Issue(NamedTuple):
    """Credentials to record."""

    epoch_id: str
    kind: CredentialKind
    hotkey: str
    issued_at: datetime
    origin: Origin

    @property
    def key(self) -> "_Key":
        return self.epoch_id, self.kind, self.hotkey


_Key = tuple[str, CredentialKind, str]


class Records:
    """The database's questions. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._issued: OrderedDict[_Key, datetime] = OrderedDict()
        # At the start of an epoch every miner asks at once.
        self._issues = GroupWriter(database, self._issue_all)
        self._statuses = GroupWriter(database, self._put_statuses)

    async def ping(self) -> None:
        async with self._database.read() as connection:
            await connection.execute(text("SELECT 1"))

    # Epochs

    async def epoch(self, epoch_id: str) -> StoredEpoch | None:
        async with self._database.read() as connection:
            result = await connection.execute(select(epochs).where(epochs.c.epoch_id == epoch_id))
            row = result.mappings().first()
        return None if row is None else _stored_epoch(cast(Mapping[str, Any], row))

    async def epoch_at(self, moment: datetime) -> StoredEpoch | None:
        """The epoch that a moment falls into."""
        return await self._first_epoch(epochs.c.start <= moment, epochs.c.end > moment)

    async def last_ended(self, moment: datetime) -> StoredEpoch | None:
        """The last epoch that has ended at a moment."""
        return await self._first_epoch(epochs.c.end <= moment)

    async def _first_epoch(self, *conditions: ColumnElement[bool]) -> StoredEpoch | None:
        """The newest epoch that meets conditions."""
        query = select(epochs).where(*conditions).order_by(epochs.c.start.desc()).limit(1)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _stored_epoch(cast(Mapping[str, Any], row))

    async def newest_epoch(self) -> Epoch | None:
        """The latest epoch that was ever drawn."""
        columns = (epochs.c.start, epochs.c.seconds)
        query = select(*columns).order_by(epochs.c.start.desc()).limit(1)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else Epoch(row.start, row.seconds)

    async def draw_history(self) -> tuple[DrawHistory, datetime | None]:
        """When each ZIP was last drawn, and the newest epoch that this includes."""
        async with self._database.read() as connection:
            last = await connection.execute(
                select(draws.c.zipcode, func.max(draws.c.start)).group_by(draws.c.zipcode)
            )
            last_drawn = {row[0]: row[1] for row in last}
            first = (await connection.execute(select(func.min(epochs.c.start)))).scalar()
            newest = await _newest_start(connection)
        return DrawHistory(last_drawn, first), newest

    async def newest_target(self) -> int | None:
        """The target of the latest draw, in listings."""
        async with self._database.read() as connection:
            query = select(epochs.c.target_listings).order_by(epochs.c.start.desc()).limit(1)
            return (await connection.execute(query)).scalar()

    async def add_epoch(
        self,
        stored: StoredEpoch,
        zipcodes: Sequence[AssignedZip],
        *,
        after: datetime | None,
        table: bytes | None,
    ) -> bool:
        """Keep a draw: all of it, or nothing where another process was faster.

        Args:
            table: the packed document of the table that it was made from; None where that is on
                record.
            after: the newest epoch's start at the time the history was read. Where a draw has
                come since, this one was made from an old history and is not kept.

        Returns:
            Whether it was kept.
        """
        async with self._database.write(exclusive=True) as connection:
            if await _newest_start(connection) != after:
                return False
            await connection.execute(epochs.insert(), _epoch_values(stored))
            if table is not None:
                kept = {"version": stored.table_version, "first_start": stored.epoch.start}
                insert = self._database.insert(zip_tables).values(**kept, document=table)
                await connection.execute(insert.on_conflict_do_nothing())
            await connection.execute(
                draws.insert(),
                [
                    {
                        "epoch_id": stored.epoch_id,
                        "zipcode": z.zipcode,
                        "start": stored.epoch.start,
                        "expected_listings": z.expected_listings,
                        "state": z.state,
                        "market_tier": z.market_tier,
                    }
                    for z in zipcodes
                ],
            )
        return True

    async def unrevealed(self, now: datetime) -> list[EpochId]:
        """Epochs that have ended and whose seed has not been published, oldest first."""
        query = (
            select(epochs.c.epoch_id)
            .where(epochs.c.end <= now, epochs.c.revealed_document.is_(None))
            .order_by(epochs.c.start)
        )
        async with self._database.read() as connection:
            return [row[0] for row in await connection.execute(query)]

    async def reveal(self, epoch_id: str, document: bytes) -> None:
        """Keep the completed document, unless another process already did."""
        async with self._database.write() as connection:
            await connection.execute(
                update(epochs)
                .where(epochs.c.epoch_id == epoch_id, epochs.c.revealed_document.is_(None))
                .values(revealed_document=document)
            )

    async def recent_epochs(self, before: datetime, count: int) -> list[EpochFigures]:
        """The epochs that began at or before a moment, newest first."""
        query = (
            select(
                epochs.c.epoch_id,
                epochs.c.start,
                epochs.c.end,
                epochs.c.target_listings,
                epochs.c.total_listings,
                epochs.c.relaxed,
                select(func.count())
                .select_from(draws)
                .where(draws.c.epoch_id == epochs.c.epoch_id)
                .scalar_subquery()
                .label("zipcodes"),
            )
            .where(epochs.c.start <= before)
            .order_by(epochs.c.start.desc())
            .limit(count)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [
            EpochFigures(**{**dict(row), "relaxed": tuple(row["relaxed"])})  # pyright: ignore[reportArgumentType]
            for row in rows
        ]

    async def tiers(self, epoch_id: str) -> dict[str, dict[str, int]]:
        """ZIPs and listings of an epoch by market tier."""
        query = (
            select(
                draws.c.market_tier,
                func.count(),
                func.sum(draws.c.expected_listings),
            )
            .where(draws.c.epoch_id == epoch_id)
            .group_by(draws.c.market_tier)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return {row[0]: {"zipcodes": int(row[1]), "listings": int(row[2])} for row in rows}

    async def coverage(self, until: datetime, since: datetime) -> dict[str, int]:
        """Distinct ZIPs drawn up to a moment, in all and since another one."""
        drawn = select(func.count(draws.c.zipcode.distinct())).where(draws.c.start <= until)
        async with self._database.read() as connection:
            ever = (await connection.execute(drawn)).scalar_one()
            lately = (await connection.execute(drawn.where(draws.c.start >= since))).scalar_one()
            count = select(func.count()).select_from(epochs).where(epochs.c.start <= until)
            number = (await connection.execute(count)).scalar_one()
        return {"epochs": number, "zipcodes_ever": ever, "zipcodes_30_days": lately}

    async def draws_of(self, zipcode: str, ended_by: datetime) -> list[EpochId]:
        """The epochs that drew a ZIP and have ended by a moment, newest first."""
        query = (
            select(draws.c.epoch_id)
            .join(epochs, epochs.c.epoch_id == draws.c.epoch_id)
            .where(draws.c.zipcode == zipcode, epochs.c.end <= ended_by)
            .order_by(draws.c.start.desc())
            .limit(100)
        )
        async with self._database.read() as connection:
            return [row[0] for row in await connection.execute(query)]

    # Miners

    async def put_status(self, report: StatusReport) -> bool:
        """Keep a status. Concurrent ones share a transaction.

        Returns:
            False where it would have gone back from completed; nothing was changed then.
        """
        return await self._statuses.add(report)

    async def _put_statuses(
        self, connection: AsyncConnection, items: Sequence[StatusReport]
    ) -> Sequence[bool]:
        kept = [False] * len(items)
        for positions in _rounds([(item.epoch_id, item.hotkey) for item in items]):
            rows = [_status_values(items[n]) for n in positions]
            written = (await connection.execute(self._put_statement, rows)).all()
            stored = {tuple(row) for row in written}
            for n in positions:
                kept[n] = (items[n].epoch_id, items[n].hotkey) in stored
        return kept

    @cached_property
    def _put_statement(self) -> Any:
        """Tells the keys of the rows that it wrote."""
        insert = self._database.insert(statuses)
        names = [c.name for c in statuses.c if not c.primary_key]
        return insert.on_conflict_do_update(
            index_elements=[statuses.c.epoch_id, statuses.c.hotkey],
            set_={name: insert.excluded[name] for name in names},
            where=or_(statuses.c.status != COMPLETED, insert.excluded.status == COMPLETED),
        ).returning(statuses.c.epoch_id, statuses.c.hotkey)

    async def status_counts(self, epoch_id: str) -> dict[str, int]:
        query = (
            select(statuses.c.status, func.count())
            .where(statuses.c.epoch_id == epoch_id)
            .group_by(statuses.c.status)
        )
        async with self._database.read() as connection:
            return {row[0]: int(row[1]) for row in await connection.execute(query)}

    # Credentials

    async def issue(
        self, epoch_id: str, kind: CredentialKind, hotkey: str, now: datetime, origin: Origin
    ) -> datetime:
        """Record that credentials are issued. Returns when they first were: asking again gives
        the same ones, and once on record, asks no database. Concurrent ones share a
        transaction."""
        item = _Issue(epoch_id, kind, hotkey, now, origin)
        known = self._issued.get(item.key)
        if known is not None:
            return known
        issued_at = await self._issues.add(item)
        self._remember_issued(item.key, issued_at)
        return issued_at

    async def _issue_all(
        self, connection: AsyncConnection, items: Sequence[_Issue]
    ) -> Sequence[datetime]:
        first: dict[_Key, _Issue] = {}
        for item in items:
            first.setdefault(item.key, item)
        # In one order everywhere, so that no two replicas wait for each other.
        rows = [_issue_values(first[key]) for key in sorted(first)]
        issued = _by_key(await connection.execute(self._issue_statement, rows))
        if missing := first.keys() - issued.keys():
            key = tuple_(credentials.c.epoch_id, credentials.c.kind, credentials.c.hotkey)
            query = select(*_ISSUED).where(key.in_(sorted(missing)))
            issued |= _by_key(await connection.execute(query))
        return [issued[item.key] for item in items]

    @cached_property
    def _issue_statement(self) -> Any:
        """Tells the rows that were not there before."""
        insert = self._database.insert(credentials)
        return insert.on_conflict_do_nothing().returning(*_ISSUED)

    def _remember_issued(self, key: _Key, issued_at: datetime) -> None:
        """What is on record never changes; only the newest are kept in memory."""
        self._issued[key] = issued_at
        if len(self._issued) > _ISSUED_KEPT:
            self._issued.popitem(last=False)

    async def holders(self, epoch_id: str, kinds: Sequence[CredentialKind]) -> list[Hotkey]:
        """Who was issued credentials for an epoch, sorted."""
        query = (
            select(credentials.c.hotkey)
            .where(credentials.c.epoch_id == epoch_id, credentials.c.kind.in_(kinds))
            .distinct()
        )
        async with self._database.read() as connection:
            return sorted(row[0] for row in await connection.execute(query))

    # Reports

    async def put_report(self, report: Report, *, replace: bool, origin: Origin) -> Report:
        """Keep an announced report and return the one that is now on record.

        A different one replaces an earlier one only with ``replace``.
        """
        values = {
            "epoch_id": report.epoch_id,
            "validator_hotkey": report.validator_hotkey,
            "start": report.start,
            "consensus_hash": report.consensus_hash,
            "assignment_hash": report.assignment_hash,
            "top_3": list(report.top_3),
            "participants": report.participants,
            "reached_95": report.reached_95,
            "announced_at": report.announced_at,
            **vars(origin),
        }
        insert = self._database.insert(reports).values(**values)
        key = [reports.c.epoch_id, reports.c.validator_hotkey]
        statement = insert.on_conflict_do_nothing(index_elements=key)
        if replace:
            statement = insert.on_conflict_do_update(
                index_elements=key,
                set_={name: insert.excluded[name] for name in values if name not in _REPORT_KEY},
                where=reports.c.consensus_hash != insert.excluded.consensus_hash,
            )
        query = select(*_REPORT).where(
            reports.c.epoch_id == report.epoch_id,
            reports.c.validator_hotkey == report.validator_hotkey,
        )
        async with self._database.write() as connection:
            await connection.execute(statement)
            row = (await connection.execute(query)).mappings().one()
        return _report(cast(Mapping[str, Any], row))

    async def reports_of(self, epoch_id: str) -> list[Report]:
        """An epoch's announced reports, by hotkey."""
        query = (
            select(*_REPORT)
            .where(reports.c.epoch_id == epoch_id)
            .order_by(reports.c.validator_hotkey)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [_report(cast(Mapping[str, Any], row)) for row in rows]

    async def reports_between(self, first: datetime, before: datetime) -> list[Report]:
        """Reports on epochs that start in [first, before), oldest epoch first."""
        query = (
            select(*_REPORT)
            .where(reports.c.start >= first, reports.c.start < before)
            .order_by(reports.c.start, reports.c.validator_hotkey)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [_report(cast(Mapping[str, Any], row)) for row in rows]

    async def newest_reported(self, before: datetime, count: int) -> list[datetime]:
        """Starts of the newest epochs with a report that start before a moment, oldest first."""
        query = (
            select(reports.c.start)
            .where(reports.c.start < before)
            .distinct()
            .order_by(reports.c.start.desc())
            .limit(count)
        )
        async with self._database.read() as connection:
            return sorted(row[0] for row in await connection.execute(query))


_ISSUED_KEPT = 16_384
_ISSUED = (
    credentials.c.epoch_id,
    credentials.c.kind,
    credentials.c.hotkey,
    credentials.c.issued_at,
)
_REPORT = [reports.c[field.name] for field in fields(Report)]
_REPORT_KEY = ("epoch_id", "validator_hotkey")


def _rounds(keys: Sequence[tuple[str, str]]) -> list[list[int]]:
    """Positions in rounds, each with a key at most once and sorted by it, as one statement takes
    them; a key's second position is in the second round."""
    seen: Counter[tuple[str, str]] = Counter()
    rounds: list[list[int]] = []
    for n, key in enumerate(keys):
        if seen[key] == len(rounds):
            rounds.append([])
        rounds[seen[key]].append(n)
        seen[key] += 1
    return [sorted(positions, key=lambda n: keys[n]) for positions in rounds]


def _status_values(report: StatusReport) -> dict[str, Any]:
    return {**vars(report), "s3_upload_complete": int(report.s3_upload_complete)}


def _issue_values(item: _Issue) -> dict[str, Any]:
    return {
        "epoch_id": item.epoch_id,
        "kind": item.kind,
        "hotkey": item.hotkey,
        "issued_at": item.issued_at,
        **vars(item.origin),
    }


def _by_key(rows: Iterable[Any]) -> dict[_Key, datetime]:
    return {(row[0], row[1], row[2]): row[3] for row in rows}


async def _newest_start(connection: AsyncConnection) -> datetime | None:
    return (await connection.execute(select(func.max(epochs.c.start)))).scalar()


def _stored_epoch(row: Mapping[str, Any]) -> StoredEpoch:
    values = {k: v for k, v in row.items() if k not in ("epoch_id", "start", "end", "seconds")}
    values["relaxed"] = tuple(values["relaxed"])
    return StoredEpoch(epoch=Epoch(row["start"], row["seconds"]), **values)


def _epoch_values(stored: StoredEpoch) -> dict[str, Any]:
    values = {k: v for k, v in vars(stored).items() if k != "epoch"}
    epoch = stored.epoch
    values |= {
        "epoch_id": epoch.id,
        "start": epoch.start,
        "end": epoch.end,
        "seconds": epoch.seconds,
        "relaxed": list(stored.relaxed),
        "draw_rules": dict(stored.draw_rules),
    }
    return values


def _report(row: Mapping[str, Any]) -> Report:
    values = dict(row)
    values["top_3"] = tuple(values["top_3"])
    return Report(**values)
