"""Scraping an epoch's ZIPs, several at a time, until all are done or time is up."""

import asyncio
import math
from collections.abc import AsyncGenerator, Iterable, Sequence
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
from sn46.miner.partlog import PartLog
from sn46.miner.progress import Meter, Progress, ZipUnderWay, requests_of
from sn46.miner.spool import EpochSpool, ScrapedZip, SpoolError
from sn46.miner.working import Crew, Reading, while_time_lasts, work_through
from sn46.sources.base import Blocked, ListingSource, SearchQuery, SourceError
from sn46.sources.mistakes import told_mistake
from sn46.sources.pools import pools_of
from sn46.sources.remembering import remembered_rows
from sn46.sources.routes import Tally, session
from sn46.sources.splitting import IncompleteSearch

FIRST_PAUSE: Final = timedelta(seconds=2)
LONGEST_PAUSE: Final = timedelta(minutes=10)
LONGEST_ASKED: Final = timedelta(hours=1)
"""A source that asks to be left alone for longer is asked again after so long."""

FEW_ATTEMPTS: Final = 2
TELL_EVERY: Final = timedelta(seconds=30)
LEARN_EVERY: Final = timedelta(seconds=1)
LEAST_TO_LEARN_FROM: Final = 20
"""Requests. Of fewer, one refusal more or less would decide."""

_LEAST_ZIP_SECONDS: Final = 30.0

_log = structlog.get_logger()


