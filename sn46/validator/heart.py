"""The validator's heartbeat: given by the epoch loop itself, with a bound that it sets.

Whoever only asks whether the process answers does not notice an epoch that hangs, and whoever
expects a sign every few minutes kills a loop that waits for its epoch's end. So the loop says
when it will be heard of next, and is well until then.
"""

from datetime import datetime, timedelta
from typing import Final

from sn46.clock import Clock
from sn46.mechanism.times import format_time

SLACK: Final = timedelta(seconds=90)
"""How much later than announced the loop may wake."""

SHORTEST_SILENCE: Final = timedelta(minutes=2)
_FIRST_SILENCE: Final = timedelta(minutes=15)


class Heart:
    """When the epoch loop was heard of last, and until when it may be silent."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._silence = _FIRST_SILENCE
        self._beat_at = self._looked_at = clock.now()
        self._due = self._beat_at + self._silence

    @property
    def beat_at(self) -> datetime:
        return self._beat_at

    @property
    def due(self) -> datetime:
        """By when the loop is heard of, where it is well."""
        return self._due

    def of_epochs(self, length: timedelta) -> None:
        """Let a step of work take a sixteenth of an epoch (15 minutes of one of four hours)."""
        self._silence = max(SHORTEST_SILENCE, length / 16)

    def beat(self, until: datetime | None = None) -> None:
        """The loop moved. ``until`` is where it now waits for a moment, or works on one step
        until then; without it, it is heard of again within a step's time."""
        now = self._beat_at = self._clock.now()
        self._due = now + self._silence if until is None else max(now, until) + SLACK

    def look(self) -> bool:
        """Whether the loop is well; to be asked every few seconds. Time that this process did
        not live through (a machine that was suspended, a clock that was set) is no silence."""
        now = self._clock.now()
        unlived = now - self._looked_at
        if unlived > SLACK / 2:
            self._due += unlived
        self._looked_at = now
        return now <= self._due

    def why_not(self) -> str:
        """What is wrong where the loop is not well."""
        return (
            f"The epoch loop was heard of last at {format_time(self._beat_at)} and was to be "
            f"again by {format_time(self._due)}. Start the validator again: it goes on where it "
            "was. The log says what it was at."
        )


class HeartClock:
    """The epoch loop's clock: the heart beats as it falls asleep and as it wakes."""

    def __init__(self, clock: Clock, heart: Heart) -> None:
        self._clock = clock
        self._heart = heart

    def now(self) -> datetime:
        return self._clock.now()

    async def sleep(self, duration: timedelta) -> None:
        self._heart.beat(until=self._clock.now() + duration)
        await self._clock.sleep(duration)
        self._heart.beat()
