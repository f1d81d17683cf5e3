"""The API, asked with patience: assignments, upload policies, and word of how far we are.

While it gives no answer, validators are asked for the assignment. Upload policies come from the
API alone.
"""

import asyncio
import random
from collections.abc import Coroutine, Sequence
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
LONGEST_ASKED: Final = timedelta(minutes=5)
"""A longer Retry-After is not believed: what stands before the API may say a day, and be back in a
minute."""

LONGEST_PATIENCE: Final = timedelta(seconds=60)
"""How long the API is waited for before validators are asked, and how long between two times; in
short epochs, a thirty-second of one."""

LEAST_PATIENCE: Final = timedelta(seconds=2)

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


class Relay(Protocol):
    """Whoever else has the assignment: ``sn46.miner.relay.Validators``."""

    async def find(self, after: EpochId | None) -> ReceivedAssignment | None:
        """The running epoch's assignment, where it can be trusted and is of another epoch than
        ``after``; None where there is none to be had."""
        ...


class Desk:
    """Asks the API again and again until it answers; one for each miner, closed at its end."""

    def __init__(
        self,
        api: Api,
        *,
        api_hotkey: Hotkey,
        spool: Spool,
        clock: Clock,
        relay: Relay | None = None,
    ) -> None:
        self._api = api
        self._api_hotkey = api_hotkey
        self._spool = spool
        self._clock = clock
        self._reports: dict[EpochId, asyncio.Task[None]] = {}
        self._relay = relay
        self._told = ""
        self._is_refused = False

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
        ways = [self._from_api(after)]
        if self._relay is not None:
            ways.append(self._from_relay(self._relay, after, _patience(kept)))
        received = await _first_of(ways)
        self._told = ""
        self._keep(received)
        return received.assignment

    async def _from_api(self, after: EpochId | None) -> ReceivedAssignment:
        pause = FIRST_PAUSE
        while True:
            retry_after: int | None = None
            try:
                received = await self._api.current()
            except ApiError as error:
                self._is_refused = True
                self._tell(str(error))
                retry_after = error.retry_after
            except ApiUnavailable as error:
                self._is_refused = False
                self._tell(str(error))
                retry_after = error.retry_after
            except AssignmentError as error:
                self._is_refused = False
                self._tell(str(error))
            else:
                self._is_refused = True
                if received.assignment.epoch_id != after:
                    return received
            await self._clock.sleep(max(_jittered(pause), _asked(retry_after)))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _from_relay(
        self, relay: Relay, after: EpochId | None, patience: timedelta
    ) -> ReceivedAssignment:
        """What validators give, once the API was silent for a while. An API that answers, if only
        to refuse, is not away, and is asked alone."""
        self._is_refused = False
        while True:
            await self._clock.sleep(_jittered(patience))
            found = None if self._is_refused else await relay.find(after)
            if found is not None:
                return found

    async def policy(self, assignment: Assignment) -> UploadPolicy:
        """The upload policy for an epoch.

        Raises:
            DeliveryFailed: where there is none to be had before the deadline.
        """
        deadline = assignment.submission_deadline
        pause = FIRST_PAUSE
        while True:
            try:
                return await self._api.miner_upload(assignment.epoch_id)
            except (ApiError, ApiUnavailable) as error:
                left = deadline - self._clock.now()
                over = isinstance(error, ApiError) and error.code == "epoch_ended"
                # Towards the end more often: an API that comes back late is still in time.
                wait = max(min(_jittered(pause), left / 4), FIRST_PAUSE)
                wait = max(wait, min(_asked(error.retry_after), left / 2))
                if over or wait >= left:
                    raise DeliveryFailed(
                        f"No upload credentials before the deadline {format_time(deadline)}: "
                        f"{error}"
                    ) from error
                _log.warning(
                    "no upload credentials yet; only the API can give them, and is asked until "
                    "the deadline",
                    reason=str(error),
                )
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


def _patience(kept: Assignment | None) -> timedelta:
    """How long to wait for the API alone, by the length of epochs where one is known."""
    if kept is None:
        return LONGEST_PATIENCE
    return max(LEAST_PATIENCE, min(LONGEST_PATIENCE, kept.epoch.length / 32))


def _asked(retry_after: int | None) -> timedelta:
    """How long to leave the API alone, going by its Retry-After."""
    return min(timedelta(seconds=retry_after or 0), LONGEST_ASKED)


def _jittered(pause: timedelta) -> timedelta:
    """A little longer, so that many miners do not ask in one moment."""
    return pause * (1 + random.random() / 4)


async def _first_of(ways: Sequence[Coroutine[Any, Any, ReceivedAssignment]]) -> ReceivedAssignment:
    """What comes first; the other ways are given up."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        under_way = set(tasks)
        while under_way:
            # Again, where a library swallowed it: asyncio.wait_for of Python 3.11 does.
            for task in under_way:
                task.cancel()
            _, under_way = await asyncio.wait(under_way, timeout=1)
        await asyncio.gather(*tasks, return_exceptions=True)
