"""Scraping an epoch's ZIPs, several at a time, until all are done or time is up."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from sn46.clock import Clock, sleep_until
from sn46.mechanism.assignment import AssignedZip, Assignment
from sn46.mechanism.names import ZipCode
from sn46.mechanism.times import format_time, parse_time
from sn46.miner.cleaning import Cleaned, clean, fitting_rows
from sn46.miner.faults import RowFault
from sn46.miner.progress import Meter, Progress, ZipUnderWay, requests_of
from sn46.miner.spool import EpochSpool, ScrapedZip
from sn46.miner.working import work_through
from sn46.sources.base import ListingSource, SearchQuery, SourceError
from sn46.sources.splitting import IncompleteSearch

FIRST_PAUSE: Final = timedelta(seconds=2)
LONGEST_PAUSE: Final = timedelta(seconds=60)
TELL_EVERY: Final = timedelta(seconds=30)
_LEAST_ZIP_SECONDS: Final = 30.0

_log = structlog.get_logger()


@dataclass(frozen=True)
class Manners:
    """``concurrency`` ZIPs are scraped at a time; one that failed is tried ``attempts`` times in
    all, and more often only while there is no row of any ZIP."""

    concurrency: int = 6
    attempts: int = 2


class Collector:
    """Fills an epoch's spool. What the spool holds already is not asked for again.

    Cancelling keeps what was found so far; so does running out of time.
    """

    def __init__(
        self,
        sources: Sequence[ListingSource],
        *,
        clock: Clock,
        progress: Progress,
        manners: Manners | None = None,
    ) -> None:
        if not sources:
            raise ValueError("a miner needs at least one source")
        self._sources = tuple(sources)
        self._clock = clock
        self._progress = progress
        self._manners = manners or Manners()

    async def collect(
        self,
        assignment: Assignment,
        zips: Sequence[AssignedZip],
        spool: EpochSpool,
        until: datetime,
    ) -> None:
        """Scrape ``zips`` in their order, and stop at ``until`` with what is there.

        Raises:
            SpoolError: where the disk is full or not writable.
        """
        work = _Epoch(self._sources, assignment, zips, spool, self._clock, self._progress)
        self._progress.update(scrape_until=format_time(until))
        work.show()
        telling = asyncio.ensure_future(work.tell_now_and_then())
        try:
            await self._passes(work, zips, until)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _passes(self, work: "_Epoch", zips: Sequence[AssignedZip], until: datetime) -> None:
        pause, attempt = FIRST_PAUSE, 0
        while (open_zips := work.unfinished(zips)) and self._clock.now() < until:
            if attempt >= self._manners.attempts and work.has_rows():
                break
            if attempt:
                await sleep_until(self._clock, min(self._clock.now() + pause, until))
                pause = min(2 * pause, LONGEST_PAUSE)
            attempt += 1
            await self._pass(work, open_zips, until)

    async def _pass(self, work: "_Epoch", zips: Iterable[AssignedZip], until: datetime) -> None:
        scraping = asyncio.ensure_future(
            work_through(
                zips, lambda zip_: work.scrape(zip_, until), workers=self._manners.concurrency
            )
        )
        timer = asyncio.ensure_future(sleep_until(self._clock, until))
        try:
            await asyncio.wait({scraping, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            scraping.cancel()
            # Each worker keeps its rows before it ends.
            ended, _ = await asyncio.gather(scraping, timer, return_exceptions=True)
        if isinstance(ended, Exception):
            raise ended


class _Epoch:
    """The scraping of one epoch."""

    def __init__(
        self,
        sources: Sequence[ListingSource],
        assignment: Assignment,
        zips: Sequence[AssignedZip],
        spool: EpochSpool,
        clock: Clock,
        progress: Progress,
    ) -> None:
        self._sources = sources
        self._assignment = assignment
        self._zips = zips
        self._spool = spool
        self._clock = clock
        self._progress = progress
        self._records = spool.scraped()
        self._under_way: dict[ZipCode, ZipUnderWay] = {}
        self._meter = Meter(clock)
        self._asked_before = requests_of(sources)
        self._found = 0

    def unfinished(self, zips: Iterable[AssignedZip]) -> list[AssignedZip]:
        return [z for z in zips if (r := self._records.get(z.zipcode)) is None or not r.complete]

    def has_rows(self) -> bool:
        return any(record.rows for record in self._records.values())

    def show(self) -> None:
        records = self._records.values()
        self._progress.update(
            zips_total=len(self._zips),
            zips_done=sum(record.complete for record in records),
            zips_failed=sum(not record.complete for record in records),
            rows=sum(record.rows for record in records),
            rows_expected=sum(zip_.expected_listings for zip_ in self._zips),
        )
        self._show_rate()

    def _show_rate(self) -> None:
        done = {record.zipcode for record in self._records.values() if record.complete}
        missing = sum(
            max(0, zip_.expected_listings - self._found_in(zip_.zipcode))
            for zip_ in self._zips
            if zip_.zipcode not in done
        )
        rate, finish = self._meter.reading(self._found, missing)
        answered, refused = requests_of(self._sources)
        self._progress.note(
            rows_per_minute=rate,
            finish_at=format_time(finish.replace(microsecond=0)) if finish else None,
            answered=answered - self._asked_before[0],
            refused=refused - self._asked_before[1],
            under_way=tuple(self._under_way.values()),
        )

    def _found_in(self, zipcode: ZipCode) -> int:
        way = self._under_way.get(zipcode)
        return way.found if way else 0

    async def tell_now_and_then(self) -> None:
        """A line of the log every half a minute."""
        while True:
            await self._clock.sleep(TELL_EVERY)
            status = self._progress.status
            finish, until = status.finish_at, status.scrape_until
            too_slow = finish and until and parse_time(finish) > parse_time(until)
            (_log.warning if too_slow else _log.info)(
                "scraping is too slow to finish in time" if too_slow else "scraping",
                zips=f"{status.zips_done} of {status.zips_total}",
                rows=status.rows + sum(way.found for way in status.under_way),
                rows_per_minute=status.rows_per_minute,
                refused=status.refused,
                finish_at=finish,
                scrape_until=until,
            )

    async def scrape(self, zip_: AssignedZip, until: datetime) -> None:
        """One ZIP from every source. It takes at most half of the time that is left when it
        begins, so that one that hangs costs its own rows and not the others'."""
        rows: list[dict[str, Any]] = []
        self._under_way[zip_.zipcode] = ZipUnderWay(zip_.zipcode, 0, zip_.expected_listings)
        left = (until - self._clock.now()).total_seconds()
        seconds = max(_LEAST_ZIP_SECONDS, left / 2)
        try:
            async with asyncio.timeout(seconds):
                notes = [await self._search(source, zip_, rows) for source in self._sources]
        except TimeoutError:
            self._keep(zip_, rows, False, f"it took longer than {seconds:.0f} s")
        except asyncio.CancelledError:
            self._keep(zip_, rows, False, "it was not finished when scraping stopped")
            raise
        else:
            faults = [text for complete, text in notes if not complete]
            told = "; ".join(text for _, text in notes if text)
            self._keep(zip_, rows, not faults, told)

    async def _search(
        self, source: ListingSource, zip_: AssignedZip, rows: list[dict[str, Any]]
    ) -> tuple[bool, str]:
        """Add a source's rows. Returns whether it gave all that it will, and what is to be said."""
        end = self._assignment.epoch.end
        lookback = timedelta(days=self._assignment.rules.lookback_days)
        query = SearchQuery(zip_.zipcode, (end - lookback).date(), end.date())
        try:
            async for batch in source.search(query):
                now = self._clock.now()
                rows.extend({**row, "scraped_at": row.get("scraped_at") or now} for row in batch)
                self._found += len(batch)
                self._under_way[zip_.zipcode] = ZipUnderWay(
                    zip_.zipcode, len(rows), zip_.expected_listings
                )
                self._show_rate()
        except IncompleteSearch as error:
            return True, str(error)  # asking again would show the same
        except SourceError as error:
            return False, str(error)
        return True, ""

    def _keep(
        self, zip_: AssignedZip, rows: list[dict[str, Any]], complete: bool, note: str
    ) -> None:
        frame, misfits = fitting_rows(rows)
        cleaned = clean(self._assignment, {zip_.zipcode: frame})
        kept = cleaned.frames.get(zip_.zipcode, frame.clear())
        before = self._records.get(zip_.zipcode)
        if complete or before is None or kept.height > before.rows:
            unfit = (RowFault("a value is not of its column's type", misfits),) if misfits else ()
            self._records[zip_.zipcode] = self._spool.save_scraped(
                zip_.zipcode,
                kept,
                complete=complete,
                note=note,
                dropped=(*unfit, *cleaned.faults),
            )
        self._under_way.pop(zip_.zipcode, None)
        self._tell(zip_, self._records[zip_.zipcode], cleaned, misfits, note)
        self.show()

    def _tell(
        self, zip_: AssignedZip, record: ScrapedZip, cleaned: Cleaned, misfits: int, note: str
    ) -> None:
        facts: dict[str, Any] = {
            "zipcode": zip_.zipcode,
            "rows": record.rows,
            "expected": zip_.expected_listings,
        }
        if cleaned.dropped or misfits:
            facts |= {
                "out_of_range": cleaned.out_of_range + misfits,
                "duplicates": cleaned.duplicates,
                "wrong_zip": cleaned.wrong_zip,
            }
        if note:
            _log.warning("a ZIP is incomplete", **facts, reason=note)
        else:
            _log.info("a ZIP is done", **facts)
