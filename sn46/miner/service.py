"""The miner's loop: one submission an epoch, from assignment to manifest."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from sn46.client.api import Status
from sn46.clock import Clock, sleep_until
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.errors import MechanismError
from sn46.mechanism.names import ZipCode
from sn46.mechanism.signing import Signer, address_of
from sn46.mechanism.submission import ManifestFile
from sn46.mechanism.times import format_time
from sn46.miner.checkup import NothingToCheck, check_up
from sn46.miner.collecting import Collector
from sn46.miner.delivery import Delivered, Delivery, DeliveryFailed
from sn46.miner.desk import Desk
from sn46.miner.pipeline import Pipeline
from sn46.miner.progress import Phase, Progress
from sn46.miner.spool import EpochSpool, Outcome, ScrapedZip, Spool, SpoolError
from sn46.miner.words import summary_of

LEAST_RESERVE: Final = timedelta(seconds=5)
HEARTBEAT: Final = timedelta(seconds=2)
DISK_PAUSE: Final = timedelta(seconds=10)
REPORT_EVERY: Final = timedelta(minutes=1)
_NOTICED_LAG: Final = timedelta(seconds=5)
_LONGEST_JITTER: Final = timedelta(seconds=5)

_log = structlog.get_logger()


class NothingToSubmit(Exception):
    """No ZIP gave a single row that counts before time was up."""


def stop_scraping_at(epoch: Epoch) -> datetime:
    """When to submit what is there: a twentieth of the epoch, and 5 s at least, is kept for
    packing and uploading."""
    return epoch.end - _reserve(epoch)


def _reserve(epoch: Epoch) -> timedelta:
    return max(LEAST_RESERVE, epoch.length / 20)


def stop_within_grace_at(assignment: Assignment) -> datetime:
    """When to submit what is there if it is most of it: from the end of the grace on each miner
    that was earlier costs as much as a tenth of the volume."""
    return assignment.grace_end - _reserve(assignment.epoch)


def has_most(assignment: Assignment, records: Mapping[ZipCode, ScrapedZip]) -> bool:
    """Whether at least half of what counts for volume is there."""
    caps = {z.zipcode: assignment.cap_of(z) for z in assignment.zipcodes}
    there = sum(min(r.rows, caps.get(zipcode, 0)) for zipcode, r in records.items())
    return 2 * there >= sum(caps.values())


class UploadMoment(Protocol):
    """When an epoch's upload may begin; what is past is now."""

    def __call__(self, assignment: Assignment) -> datetime: ...


def immediately(assignment: Assignment) -> datetime:
    return assignment.epoch.start


class Staggered:
    """A moment in the first minutes of the epoch (15 of four hours), different for each hotkey and
    epoch. It is never after the grace, whose uploads count as simultaneous, so it costs no rank,
    and the store does not meet all miners in one second."""

    def __init__(self, hotkey: str) -> None:
        self._hotkey = hotkey

    def __call__(self, assignment: Assignment) -> datetime:
        epoch = assignment.epoch
        share = int(sha256_hex(f"stagger:{self._hotkey}:{epoch.id}")[:8], 16) / 2**32
        span = min(epoch.length / 16, assignment.grace_end - epoch.start)
        # The last fifth is left for the upload itself.
        return epoch.start + span * 0.8 * share