@dataclass(frozen=True)
class Manners:
    """At most ``concurrency`` ZIPs are scraped at a time, from ``LEAST_WORKERS`` of them up as
    the sources allow (``Crew``). One that failed is tried again after pauses that double up to
    ``LONGEST_PAUSE``, or longer where its source asks for that, until time is up, or ``attempts``
    times in all where that is a number; more often than that only while there is no row of any
    ZIP."""

    concurrency: int = 10
    attempts: int | None = None


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
        progress.watch(self._sources)

    async def collect(
        self,
        assignment: Assignment,
        zips: Sequence[AssignedZip],
        spool: EpochSpool,
        until: datetime,
        *,
        patient: bool = False,
    ) -> None:
        """Scrape ``zips`` in their order, and stop at ``until`` with what is there.

        Args:
            patient: that nothing is lost by using all of the time. Otherwise a ZIP that fails
                ``FEW_ATTEMPTS`` times is given up, where the manners do not say how many.

        Raises:
            SpoolError: where the disk is full or not writable.
        """
        work = _Epoch(self._sources, assignment, zips, spool, self._clock, self._progress)
        self._progress.update(scrape_until=format_time(until))
        work.show()
        crew = Crew.up_to(self._manners.concurrency)
        beside = [
            asyncio.ensure_future(work.tell_now_and_then()),
            asyncio.ensure_future(self._teach(crew)),
        ]
        try:
            await self._passes(work, zips, until, crew, patient)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        work.salvage()

    async def _teach(self, crew: Crew) -> None:
        """Tell the crew what the sources give, for as long as this runs."""
        before, since = self._tally(), self._clock.now()
        while not crew.is_fixed:
            await self._clock.sleep(LEARN_EVERY)
            tally, now = self._tally(), self._clock.now()
            new = tally - before
            unanswered = new.refused + new.lost
            seconds = (now - since).total_seconds()
            if new.answered + unanswered < LEAST_TO_LEARN_FROM or seconds <= 0:
                continue
            before, since = tally, now
            latency = new.seconds / new.answered if new.answered else None
            crew.learn(Reading(seconds, new.answered, unanswered, latency))

    def _tally(self) -> Tally:
        return sum((pool.tally() for _, pool in pools_of(self._sources)), Tally())

    async def _passes(
        self,
        work: "_Epoch",
        zips: Sequence[AssignedZip],
        until: datetime,
        crew: Crew,
        patient: bool,
    ) -> None:
        most = self._manners.attempts or (math.inf if patient else FEW_ATTEMPTS)
        pause, attempt = FIRST_PAUSE, 0
        while (open_zips := work.unfinished(zips)) and self._clock.now() < until:
            if attempt >= most and work.has_rows():
                break
            if attempt:
                again = max(self._clock.now() + pause, work.welcome_at(open_zips))
                await work.rest(len(open_zips), min(again, until))
                if self._clock.now() >= until:
                    break
            attempt += 1
            before = work.gathered()
            await self._pass(work, work.welcome(open_zips), until, crew)
            pause = FIRST_PAUSE if work.gathered() > before else min(2 * pause, LONGEST_PAUSE)

    async def _pass(
        self, work: "_Epoch", zips: Iterable[AssignedZip], until: datetime, crew: Crew
    ) -> None:
        async def one(zip_: AssignedZip) -> None:
            with session(zip_.zipcode):
                await work.scrape(zip_, until)

        # Each worker keeps its rows before it ends.
        await while_time_lasts(
            work_through(zips, one, workers=crew), sleep_until(self._clock, until)
        )


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
        self._not_before: dict[ZipCode, datetime] = {}

    def unfinished(self, zips: Iterable[AssignedZip]) -> list[AssignedZip]:
        return [z for z in zips if (r := self._records.get(z.zipcode)) is None or not r.complete]

    def welcome_at(self, zips: Iterable[AssignedZip]) -> datetime:
        """When the first of ``zips``, one at least, may be asked for again."""
        return min(self._not_before.get(zip_.zipcode, self._clock.now()) for zip_ in zips)

    def welcome(self, zips: Iterable[AssignedZip]) -> list[AssignedZip]:
        """Those that may be asked for now."""
        now = self._clock.now()
        return [zip_ for zip_ in zips if self._not_before.get(zip_.zipcode, now) <= now]

    def gathered(self) -> int:
        """How many rows there are, and ZIPs that are complete: whether a pass brought anything."""
        return sum(record.rows + record.complete for record in self._records.values())

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

    async def rest(self, zips: int, until: datetime) -> None:
        """Leave the sources alone for a while before ``zips`` are tried again."""
        again = format_time(until.replace(microsecond=0))
        _log.info("incomplete ZIPs are tried again", zips=zips, at=again)
        self._progress.update(again_at=again, finish_at=None)
        try:
            await sleep_until(self._clock, until)
        finally:
            self._progress.note(again_at=None)

    async def tell_now_and_then(self) -> None:
        """A line of the log every half a minute, except while nothing is asked."""
        while True:
            await self._clock.sleep(TELL_EVERY)
            status, too_slow = self._progress.status, self._is_too_slow()
            if status.again_at is not None:
                continue
            (_log.warning if too_slow else _log.info)(
                "scraping is too slow to finish in time" if too_slow else "scraping",
                zips=f"{status.zips_done} of {status.zips_total}",
                rows=status.rows + sum(way.found for way in status.under_way),
                rows_per_minute=status.rows_per_minute,
                refused=status.refused,
                finish_at=status.finish_at,
                scrape_until=status.scrape_until,
            )

    def _is_too_slow(self) -> bool:
        """Whether not all will be found in time, at the rate of by now."""
        finish, until = self._progress.status.finish_at, self._progress.status.scrape_until
        return bool(finish and until and parse_time(finish) > parse_time(until))

    def _makes_room(self, zip_: AssignedZip, rows: int) -> bool:
        """Whether a ZIP is to be left for later, since time is short, it has all the rows that
        count for volume (mechanism 6), and another ZIP has none yet."""
        limit = self._assignment.rules.source_result_limit
        if rows < limit or zip_.expected_listings <= limit or not self._is_too_slow():
            return False
        return any(
            z.zipcode not in self._records and z.zipcode not in self._under_way for z in self._zips
        )

    async def scrape(self, zip_: AssignedZip, until: datetime) -> None:
        """One ZIP from every source. It takes at most half of the time that is left when it
        begins, so that one that hangs costs its own rows and not the others'."""
        rows: list[dict[str, Any]] = []
        self._under_way[zip_.zipcode] = ZipUnderWay(zip_.zipcode, 0, zip_.expected_listings)
        left = (until - self._clock.now()).total_seconds()
        seconds = max(_LEAST_ZIP_SECONDS, left / 2)
        logs = self._logs(zip_)
        try:
            async with asyncio.timeout(seconds):
                notes = [
                    await self._search(source, zip_, rows, log)
                    for source, log in zip(self._sources, logs, strict=True)
                ]
        except TimeoutError:
            self._keep(zip_, rows, False, f"it took longer than {seconds:.0f} s")
        except asyncio.CancelledError:
            self._keep(zip_, rows, False, "it was not finished when scraping stopped")
            raise
        else:
            faults = [text for complete, text in notes if not complete]
            told = "; ".join(text for _, text in notes if text)
            self._keep(zip_, rows, not faults, told)
        finally:
            for log in logs:
                log.close()

    def salvage(self) -> None:
        """Keep what an earlier run found of ZIPs that it did not finish, and that this one had no
        time for."""
        for zip_ in self._zips:
            record = self._records.get(zip_.zipcode)
            if record is not None and record.complete:
                continue
            rows = self._remembered(zip_)
            if len(rows) > (record.rows if record else 0):
                self._keep(zip_, rows, False, "it was not finished when scraping stopped")

    def _logs(self, zip_: AssignedZip) -> list[PartLog]:
        """What each source's search of a ZIP has learnt, also before a crash."""
        return [self._spool.parts(zip_.zipcode, n) for n in range(len(self._sources))]

    def _remembered(self, zip_: AssignedZip) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for log in self._logs(zip_):
            rows += remembered_rows(log.entries(), zip_.zipcode)
        return rows

    async def _search(
        self, source: ListingSource, zip_: AssignedZip, rows: list[dict[str, Any]], log: PartLog
    ) -> tuple[bool, str]:
        """Add a source's rows. Returns whether it gave all that it will, and what is to be said."""
        end = self._assignment.epoch.end
        lookback = timedelta(days=self._assignment.rules.lookback_days)
        query = SearchQuery(zip_.zipcode, (end - lookback).date(), end.date(), log)
        known = len(log)
        search = source.search(query)
        try:
            async for found in search:
                now = self._clock.now()
                batch = [{**row, "scraped_at": row.get("scraped_at") or now} for row in found]
                rows.extend(batch)
                if not log.used:
                    await log.note(f"rows {len(log)}", {"rows": batch})
                # What comes from an earlier run says nothing of how fast this one is.
                self._found += len(batch) if len(log) > known else 0
                known = len(log)
                self._under_way[zip_.zipcode] = ZipUnderWay(
                    zip_.zipcode, len(rows), zip_.expected_listings
                )
                self._show_rate()
                if self._makes_room(zip_, len(rows)):
                    return False, "time is short: its other rows come after those of other ZIPs"
        except IncompleteSearch as error:
            return True, str(error)  # asking again would show the same
        except SourceError as error:
            if isinstance(error, Blocked) and error.retry_after is not None:
                asked = min(timedelta(seconds=error.retry_after), LONGEST_ASKED)
                self._not_before[zip_.zipcode] = self._clock.now() + asked
            return False, str(error)
        except SpoolError:
            raise
        except Exception as error:  # noqa: BLE001 - a source's mistake, which costs it this search
            return False, told_mistake(source.name, error)
        finally:
            # It may have requests under way, whose answers would come to a closed log.
            if isinstance(search, AsyncGenerator):
                await search.aclose()
        return True, ""

    def _keep(
        self, zip_: AssignedZip, rows: list[dict[str, Any]], complete: bool, note: str
    ) -> None:
        if not complete:
            # A source may have found more than it came to give.
            rows = max(rows, self._remembered(zip_), key=len)
        frame, misfits = fitting_rows(rows)
        cleaned = clean(self._assignment, {zip_.zipcode: frame})
        kept = cleaned.frames.get(zip_.zipcode, frame.clear())
        before = self._records.get(zip_.zipcode)
        if complete or before is None or kept.height > before.rows:
            unfit = (
                (RowFault("a value is not of its column's type, or too long", misfits),)
                if misfits
                else ()
            )
            self._records[zip_.zipcode] = self._spool.save_scraped(
                zip_.zipcode,
                kept,
                complete=complete,
                note=note,
                dropped=(*unfit, *cleaned.faults),
            )
        if complete:
            for log in self._logs(zip_):
                log.remove()
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
