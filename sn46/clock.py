"""Time, injected: nothing in this project reads a clock that it was not given."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What time it is, and how to wait for a later one."""

    def now(self) -> datetime:
        """Now, aware, UTC."""
        ...

    async def sleep(self, duration: timedelta) -> None:
        """Return after ``duration``; at once where it is not positive."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, duration: timedelta) -> None:
        await asyncio.sleep(max(0.0, duration.total_seconds()))


async def sleep_until(clock: Clock, moment: datetime) -> None:
    """Return once ``moment`` is reached. Sleeps in short steps, so that a corrected or
    suspended machine clock is noticed within half a minute."""
    while (left := moment - clock.now()) > timedelta(0):
        await clock.sleep(min(left, timedelta(seconds=30)))
