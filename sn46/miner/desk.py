"""The API, asked with patience: assignments, upload policies, and word of how far we are."""

import asyncio
from datetime import timedelta
from typing import Any, Final, Protocol

import structlog

from sn46.client.api import ApiError, ApiUnavailable, ReceivedAssignment, Status
from sn46.clock import Clock
from sn46.mechanism.assignment import Assignment, read_assignment
from sn46.mechanism.errors import AssignmentError
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.times import format_time
from sn46.miner.delivery import DeliveryFailed
from sn46.miner.spool import Spool, SpoolError
from sn46.store.base import UploadPolicy

FIRST_PAUSE: Final = timedelta(seconds=1)
LONGEST_PAUSE: Final = timedelta(seconds=30)

_log = structlog.get_logger()


class Api(Protocol):
    """What a miner asks of the API; ``sn46.client.api.ApiClient`` has it. Each raises ApiError
    where the API refuses, and ApiUnavailable where it cannot be reached."""

    async def current(self) -> ReceivedAssignment:
        """
        Raises:
            AssignmentError: where it is not signed by the trusted API, or of another version.
        """
        ...

    async def miner_upload(self, epoch_id: EpochId | None = None) -> UploadPolicy: ...

    async def report_status(
        self,
        *,
        epoch_id: EpochId,
        nonce: str,
        status: Status,
        listings_found: int,
        s3_upload_complete: bool,
        zipcodes_completed: int | None = None,
    ) -> None: ...


class Desk:
    """Asks the API again and again until it answers; one for each miner, closed at its end."""

    def __init__(self, api: Api, *, api_hotkey: Hotkey, spool: Spool, clock: Clock) -> None:
        self._api = api
        self._api_hotkey = api_hotkey
        self._spool = spool
        self._clock = clock
        self._reports: dict[EpochId, asyncio.Task[None]] = {}
        self._told = ""

    async def close(self) -> None:
        """Drop the reports that are still under way."""
        for task in self._reports.values():
            task.cancel()
        await asyncio.gather(*self._reports.values(), return_exceptions=True)
        self._reports.clear()

    async def next_assignment(self, after: EpochId | None) -> Assignment:
        """The current assignment, once it is of another epoch than ``after``.

        The one kept on disk is used while its epoch lasts: an assignment never changes, and a
        restart then needs no answer of the API to work on.
        """
        kept = self._kept()
        if kept is not None and kept.epoch_id != after and kept.epoch.contains(self._clock.now()):
            return kept
        pause = FIRST_PAUSE
        while True:
            retry_after: int | None = None
            try:
                received = await self._api.current()
            except (ApiError, ApiUnavailable) as error:
                self._tell(str(error))
                retry_after = error.retry_after
            except AssignmentError as error:
                self._tell(str(error))
            else:
                self._told = ""
                if received.assignment.epoch_id != after:
                    self._keep(received)
                    return received.assignment
            asked = timedelta(seconds=retry_after or 0)
            await self._clock.sleep(max(pause, asked))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def policy(self, assignment: Assignment) -> UploadPolicy:
        """The upload policy for an epoch.

        Raises:
            DeliveryFailed: where there is none to be had before the deadline.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                return await self._api.miner_upload(assignment.epoch_id)
            except (ApiError, ApiUnavailable) as error:
                over = isinstance(error, ApiError) and error.code == "epoch_ended"
                wait = max(pause, timedelta(seconds=error.retry_after or 0))
                if over or self._clock.now() + wait >= assignment.submission_deadline:
                    raise DeliveryFailed(
                        f"No upload credentials before the deadline "
                        f"{format_time(assignment.submission_deadline)}: {error}"
                    ) from error
                _log.warning("no upload credentials yet; asking again", reason=str(error))
            await self._clock.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)

    def report(self, assignment: Assignment, status: Status, *, rows: int, zipcodes: int) -> None:
        """Tell the API how far we are, in the background: nothing waits for it, and a newer
        report of an epoch takes the place of one that is still under way."""
        under_way = self._reports.get(assignment.epoch_id)
        if under_way is not None:
            under_way.cancel()
        self._reports = {e: task for e, task in self._reports.items() if not task.done()}
        self._reports[assignment.epoch_id] = asyncio.ensure_future(
            self._report(
                epoch_id=assignment.epoch_id,
                nonce=assignment.nonce,
                status=status,
                listings_found=rows,
                zipcodes_completed=zipcodes,
                s3_upload_complete=status == "completed",
            )
        )

    async def _report(self, **report: Any) -> None:
        try:
            await self._api.report_status(**report)
        except (ApiError, ApiUnavailable) as error:
            _log.warning(
                "the API did not take a status report; it changes no score",
                status=report["status"],
                reason=str(error),
            )

    def _kept(self) -> Assignment | None:
        document = self._spool.assignment()
        try:
            return read_assignment(document, self._api_hotkey) if document else None
        except AssignmentError:
            return None

    def _keep(self, received: ReceivedAssignment) -> None:
        try:
            self._spool.save_assignment(received.document)
        except SpoolError as error:
            _log.warning("the assignment cannot be kept", reason=str(error))

    def _tell(self, reason: str) -> None:
        """Warn of each new reason once; asking goes on."""
        if reason != self._told:
            _log.warning("there is no assignment yet; asking again", reason=reason)
        self._told = reason
