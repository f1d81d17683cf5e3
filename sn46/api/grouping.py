"""Group commit: what waits to be written shares one transaction.

A commit waits for the disk, and callers who come meanwhile wait for the next. Written one by one,
10,000 callers wait for 10,000 commits; here all that came while one commit was under way go into
the next one together. Who comes alone waits for nobody.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from sn46.api.database import Database

_MOST_TOGETHER = 500

Item = TypeVar("Item")
Result = TypeVar("Result")
Write = Callable[[AsyncConnection, Sequence[Item]], Awaitable[Sequence[Result]]]


class _Batch(Generic[Item, Result]):
    """Items that are written together, and the task that does it."""

    def __init__(self, items: list[Item], task: "asyncio.Task[Sequence[Result]]") -> None:
        self.items = items
        self.task = task


class GroupWriter(Generic[Item, Result]):
    """Writes items of one kind, many in a transaction.

    ``write`` is given the items that wait, at most 500 and in the order they came, within a
    transaction of their own, and returns their results in the same order. It must not leave an
    item out for another's sake: all of them commit or none.
    """

    def __init__(self, database: Database, write: Write[Item, Result]) -> None:
        self._database = database
        self._write = write
        self._turn = asyncio.Lock()
        self._open: _Batch[Item, Result] | None = None

    async def add(self, item: Item) -> Result:
        """Write an item; returns its result once it is committed.

        A caller that is cancelled leaves the others, and what it asked for, as they are.

        Raises:
            SQLAlchemyError, OSError: where the transaction failed; nothing of it was written, and
                every caller of it is told.
        """
        batch = self._open
        if batch is None or len(batch.items) >= _MOST_TOGETHER:
            items: list[Item] = []
            batch = self._open = _Batch(items, asyncio.create_task(self._commit(items)))
        position = len(batch.items)
        batch.items.append(item)
        # The commit is nobody's own: a caller that goes away does not take it along.
        return (await asyncio.shield(batch.task))[position]

    async def _commit(self, items: list[Item]) -> Sequence[Result]:
        async with self._turn:
            try:
                async with self._database.write() as connection:
                    self._close(items)
                    return await self._write(connection, items)
            finally:
                self._close(items)

    def _close(self, items: list[Item]) -> None:
        """Let nobody join any more."""
        if self._open is not None and self._open.items is items:
            self._open = None
