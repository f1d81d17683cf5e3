"""Work that goes on for as long as its service does, or for all who wait for it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

import structlog

_T = TypeVar("_T")
_AGAIN_SECONDS: Final = 10
_log = structlog.get_logger(__name__)


async def kept_running(name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run for ever. What the work did not expect ends a round of it, and neither the work nor what
    runs beside it; the log says so."""
    while True:
        task = asyncio.create_task(run(), name=name)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            while not task.done():
                # Again, where a library swallowed it: asyncio.wait_for of Python 3.11 does.
                task.cancel()
                await asyncio.wait({task}, timeout=1)
            raise
        _log.critical("background_work_ended", work=name, exc_info=task.exception())
        await asyncio.sleep(_AGAIN_SECONDS)


class Shared(Generic[_T]):
    """Work that is done once for all who want its result while it is under way.

    One who gives up does not end it for the others.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> None:
        self._work = work
        self._under_way: asyncio.Task[_T] | None = None

    async def result(self) -> _T:
        """Wait for the work under way, or begin it. Raises what it raises."""
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._work())
        return await asyncio.shield(self._under_way)
