"""What the database forgets. Epochs, draws, credentials and reports are kept for ever; requests
and miners' statuses go after so many days as the settings say."""

from collections.abc import Sequence
from datetime import timedelta

import structlog
from sqlalchemy import delete, select, tuple_
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import Delete

from sn46.api.database import Database, reason_of
from sn46.api.schema import requests, statuses
from sn46.api.settings import ApiSettings
from sn46.clock import Clock
from sn46.mechanism.epochs import epoch_at

_EVERY = timedelta(hours=1)
_TOGETHER = 500
log = structlog.get_logger(__name__)


class Retention:
    """Deletes what is old, 500 rows a transaction, so that whoever wants to write meanwhile
    waits for milliseconds."""

    def __init__(self, database: Database, settings: ApiSettings, clock: Clock) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock

    async def run(self) -> None:
        """Forget what is old now and every hour, for ever. What fails is logged and tried again
        an hour later."""
        while True:
            try:
                await self.forget()
            except (SQLAlchemyError, OSError) as error:
                log.warning("old_rows_not_deleted", error=reason_of(error))
            await self._clock.sleep(_EVERY)

    async def forget(self) -> int:
        """Delete what is old. Returns the number of rows.

        Raises:
            SQLAlchemyError, OSError: where the database cannot be used; what was deleted before
                stays so.
        """
        return sum([await self._delete(statement) for statement in self._statements()])

    def _statements(self) -> Sequence[Delete]:
        now, settings = self._clock.now(), self._settings
        requests_from = now - timedelta(days=settings.audit_days)
        old_requests = (
            select(requests.c.id)
            .where(requests.c.at < requests_from)
            .order_by(requests.c.at)
            .limit(_TOGETHER)
        )
        # Ids sort as their epochs do, and the primary key begins with them.
        kept = epoch_at(now - timedelta(days=settings.status_days), settings.epoch_seconds)
        key = (statuses.c.epoch_id, statuses.c.hotkey)
        old_statuses = (
            select(*key).where(statuses.c.epoch_id < kept.id).order_by(*key).limit(_TOGETHER)
        )
        return (
            delete(requests).where(requests.c.id.in_(old_requests)),
            delete(statuses).where(tuple_(*key).in_(old_statuses)),
        )

    async def _delete(self, statement: Delete) -> int:
        """Run a statement that deletes some rows until it finds no more."""
        total = 0
        while True:
            async with self._database.write() as connection:
                deleted = (await connection.execute(statement)).rowcount
            total += deleted
            if deleted < _TOGETHER:
                return total
