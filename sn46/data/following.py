"""The table kept up to date: a service that appends epochs as they end."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import structlog

from sn46.clock import Clock
from sn46.data.errors import DataError
from sn46.data.library import Library
from sn46.data.registering import ListingsTable, register_epochs
from sn46.mechanism.errors import MechanismError
from sn46.mechanism.names import EpochId
from sn46.store.base import StoreError

_log = structlog.get_logger("sn46.data")
_PASSING = (DataError, MechanismError, OSError, StoreError)
"""What may be otherwise at the next look."""


class Follower:
    """Looks, appends, waits; until it is told to stop. Nothing is lost or doubled by stopping it
    at any moment, or by several of them."""

    def __init__(
        self,
        read: Callable[[], Awaitable[Library]],
        table: ListingsTable,
        epoch_seconds: int,
        *,
        clock: Clock,
        every_seconds: float,
        say: Callable[[str], None],
    ) -> None:
        """``read`` gives the library with all that is new in it."""
        self._read = read
        self._table = table
        self._epoch_seconds = epoch_seconds
        self._clock = clock
        self._every = every_seconds
        self._say = say
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until SIGINT or SIGTERM."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        while not self._stop.is_set():
            try:
                await self.look()
            except _PASSING as error:
                _log.warning("will look again", fault=" ".join(str(error).split()))
            try:
                await asyncio.wait_for(self._stop.wait(), self._every)
            except TimeoutError:
                continue

    async def look(self) -> list[EpochId]:
        """Read what is new and append what is over; the epochs that were appended.

        Raises:
            DataError, MechanismError, StoreError: where it cannot be done now.
        """
        library = await self._read()
        return await asyncio.to_thread(self._append, library)

    def _append(self, library: Library) -> list[EpochId]:
        with self._table as table:
            return register_epochs(
                table, library, self._epoch_seconds, now=self._clock.now(), say=self._say
            )
