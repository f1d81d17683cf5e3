"""The trail of authenticated requests, written in batches so that no answer waits for it."""

import asyncio
from collections import deque
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from sn46.api.records import Records, RequestEntry
from sn46.clock import Clock

_EVERY = timedelta(seconds=2)
_MOST_WAITING = 10_000
log = structlog.get_logger(__name__)


class Audit:
    """Collects entries and writes them every two seconds. Where the database is away the oldest
    are let go beyond 10,000."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock
        self._waiting: deque[RequestEntry] = deque(maxlen=_MOST_WAITING)

    def note(self, entry: RequestEntry) -> None:
        self._waiting.append(entry)

    async def flush(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        batch = list(self._waiting)
        self._waiting.clear()
        try:
            await self._records.add_requests(batch)
        except (SQLAlchemyError, OSError) as error:
            log.warning("audit_not_written", entries=len(batch), error=str(error))
            self._waiting = deque([*batch, *self._waiting], maxlen=_MOST_WAITING)

    async def run(self) -> None:
        """Write for ever, and once more when cancelled."""
        try:
            while True:
                await self._clock.sleep(_EVERY)
                await self.flush()
        except asyncio.CancelledError:
            await self.flush()
            raise
