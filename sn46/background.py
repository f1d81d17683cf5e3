"""Work in the background that goes on for as long as its service does."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

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
