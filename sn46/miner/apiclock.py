"""The time by which an epoch begins and ends: the API's.

A machine whose clock is wrong would sign requests that are refused as stale, stamp rows outside
the epoch and take the deadline for past, or for hours away. So the API's time is taken from each
of its answers (``Date``, RFC 9110 6.6.1), and kept to where the machine's own clock is off.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
import structlog

from sn46.certificates import trusted
from sn46.clock import Clock

TRUSTED_SKEW: Final = timedelta(seconds=3)
"""A clock that is off by no more than this is taken for right: a Date is of whole seconds, and an
answer takes its time."""

LONGEST_ANSWER: Final = timedelta(seconds=4)
"""An answer that took longer says too little of the time."""

_ASKING_SECONDS: Final = 3.0
_HALF_A_SECOND: Final = timedelta(seconds=0.5)

_log = structlog.get_logger()


class ApiClock:
    """A clock that tells the API's time once the API has answered, and the machine's until then.

    Args:
        machine: the machine's own.
        changed: told by how much the machine's clock is ahead (negative: behind) each time that
            this is found to be something else; zero where it is right.
    """

    def __init__(self, machine: Clock, changed: Callable[[timedelta], None]) -> None:
        self._machine = machine
        self._changed = changed
        self._ahead = timedelta(0)

    @property
    def ahead(self) -> timedelta:
        """By how much the machine's clock is ahead of the time that this tells."""
        return self._ahead

    def now(self) -> datetime:
        return self._machine.now() - self._ahead

    async def sleep(self, duration: timedelta) -> None:
        await self._machine.sleep(duration)

    def heard(self, date: str | None, took: timedelta) -> None:
        """Learn from an answer that just came: its Date, and how long it took."""
        theirs = _moment(date)
        if theirs is None or took > LONGEST_ANSWER:
            return
        ahead = self._machine.now() - took / 2 - (theirs + _HALF_A_SECOND)
        if abs(ahead - self._ahead) <= TRUSTED_SKEW:
            return
        self._ahead = ahead if abs(ahead) > TRUSTED_SKEW else timedelta(0)
        seconds = abs(ahead.total_seconds())
        if self._ahead:
            _log.warning(
                f"this machine's clock is {seconds:.0f} s "
                f"{'ahead of' if ahead > timedelta(0) else 'behind'} the API's; the miner keeps to "
                "the API's time, but set the clock right (timedatectl set-ntp true)"
            )
        else:
            _log.info("this machine's clock agrees with the API's again")
        self._changed(self._ahead)


async def ask_the_time(api_url: str, clock: ApiClock) -> None:
    """Let a clock hear the API before anything else goes by it. An API that does not answer within
    some seconds is not waited for."""
    try:
        async with httpx.AsyncClient(timeout=_ASKING_SECONDS, verify=trusted()) as http:
            answer = await http.get(f"{api_url.rstrip('/')}/healthz")
    except httpx.HTTPError:
        return
    if answer.is_success:
        clock.heard(answer.headers.get("date"), answer.elapsed)


def _moment(date: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(date or "")
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
