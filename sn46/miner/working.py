"""Several workers over one list of work, as many as its crew has at the moment."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

LEAST_WORKERS: Final = 5
"""So many are always worth it, where so many are allowed: a portal that answers slowly or refuses
some requests is asked more slowly by its own pace, and not by fewer workers."""

FEW_REFUSALS: Final = 0.1
MANY_REFUSALS: Final = 0.25
_SLOWER: Final = 2.0
_NOTICED: Final = 0.25
"""Seconds. Less than this is no delay of a source's, but of a busy machine."""

_FASTER: Final = 1.03
_SHRINK: Final = 0.7
_READINGS_OF_PEACE: Final = 5
_FORGETTING: Final = 1.02


@dataclass(frozen=True)
class Reading:
    """What the sources gave in ``seconds``: requests answered and not, and the mean time that an
    answer took (seconds), None where none came."""

    seconds: float
    answered: int
    unanswered: int
    latency: float | None


class Crew:
    """How many work at a time. It begins with ``least`` and finds its size by what work brings.

    It grows by half while answers a second rise by it. Once they do not, the last growth is taken
    back, and from then on one more is tried every five readings, and stays where it helps. When
    more than a quarter of requests stay without an answer, or answers take twice as long as the
    quickest did, the crew shrinks by three tenths, and is left at that for five readings. Over a
    tenth of requests without an answer, it does not grow.

    Args:
        least: never fewer.
        most: never more; equal to ``least`` the crew is fixed.
    """

    def __init__(self, least: int, most: int) -> None:
        if not 1 <= least <= most:
            raise ValueError("a crew needs 1 <= least <= most")
        self._least = least
        self._most = most
        self._size = least
        self._changed = asyncio.Event()
        self._quickest: float | None = None
        self._rate_before: float | None = None
        self._size_before = least
        self._is_new = True
        self._peace = 0

    @classmethod
    def up_to(cls, most: int) -> "Crew":
        """One that adapts up to a limit; a limit of ``LEAST_WORKERS`` or fewer fixes it."""
        return cls(min(LEAST_WORKERS, most), most)

    @property
    def size(self) -> int:
        return self._size

    @property
    def is_fixed(self) -> bool:
        return self._least == self._most

    async def changes(self) -> None:
        """Return when the size has changed."""
        await self._changed.wait()

    def learn(self, reading: Reading) -> None:
        """Adapt to what the latest while of work brought. A while without a request teaches
        nothing."""
        asked = reading.answered + reading.unanswered
        if self.is_fixed or not asked:
            return
        share = reading.unanswered / asked
        rate = reading.answered / reading.seconds
        slower = self._is_slower(reading.latency)
        tried, self._rate_before = self._rate_before, None
        if share > MANY_REFUSALS or slower:
            self._settle(int(self._size * _SHRINK))
        elif tried is not None and rate < tried * _FASTER:
            self._settle(self._size_before)
        elif self._peace:
            self._peace -= 1
        elif share <= FEW_REFUSALS and self._size < self._most:
            self._rate_before, self._size_before = rate, self._size
            self._resize(self._size + (max(1, self._size // 2) if self._is_new else 1))

    def _is_slower(self, latency: float | None) -> bool:
        if latency is None:
            return False
        quickest = latency if self._quickest is None else self._quickest * _FORGETTING
        self._quickest = min(latency, quickest)
        return latency > max(_SLOWER * self._quickest, self._quickest + _NOTICED)

    def _settle(self, size: int) -> None:
        self._peace, self._is_new = _READINGS_OF_PEACE, False
        self._resize(size)

    def _resize(self, size: int) -> None:
        self._size = min(self._most, max(self._least, size))
        self._changed.set()
        self._changed.clear()


async def work_through(
    items: Iterable[_T], work: Callable[[_T], Awaitable[None]], *, workers: int | Crew
) -> None:
    """Do ``work`` for each item in order, ``workers`` at a time. A crew that shrinks lets those
    who work finish what they have.

    The first error ends all of it and is raised; when this returns, raises or is cancelled,
    no worker is left running.
    """
    crew = Crew(workers, workers) if isinstance(workers, int) else workers
    waiting, left = iter(items), True
    running: set[asyncio.Future[None]] = set()
    changes: asyncio.Future[None] | None = None
    try:
        while left or running:
            while left and len(running) < crew.size:
                try:
                    running.add(asyncio.ensure_future(work(next(waiting))))
                except StopIteration:
                    left = False
            if not running:
                break
            changes = changes or asyncio.ensure_future(crew.changes())
            await asyncio.wait({*running, changes}, return_when=asyncio.FIRST_COMPLETED)
            changes = None if changes.done() else changes
            for future in [future for future in running if future.done()]:
                running.discard(future)
                future.result()
    finally:
        ending = [*running, *([changes] if changes else [])]
        for future in ending:
            future.cancel()
        await asyncio.gather(*ending, return_exceptions=True)


async def while_time_lasts(
    work: Coroutine[Any, Any, None], time_is_up: Coroutine[Any, Any, None]
) -> None:
    """Do work until it is done or the other ends. It is cancelled then, and waited for; what it
    raised is raised."""
    working, timer = asyncio.ensure_future(work), asyncio.ensure_future(time_is_up)
    try:
        await asyncio.wait({working, timer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
        working.cancel()
        ended, _ = await asyncio.gather(working, timer, return_exceptions=True)
    if isinstance(ended, Exception):
        raise ended
