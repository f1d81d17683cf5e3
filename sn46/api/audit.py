"""What is noted of requests, and how it gets to the database: in batches, so that no answer waits
for it, and with bounds, so that no flood fills disk or memory.

What a known caller changed is written one by one: its number is limited. Of refusals and of reads
alike (one caller or address, one route, one code) the first three between two writes get a row
each, and the others one row with their count. A caller is known once its hotkey is registered;
refusals of all others together get at most 1,000 rows at once and 10,000 an hour, and what is over
that is one row with a count.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import count, islice

import structlog
from sqlalchemy.exc import SQLAlchemyError

from sn46.api.database import reason_of
from sn46.api.schedule import named_epoch
from sn46.api.trail import RequestEntry, Trail
from sn46.clock import Clock
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.errors import EpochError

_EVERY = timedelta(seconds=2)
_READS_EVERY = 5
"""In writes: what only read is written less often, and gets fewer rows by that."""
_MOST_WAITING = 20_000
_TOGETHER = 2_000
_BIT = 100
_BITS = 20
_BETWEEN = timedelta(milliseconds=50)
"""Rows are written a bit at a time: indices make a row dear, and who waits for an answer meanwhile
has to share the processor's core. A bit is a twentieth of what waits where that is more, so that
however much comes, what waits does not grow for ever."""
_ALIKE = 3
_READING = frozenset({"GET", "HEAD"})
ANY = "*"
"""Stands in a row for what differed between the requests that it counts."""
log = structlog.get_logger(__name__)


class _Allowance:
    """Rows that may still be written: ``most`` at once, ``hourly`` in the long run."""

    def __init__(self, most: int, hourly: int) -> None:
        self._most = most
        self._second = hourly / 3_600
        self._left = float(most)
        self._seen: datetime | None = None

    def take(self, now: datetime) -> bool:
        if self._seen is not None:
            passed = (now - self._seen).total_seconds()
            self._left = min(self._most, self._left + max(0.0, passed) * self._second)
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass
class _Alike:
    """Requests of one kind since the last write."""

    entries: list[RequestEntry]
    more: int = 0
    last: RequestEntry | None = None


@dataclass
class _Kinds:
    """Requests since the last write by kind, within an allowance of rows where there is one."""

    allowance: _Allowance | None = None
    alike: dict[tuple[str, str, int, str | None], _Alike] = field(
        default_factory=dict[tuple[str, str, int, str | None], _Alike]
    )
    over: int = 0
    over_at: datetime | None = None

    def note(self, entry: RequestEntry, who: str, route: str) -> None:
        key = (who, route, entry.status, entry.code)
        alike = self.alike.get(key)
        if alike is not None and alike.last is not None:
            alike.more += 1
            same = entry.path == alike.last.path
            alike.last = entry if same else entry._replace(path=route, epoch_id=None)
        elif self.allowance is not None and not self.allowance.take(entry.at):
            self.over += 1
            self.over_at = entry.at
        elif alike is None:
            self.alike[key] = _Alike([entry])
        elif len(alike.entries) < _ALIKE:
            alike.entries.append(entry)
        else:
            alike.more, alike.last = 1, entry

    def take(self) -> list[RequestEntry]:
        """The rows to write; the next ones begin anew."""
        rows: list[RequestEntry] = []
        for alike in self.alike.values():
            rows += alike.entries
            if alike.last is not None:
                rows.append(alike.last._replace(counted=alike.more))
        if self.over_at is not None:
            rows.append(
                RequestEntry(self.over_at, "", "", "", ANY, ANY, 400, ANY, ANY, None, self.over)
            )
        self.alike, self.over, self.over_at = {}, 0, None
        return rows


class Audit:
    """Collects what is noted and writes it every two seconds, reads that were answered every ten.
    Where the database is away, the oldest are let go beyond 20,000."""

    def __init__(self, trail: Trail, clock: Clock, epoch_at: Callable[[datetime], Epoch]) -> None:
        self._trail = trail
        self._clock = clock
        self._epoch_at = epoch_at
        self._turn = asyncio.Lock()
        self._answers: deque[RequestEntry] = deque(maxlen=_MOST_WAITING)
        self._reads = _Kinds()
        self._known = _Kinds(_Allowance(5_000, 100_000))
        self._others = _Kinds(_Allowance(1_000, 10_000))
        self._late: deque[RequestEntry] = deque(maxlen=_MOST_WAITING)

    def epoch_id(self, named: str) -> str | None:
        """The epoch that a request names; None where what it says names none."""
        now = self._epoch_at(self._clock.now())
        if named == "current":
            return now.id
        return _known_id(named, now) if len(named) <= _LONGEST_ID else None

    def note(self, entry: RequestEntry, *, route: str, known: bool) -> None:
        """Note an answered request.

        Args:
            route: its template; requests are alike by it.
            known: whether the hotkey is a registered one. Of anyone else refusals alone may be
                noted.
        """
        if not known:
            self._others.note(entry, entry.address, route)
        elif entry.status >= 400:
            self._known.note(entry, entry.hotkey, route)
        elif entry.method in _READING:
            self._reads.note(entry, entry.hotkey, route)
        else:
            self._answers.append(entry)

    async def flush(self, *, reads: bool = True) -> None:
        """Write what waits. What cannot be written waits on, and so does the rest where this is
        cancelled; what is being written then is written.

        Args:
            reads: whether reads that were answered are written too.
        """
        await self._collect(reads)
        while await self._write(_TOGETHER):
            pass

    async def _collect(self, reads: bool) -> None:
        async with self._turn:
            self._late.extend(self._answers)
            self._answers.clear()
            for kinds in (self._known, self._others, *([self._reads] if reads else ())):
                self._late.extend(kinds.take())

    async def _write(self, most: int) -> bool:
        """Write so many of what waits; whether more waits and can be written."""
        return await asyncio.shield(asyncio.create_task(self._write_in_turn(most)))

    async def _write_in_turn(self, most: int) -> bool:
        async with self._turn:
            together = list(islice(self._late, most))
            if not together:
                return False
            try:
                await self._trail.add(together)
            except (SQLAlchemyError, OSError) as error:
                log.warning("audit_not_written", entries=len(self._late), error=reason_of(error))
                return False
            for _ in together:
                self._late.popleft()
            return bool(self._late)

    async def run(self) -> None:
        """Write for ever. Who ends it writes the rest with ``flush``."""
        for turn in count(1):
            await self._clock.sleep(_EVERY)
            await self._collect(reads=turn % _READS_EVERY == 0)
            while await self._write(max(_BIT, len(self._late) // _BITS)):
                await self._clock.sleep(_BETWEEN)


_LONGEST_ID = 20


@lru_cache(maxsize=1_024)
def _known_id(named: str, now: Epoch) -> str | None:
    if named == "previous":
        return now.previous().id
    try:
        return named_epoch(named, now.seconds).id
    except EpochError:
        return None
