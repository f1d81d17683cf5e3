"""How fast to ask, and when to ask again: the manners that keep a source answering.

The pace of each way to a source (each proxy, or the direct one) rises by a little while it is
answered and falls by a factor when it is refused (additive increase, multiplicative decrease:
Chiu and Jain 1989), so that it settles just under what the source allows.
"""

import asyncio
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from sn46.clock import Clock


@dataclass(frozen=True)
class PaceSettings:
    """Rates in requests a second. ``increase`` is how much the rate rises in a second of answers,
    ``decrease`` what it is multiplied by at a refusal. ``longest_hold`` (seconds) is the longest
    that a source's Retry-After is waited for."""

    start: float = 25.0
    minimum: float = 0.5
    maximum: float = 50.0
    increase: float = 5.0
    decrease: float = 0.7
    longest_hold: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.minimum <= self.start <= self.maximum:
            raise ValueError("the pace needs 0 < minimum <= start <= maximum, requests a second")
        if not (0 < self.decrease < 1 and self.increase > 0 and self.longest_hold >= 0):
            raise ValueError("the pace needs 0 < decrease < 1, increase > 0, longest_hold >= 0")

    def at_most(self, rate: float) -> "PaceSettings":
        """The same, and never faster than ``rate``."""
        return replace(
            self,
            start=min(self.start, rate),
            minimum=min(self.minimum, rate),
            maximum=min(self.maximum, rate),
        )


class Pace:
    """The pace of one way to a source. Any number of tasks may wait for their turn; they get it
    in the order in which they asked, and a change of pace reaches those already waiting."""

    def __init__(self, clock: Clock, settings: PaceSettings | None = None) -> None:
        self._clock = clock
        self._settings = settings or PaceSettings()
        self._rate = self._settings.start
        self._free_at = clock.now()
        self._held_until = clock.now()
        self._slowed_at: datetime | None = None
        self._line = asyncio.Lock()
        self._waiting = 0

    @property
    def rate(self) -> float:
        """Requests a second at present."""
        return self._rate

    @property
    def expected_wait(self) -> float:
        """Seconds that who asks now would wait for a turn, behind all who wait already."""
        return max(0.0, self._wait().total_seconds()) + self._waiting / self._rate

    @property
    def is_held(self) -> bool:
        """Whether the source asked to be left alone, and that time has not passed."""
        return self._held_until > self._clock.now()

    async def turn(self) -> datetime:
        """Wait for a turn. Returns when it came, to be given to :meth:`refused`."""
        self._waiting += 1
        try:
            async with self._line:
                while (left := self._wait()) > timedelta(0):
                    await self._clock.sleep(left)
                now = self._clock.now()
                interval = timedelta(seconds=1 / self._rate)
                # A turn that came late (a busy machine) is made up for by one interval at most.
                self._free_at = max(self._free_at, now - interval) + interval
                return now
        finally:
            self._waiting -= 1

    def succeeded(self) -> None:
        """An answer came: a little faster."""
        step = self._settings.increase * min(1.0, 1 / self._rate)
        self._rate = min(self._settings.maximum, self._rate + step)

    def refused(self, asked_at: datetime, retry_after: float | None = None) -> None:
        """The source refused: slower, and silent for as long as it asked for (seconds).

        Requests that were under way together are refused together; that slows down once.
        """
        now = self._clock.now()
        if self._slowed_at is None or asked_at > self._slowed_at:
            self._slowed_at = now
            self._rate = max(self._settings.minimum, self._rate * self._settings.decrease)
        if retry_after is not None:
            hold = min(retry_after, self._settings.longest_hold)
            self._held_until = max(self._held_until, now + timedelta(seconds=hold))

    def _wait(self) -> timedelta:
        now = self._clock.now()
        # No wait is longer than these; a longer one means that the clock was set back.
        self._free_at = min(self._free_at, now + timedelta(seconds=1 / self._settings.minimum))
        longest = timedelta(seconds=self._settings.longest_hold)
        self._held_until = min(self._held_until, now + longest)
        return max(self._free_at, self._held_until) - now


@dataclass(frozen=True)
class RetryPolicy:
    """How often a request is tried in all, and the pauses between (seconds): doubling from
    ``first_pause`` to at most ``longest_pause``, each shortened by up to half at random, so that
    many clients do not come back at once."""

    attempts: int = 5
    first_pause: float = 0.5
    longest_pause: float = 20.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_pause < 0 or self.longest_pause < self.first_pause:
            raise ValueError("retries need attempts >= 1 and 0 <= first_pause <= longest_pause")

    def pause(self, failures: int, chance: random.Random) -> timedelta:
        """The pause after this many failures, 1 or more."""
        full = min(self.longest_pause, self.first_pause * 2.0 ** min(failures - 1, 30))
        return timedelta(seconds=full * (0.5 + chance.random() / 2))


def read_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3): a number or an HTTP date.
    None where there is none or it cannot be read."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
