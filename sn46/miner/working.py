"""Several workers over one list of work."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

_T = TypeVar("_T")


async def work_through(
    items: Iterable[_T], work: Callable[[_T], Awaitable[None]], *, workers: int
) -> None:
    """Do ``work`` for each item in order, ``workers`` at a time.

    The first error ends all of it and is raised; when this returns, raises or is cancelled,
    no worker is left running.
    """
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    tasks = [asyncio.ensure_future(worker()) for _ in range(workers)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