class Miner:
    """One hotkey's miner. Its work is in its spool, so it may be killed at any moment and a new
    one goes on where it was; an epoch that has an outcome is not done again."""

    def __init__(
        self,
        signer: Signer,
        *,
        desk: Desk,
        collector: Collector,
        delivery: Delivery,
        spool: Spool,
        clock: Clock,
        progress: Progress,
        pipeline: Pipeline | None = None,
        upload_moment: UploadMoment = immediately,
    ) -> None:
        self._signer = signer
        self._hotkey = address_of(signer)
        self._desk = desk
        self._collector = collector
        self._delivery = delivery
        self._spool = spool
        self._clock = clock
        self._progress = progress
        self._pipeline = pipeline or Pipeline()
        self._upload_moment = upload_moment

    async def run(self) -> None:
        """Mine epoch after epoch until cancelled. The failure of one is logged and kept as its
        outcome, and the next one is mined."""
        heart = asyncio.ensure_future(self._beat())
        after = None
        try:
            while True:
                self._progress.update(phase=Phase.ASKING)
                assignment = await self._desk.next_assignment(after)
                after = assignment.epoch_id
                with structlog.contextvars.bound_contextvars(epoch=assignment.epoch_id):
                    await self.mine(assignment)
                self._progress.update(phase=Phase.WAITING)
                await sleep_until(self._clock, self._next_start(assignment.epoch))
        finally:
            heart.cancel()
            await asyncio.gather(heart, return_exceptions=True)
            self._progress.update(phase=Phase.STOPPED)

    async def mine(self, assignment: Assignment) -> Outcome:
        """One epoch, from wherever an earlier run left it to its outcome."""
        self._progress.update(
            epoch_id=assignment.epoch_id,
            deadline=format_time(assignment.submission_deadline),
            zips_total=len(assignment.zipcodes),
            zips_done=0,
            zips_failed=0,
            rows=0,
            files_uploaded=0,
            rows_expected=0,
            rows_per_minute=0,
            answered=0,
            refused=0,
            scrape_until=None,
            finish_at=None,
            again_at=None,
            under_way=(),
        )
        while True:
            try:
                return await self._mine(assignment)
            except SpoolError as error:
                if self._clock.now() + DISK_PAUSE >= assignment.submission_deadline:
                    outcome = self._failed(str(error))
                    self._report_end(assignment, outcome)
                    _log.error("the epoch is lost", reason=outcome.detail)
                    await self._sum_up(assignment, outcome)
                    return outcome
                _log.error("the spool cannot be used; trying again", reason=str(error))
                if self._spool.make_room(assignment.epoch_id):
                    _log.warning("earlier epochs were removed from the spool to make room")
                else:
                    self._progress.update(trouble=str(error))
                    await self._clock.sleep(DISK_PAUSE)
                    self._progress.note(trouble=None)

    async def _sum_up(self, assignment: Assignment, outcome: Outcome) -> None:
        """Say how an epoch went that has just ended, and what it may be worth."""
        await self._show_last(assignment, outcome)
        status = self._progress.status
        self._progress.ended[outcome.result] += 1
        _log.info(
            "the epoch in short",
            result=outcome.result,
            at=outcome.at,
            zips=f"{status.zips_done} of {status.zips_total}",
            rows=status.rows,
            rows_expected=status.rows_expected,
            answered=status.answered,
            refused=status.refused,
            expect=status.last_summary or outcome.detail,
        )

    async def _show_last(self, assignment: Assignment, outcome: Outcome) -> None:
        summary = None
        if outcome.result == "submitted":
            try:
                summary = await asyncio.to_thread(self._summary, assignment)
            except (MechanismError, NothingToCheck, SpoolError) as error:
                summary = f"what was submitted cannot be checked: {error}"
        self._progress.update(
            last_epoch_id=assignment.epoch_id,
            last_result=outcome.result,
            last_summary=summary,
            detail=outcome.detail,
        )

    def _summary(self, assignment: Assignment) -> str:
        spool = self._spool.epoch(assignment)
        return summary_of(check_up(assignment, spool, self._clock.now(), self._pipeline))

    async def _mine(self, assignment: Assignment) -> Outcome:
        spool = self._spool.epoch(assignment)
        earlier = spool.outcome()
        if earlier is not None:
            _log.info("this epoch is done already", result=earlier.result, detail=earlier.detail)
            await self._show_last(assignment, earlier)
            return earlier
        await self._until_begun(assignment.epoch)
        records = spool.scraped().values()
        self._progress.update(
            rows=sum(record.rows for record in records),
            rows_expected=assignment.total_expected_listings,
            zips_done=sum(record.complete for record in records),
            zips_failed=sum(not record.complete for record in records),
        )
        _log.info(
            "mining",
            zipcodes=len(assignment.zipcodes),
            expected=assignment.total_expected_listings,
            deadline=format_time(assignment.submission_deadline),
        )
        telling = asyncio.ensure_future(self._tell_the_api(assignment))
        try:
            body = self._made_before(spool) or await self._make(assignment, spool)
            await sleep_until(self._clock, self._upload_moment(assignment))
            self._progress.update(phase=Phase.UPLOADING)
            self._report_progress(assignment)
            delivered = await self._delivery.deliver(
                assignment,
                spool,
                body,
                signed=lambda files: self._signed(assignment, files),
                manifest_at=self._manifest_moment(assignment),
            )
        except (NothingToSubmit, DeliveryFailed) as error:
            outcome = self._failed(str(error))
            _log.error("nothing is submitted in this epoch", reason=outcome.detail)
        else:
            outcome = self._submitted(assignment, delivered)
            _log.info("submitted", rows=outcome.rows, zipcodes=outcome.zipcodes)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        spool.save_outcome(outcome)
        self._report_end(assignment, outcome)
        await self._sum_up(assignment, outcome)
        return outcome

    async def _tell_the_api(self, assignment: Assignment) -> None:
        """Report how far scraping is, now and then."""
        while True:
            self._report_progress(assignment)
            await self._clock.sleep(REPORT_EVERY)

    def _report_progress(self, assignment: Assignment) -> None:
        status = self._progress.status
        self._desk.report(assignment, "in_progress", rows=status.rows, zipcodes=status.zips_done)

    def _report_end(self, assignment: Assignment, outcome: Outcome) -> None:
        status: Status = "completed"
        if outcome.result == "failed":
            late = self._clock.now() >= assignment.submission_deadline
            status = "timeout" if late else "failed"
        self._desk.report(assignment, status, rows=outcome.rows, zipcodes=outcome.zipcodes)

    def _made_before(self, spool: EpochSpool) -> bytes | None:
        """The manifest of an earlier run; None where there is none, or a file of it is damaged:
        the package is made again then, out of the same rows."""
        body = spool.manifest()
        if body is not None and not spool.is_whole(body):
            _log.warning("the finished package is damaged; it is made again")
            return None
        return body

    async def _make(self, assignment: Assignment, spool: EpochSpool) -> bytes:
        """Scrape, pack and sign; the manifest is on disk when this returns.

        Raises:
            NothingToSubmit: where there is no row to submit.
        """
        self._progress.update(phase=Phase.SCRAPING)
        late = self._clock.now() >= stop_scraping_at(assignment.epoch)
        await self._scrape(assignment, spool)
        self._progress.update(phase=Phase.PACKING)
        records = spool.scraped()
        self._tell_missing(assignment, spool)
        files = spool.save_package(self._pipeline.pack(assignment, spool.frames()))
        if not files:
            if late and not records:
                raise NothingToSubmit("There was no time left to scrape when the miner began.")
            notes = "; ".join(sorted({r.note for r in records.values() if r.note}))
            raise NothingToSubmit(f"No row was found that counts. {notes or 'No ZIP had any.'}")
        body = self._signed(assignment, files)
        spool.save_manifest(body)
        return body

    async def _scrape(self, assignment: Assignment, spool: EpochSpool) -> None:
        """Until all is there or given up, or the grace ends and most of it is there, or time is
        up. Until the grace ends waiting costs nothing, and who has not even half of the volume by
        then has little else to lose (decision 62), so what is refused is tried all the time."""
        order = self._pipeline.order(assignment)
        for until in (stop_within_grace_at(assignment), stop_scraping_at(assignment.epoch)):
            await self._collector.collect(assignment, order, spool, until, patient=True)
            if self._clock.now() < until or has_most(assignment, spool.scraped()):
                return

    def _signed(self, assignment: Assignment, files: tuple[ManifestFile, ...]) -> bytes:
        """A signed manifest of finished files, made now."""
        now = self._clock.now()
        return self._pipeline.manifest(assignment, self._hotkey, now, files).sign(self._signer)

    def _tell_missing(self, assignment: Assignment, spool: EpochSpool) -> None:
        records = spool.scraped()
        for zip_ in assignment.zipcodes:
            record = records.get(zip_.zipcode)
            if record is None or not record.complete:
                _log.warning(
                    "a ZIP is submitted in part or not at all",
                    zipcode=zip_.zipcode,
                    rows=record.rows if record else 0,
                    expected=zip_.expected_listings,
                    reason=record.note if record else "its turn did not come before time was up",
                )

    def _manifest_moment(self, assignment: Assignment) -> Callable[[datetime], datetime]:
        return lambda ready: self._pipeline.manifest_at(assignment, ready)

    async def _until_begun(self, epoch: Epoch) -> None:
        """Rows scraped before the epoch's start do not count, so a clock that is behind the
        API's must wait for it."""
        lag = epoch.start - self._clock.now()
        if lag > _NOTICED_LAG:
            _log.warning(
                "this machine's clock is behind the API's: set it right",
                seconds=round(lag.total_seconds()),
            )
        await sleep_until(self._clock, epoch.start)

    def _next_start(self, epoch: Epoch) -> datetime:
        """The next epoch's start, and a little later for each hotkey, so that not all miners ask
        the API in one moment. By default it is far within the grace, so it costs no rank."""
        share = int(sha256_hex(f"start:{self._hotkey}:{epoch.id}")[:8], 16) / 2**32
        return epoch.end + min(_LONGEST_JITTER, epoch.length / 64) * share

    def _failed(self, reason: str) -> Outcome:
        return Outcome("failed", format_time(self._clock.now()), reason, 0, 0)

    def _submitted(self, assignment: Assignment, delivered: Delivered) -> Outcome:
        rows, zipcodes = delivered.manifest.rows, len(delivered.manifest.files)
        detail = f"{rows} rows of {zipcodes} of {len(assignment.zipcodes)} ZIPs."
        if delivered.unsent:
            detail += f" The files of {', '.join(sorted(delivered.unsent))} could not be uploaded."
        now = format_time(self._clock.now())
        return Outcome("submitted", now, detail, rows, zipcodes, delivered.unsent)

    async def _beat(self) -> None:
        while True:
            self._progress.beat()
            await self._clock.sleep(HEARTBEAT)
