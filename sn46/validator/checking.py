"""Checking rows at their source: three-valued verdicts, never a guess (mechanism 7)."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import structlog

from sn46.clock import Clock
from sn46.mechanism.evidence import Check
from sn46.mechanism.listings import COLUMNS
from sn46.mechanism.sampling import SampledRow
from sn46.mechanism.times import format_time, parse_time
from sn46.mechanism.verdicts import Verdict, compare, shown_fields
from sn46.sources.base import Detail, ListingSource, Lookup, SourceError
from sn46.sources.combined import by_name
from sn46.sources.mistakes import told_mistake

_log = structlog.get_logger("sn46.validator")

FRESH = timedelta(hours=24)
"""Records fetched within this time are used again."""

_DETAIL_CHARACTERS = 500
_Row = tuple[SampledRow, Mapping[str, Any]]


class RecordCache:
    """The sources' records by listing id, on disk. Errors of a source are never kept; a disk that
    refuses costs another question to the source, and nothing else."""

    def __init__(self, path: Path, clock: Clock) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        try:
            self._db = self._opened(path)
        except sqlite3.OperationalError:
            raise  # It cannot be opened now, which says nothing of what is in it.
        except sqlite3.DatabaseError as error:
            _log.warning("the kept records are damaged and begun anew", fault=str(error))
            for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
                path.with_name(name).unlink(missing_ok=True)
            self._db = self._opened(path)

    def _opened(self, path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(
                "CREATE TABLE IF NOT EXISTS records"
                " (listing_id TEXT PRIMARY KEY, fetched_at TEXT NOT NULL, row TEXT)"
            )
            db.execute(
                "DELETE FROM records WHERE fetched_at < ?",
                (format_time(self._clock.now() - FRESH),),
            )
            db.commit()
        except BaseException:
            db.close()
            raise
        return db

    def get(self, listing_id: str) -> tuple[Detail, datetime] | None:
        try:
            found = self._db.execute(
                "SELECT fetched_at, row FROM records WHERE listing_id = ?", (listing_id,)
            ).fetchone()
        except sqlite3.Error as error:
            _log.warning("records cannot be read", fault=str(error))
            return None
        if found is None:
            return None
        try:
            return self._read(*found)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            _log.warning("a kept record cannot be read", listing_id=listing_id, fault=repr(error))
            return None

    def _read(self, at: str, row: str | None) -> tuple[Detail, datetime] | None:
        fetched_at = parse_time(at)
        if self._clock.now() - fetched_at > FRESH:
            return None
        if row is None:
            return Detail(Lookup.NOT_FOUND, None), fetched_at
        kept = cast(dict[str, Any], json.loads(row))
        kept["sale_date"] = date.fromisoformat(kept["sale_date"]) if kept["sale_date"] else None
        return Detail(Lookup.FOUND, kept), fetched_at

    def put(self, listing_id: str, detail: Detail, fetched_at: datetime) -> None:
        try:
            with self._db:
                self._db.execute(
                    "INSERT OR REPLACE INTO records VALUES (?, ?, ?)",
                    (listing_id, format_time(fetched_at), _as_text(detail.row)),
                )
        except sqlite3.Error as error:
            _log.warning("records cannot be kept", fault=str(error))

    def forget_stale(self) -> None:
        """Remove the records that are not used any more; the file's room is used again."""
        try:
            with self._db:
                self._db.execute(
                    "DELETE FROM records WHERE fetched_at < ?",
                    (format_time(self._clock.now() - FRESH),),
                )
        except sqlite3.Error as error:
            _log.warning("old records cannot be removed", fault=str(error))

    def close(self) -> None:
        self._db.close()


def _as_text(row: Mapping[str, Any] | None) -> str | None:
    if row is None:
        return None
    kept = {column: row.get(column) for column in COLUMNS if column != "scraped_at"}
    sold = kept["sale_date"]
    return json.dumps({**kept, "sale_date": sold.isoformat() if sold else None})


