"""The audit log in the database: who asked what and when, and what came of it.

Credentials and reports carry their own origin, written in the transaction that makes them; here
requests are added to them, and all three are read as one log.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson
from sqlalchemy import ColumnElement, Select, literal, null, select, text

from sn46.api.database import Database
from sn46.api.schema import credentials, reports, requests


class RequestEntry(NamedTuple):
    """One request, or ``counted`` that were answered alike and of which this is the last.

    ``hotkey`` and ``way`` are empty where no signature was verified, ``epoch_id`` is None where
    none was named. ``path`` is ``printable``. Nothing of it is a signature, a body or a query.
    """

    at: datetime
    request_id: str
    hotkey: str
    way: str
    method: str
    path: str
    status: int
    code: str | None
    address: str
    epoch_id: str | None
    counted: int = 1


@dataclass(frozen=True)
class LogQuery:
    """What to read of the log; None asks for all. Newest first, at most ``limit`` entries."""

    hotkey: str | None = None
    epoch_id: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    refusals: bool = False
    limit: int = 100


@dataclass(frozen=True)
class LogEntry:
    """A line of the log. ``what`` is ``request``, ``credentials`` or ``report``, and ``kind``
    what the credentials are for. What was recorded before revision 0002 knows no origin."""

    at: datetime
    what: str
    hotkey: str
    way: str | None
    method: str | None
    path: str | None
    epoch_id: str | None
    kind: str | None
    status: int | None
    code: str | None
    address: str | None
    request_id: str | None
    count: int


class Trail:
    """Writes requests and reads the log."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = text(_SQLITE_INSERT if database.is_sqlite else _POSTGRESQL_INSERT)

    async def add(self, entries: Sequence[RequestEntry]) -> None:
        """Write entries, all or none.

        They go as one JSON array in one statement: row by row, the driver would take and give
        back the interpreter's lock for each, and on a busy server wait for it each time.
        """
        rows = [_row(entry) for entry in entries]
        async with self._database.write() as connection:
            await connection.execute(self._insert, {"rows": orjson.dumps(rows).decode()})

    async def entries(self, query: LogQuery) -> list[LogEntry]:
        """The log's newest entries that a query asks for, newest first."""
        asked = [_asked_requests(query)]
        if not query.refusals:
            asked += [_asked_credentials(query), _asked_reports(query)]
        found: list[LogEntry] = []
        async with self._database.read() as connection:
            for part in asked:
                found += [LogEntry(**row) for row in (await connection.execute(part)).mappings()]  # pyright: ignore[reportCallIssue]
        found.sort(key=lambda entry: entry.at, reverse=True)
        return found[: query.limit]


_COLUMNS = (*RequestEntry._fields[:-1], "count")
_INTO = f"INSERT INTO requests ({', '.join(_COLUMNS)}) SELECT "
# SQLite keeps times as text, without the zone that is always UTC; the JSON has the fraction only
# where it is not 0.
_SQLITE_INSERT = (
    f"{_INTO} "
    "substr(replace(replace(json_extract(value, '$[0]'), 'T', ' '), '+', '.000000'), 1, 26), "
    + ", ".join(f"json_extract(value, '$[{n}]')" for n in range(1, len(_COLUMNS)))
    + " FROM json_each(:rows)"
)
_POSTGRESQL_TYPES = {"at": "timestamptz", "status": "integer", "count": "integer"}
_POSTGRESQL_INSERT = (
    _INTO
    + ", ".join(
        f"CAST(e ->> {n} AS {_POSTGRESQL_TYPES.get(name, 'text')})"
        for n, name in enumerate(_COLUMNS)
    )
    + " FROM jsonb_array_elements(CAST(:rows AS jsonb)) AS e"
)


def _row(entry: RequestEntry) -> tuple[Any, ...]:
    return (
        entry.at,
        entry.request_id,
        entry.hotkey,
        entry.way,
        entry.method,
        entry.path,
        entry.status,
        entry.code,
        printable(entry.address)[:64],
        entry.epoch_id,
        entry.counted,
    )


@lru_cache(maxsize=4_096)
def printable(text: str) -> str:
    """A text that a caller sent, in ASCII: no database takes every character, nor should a log.
    What is not a letter, a digit or one of ``/:=~*_.-`` becomes ``%XX``."""
    return quote(text, safe="/:=~*", errors="replace")


def _asked_requests(query: LogQuery) -> Select[Any]:
    columns = {name: requests.c[name] for name in _COLUMNS}
    asked = _asked(query, {**columns, "what": literal("request"), "kind": null()})
    return asked.where(requests.c.status >= 400) if query.refusals else asked


def _asked_credentials(query: LogQuery) -> Select[Any]:
    own = {name: credentials.c[name] for name in ("hotkey", "epoch_id", "kind", *_ORIGIN)}
    return _asked(query, {"at": credentials.c.issued_at, "what": literal("credentials"), **own})


def _asked_reports(query: LogQuery) -> Select[Any]:
    own = {name: reports.c[name] for name in ("epoch_id", *_ORIGIN)}
    named = {"at": reports.c.announced_at, "hotkey": reports.c.validator_hotkey}
    return _asked(query, {**named, "what": literal("report"), **own})


_ORIGIN = ("way", "address", "request_id")


def _asked(query: LogQuery, known: dict[str, ColumnElement[Any]]) -> Select[Any]:
    """The rows of one table as log entries."""
    defaults: dict[str, ColumnElement[Any]] = {"count": literal(1)}
    columns = [
        known.get(f.name, defaults.get(f.name, null())).label(f.name) for f in fields(LogEntry)
    ]
    asked = select(*columns).order_by(known["at"].desc()).limit(query.limit)
    for name in ("hotkey", "epoch_id", "request_id"):
        wanted = getattr(query, name)
        if wanted is not None:
            asked = asked.where(known[name] == wanted)
    return asked if query.since is None else asked.where(known["at"] >= query.since)