class SpotChecker:
    """Checks sampled rows with the sources at hand, several at a time."""

    def __init__(
        self,
        sources: Sequence[ListingSource],
        cache: RecordCache,
        clock: Clock,
        *,
        concurrency: int,
    ) -> None:
        self._sources = by_name(sources)
        self._cache = cache
        self._clock = clock
        self._concurrency = concurrency

    def forget_stale(self) -> None:
        """Let go of the records that are too old to be used again."""
        self._cache.forget_stale()

    async def check(
        self,
        rows: Sequence[_Row],
        *,
        until: datetime,
        report: Callable[[int, int], None],
    ) -> list[Check]:
        """Check rows until all are done or the time is over; what was done by then.

        Args:
            rows: each sampled row with its listing, in the order of importance. Those with the
                same listing id are checked together, with one answer of the source.
            until: no check is begun or waited for after this moment.
            report: told how many of how many are done.
        """
        checks: list[Check] = []
        by_listing: dict[str, list[_Row]] = {}
        for sampled, row in rows:
            by_listing.setdefault(sampled.listing_id, []).append((sampled, row))
        waiting = iter(by_listing.items())

        async def work() -> None:
            for listing_id, alike in waiting:
                if self._clock.now() >= until:
                    return
                for check in await self._check(listing_id, alike):
                    checks.append(check)
                    report(len(checks), len(rows))

        left = (until - self._clock.now()).total_seconds()
        tasks = [asyncio.create_task(work()) for _ in range(self._concurrency)]
        _, unfinished = await asyncio.wait(tasks, timeout=max(0.0, left))
        for task in unfinished:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        if len(checks) < len(rows):
            _log.warning(
                "checks cut short by the evidence deadline", done=len(checks), of=len(rows)
            )
        return checks

    async def _check(self, listing_id: str, rows: Sequence[_Row]) -> list[Check]:
        """The checks of all rows with one listing id, for which the source is asked once."""
        kind = listing_id.partition(":")[0]
        source = self._sources.get(kind)
        if source is None:
            answer = _Answer(None, f"No adapter for the source {kind[:40]!r}.", self._clock.now())
        else:
            answer = await self._ask(source, listing_id)
        checks: list[Check] = []
        for sampled, row in rows:
            verdict, text, shown = Verdict.INCONCLUSIVE, answer.fault, 0
            if answer.detail is not None:
                verdict, text = compare(row, answer.detail.row)
                shown = shown_fields(row, answer.detail.row)
            checks.append(
                Check(
                    miner=sampled.miner,
                    listing_id=listing_id,
                    verdict=verdict,
                    source=kind,
                    detail=text[:_DETAIL_CHARACTERS],
                    checked_at=answer.at,
                    shown=shown,
                )
            )
        return checks

    async def _ask(self, source: ListingSource, listing_id: str) -> "_Answer":
        known = self._cache.get(listing_id)
        if known is not None:
            return _Answer(_writable(known[0]), "", known[1])
        try:
            found = await source.detail(listing_id)
        except SourceError as error:
            said = _whole(f"The source gave no answer: {error}")
            return _Answer(None, said, self._clock.now())
        except Exception as error:  # noqa: BLE001 - a source's mistake, which costs it this answer
            return _Answer(None, told_mistake(source.name, error), self._clock.now())
        now = self._clock.now()
        self._cache.put(listing_id, found, now)
        return _Answer(_writable(found), "", now)


def _writable(found: Detail) -> Detail:
    """The same with texts that can be compared and written down, whatever an adapter lets pass."""
    if found.row is None:
        return found
    row = {name: _whole(v) if isinstance(v, str) else v for name, v in found.row.items()}
    return Detail(found.lookup, row)


def _whole(text: str) -> str:
    """The same with a ``?`` for half a sign: JSON can hold one, no file can."""
    return text.encode(errors="replace").decode()


@dataclass(frozen=True)
class _Answer:
    """What a source said of a listing id and when, or why it said nothing."""

    detail: Detail | None
    fault: str
    at: datetime
