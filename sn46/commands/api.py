"""``sn46 api``: run the server, check what it needs, make its buckets, migrate its database, read
its audit log."""

import asyncio
import json as jsonlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import typer

from sn46.commands.outcome import EXIT_FAILED, EXIT_USAGE, fail, fail_all, told_by_doctor

if TYPE_CHECKING:
    from sn46.api.database import Database
    from sn46.api.trail import LogEntry, LogQuery

_BASE = "base"
_AGO = re.compile(r"(\d{1,4})([mhd])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}

P = ParamSpec("P")
Result = TypeVar("Result")

app = typer.Typer(name="api", help="Run the API server, or look after it.")


class _Refused(Exception):
    """Not done; the text says why and what to do, ``code`` is the exit code."""

    def __init__(self, text: str, code: int = EXIT_FAILED) -> None:
        super().__init__(text)
        self.code = code


def _said(command: Callable[P, int]) -> Callable[P, int]:
    """Turn what goes wrong into one line a problem and an exit code."""
    name = f"api {command.__name__}"

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        from sqlalchemy.exc import SQLAlchemyError

        from sn46.api.database import DatabaseError, reason_of
        from sn46.configuration import SettingsError

        try:
            return command(*args, **kwargs)
        except SettingsError as error:
            return fail_all(name, error.lines)
        except _Refused as error:
            return fail(name, str(error), error.code)
        except DatabaseError as error:
            return fail(name, str(error))
        except (SQLAlchemyError, OSError) as error:
            return fail(name, f"The database cannot be used (DATABASE_URL): {reason_of(error)}.")

    return run


@app.callback(invoke_without_command=True)
def serve(context: typer.Context) -> int:
    """Run the API server, with the settings of the environment and .env; or look after it."""
    return 0 if context.invoked_subcommand is not None else run()


@app.command()
def run() -> int:
    """Run the server; sn46 api alone does so too."""
    from sn46.api.__main__ import main as serve_api

    return serve_api()


@app.command()
@_said
def check() -> int:
    """Look at everything the server needs, a line each. Exits with 1 where something is not
    well."""
    from sn46.api.check import check_api
    from sn46.api.settings import load_settings
    from sn46.clock import SystemClock

    return told_by_doctor(load_settings, lambda s: check_api(s, SystemClock()))


@app.command()
@_said
def buckets(
    keep_days: Annotated[
        int | None, typer.Option(min=8, help="Remove what is older; all is kept by default.")
    ] = None,
) -> int:
    """Create what is missing of the two buckets: they themselves, their versions, and the block
    against public access. Can be repeated; api check proves what came of it."""
    from sn46.api.services import store_access
    from sn46.api.settings import load_settings
    from sn46.store.base import StoreError
    from sn46.store.setup import prepare_buckets

    settings = load_settings()
    try:
        steps = asyncio.run(
            prepare_buckets(
                store_access(settings),
                miner_bucket=settings.miner_bucket,
                results_bucket=settings.validated_bucket,
                keep_days=keep_days,
            )
        )
    except StoreError as error:
        raise _Refused(str(error)) from error
    for step in steps:
        note = f": {step.note}" if step.note else ""
        print(f"{'ok   ' if step.done else 'note '} {step.bucket}: {step.step}{note}")
    return 0


@app.command()
@_said
def migrate(
    to: Annotated[
        str, typer.Option(help="A revision to go up or down to; base drops every table.")
    ] = "head",
    yes: Annotated[
        bool, typer.Option("--yes", help="Do drop every table, with --to base.")
    ] = False,
) -> int:
    """Bring the database to this program's revision; or down to an earlier one, before an older
    program is installed again, once every server is stopped. All of it happens, or nothing."""
    if to == _BASE and not yes:
        raise _Refused(
            "--to base drops every table, and with them every epoch, credential and report. Back "
            "the database up, and say --yes as well.",
            EXIT_USAGE,
        )
    moved = _with_database(lambda database: database.migrate(to))
    if moved.before == moved.after:
        print(f"The database is at revision {moved.after} already.")
    else:
        print(f"The database was at revision {moved.before}, and is at {moved.after} now.")
    return 0


@app.command()
@_said
def log(
    hotkey: Annotated[str | None, typer.Option(help="What this hotkey did.")] = None,
    epoch: Annotated[str | None, typer.Option(help="What was about this epoch.")] = None,
    request_id: Annotated[
        str | None, typer.Option(help="What came of the request with this X-Request-Id.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="From 2024-03-15T16:00 (UTC) on, or of the last 90m, 4h, 7d.")
    ] = None,
    refusals: Annotated[bool, typer.Option("--refusals", help="Refused requests alone.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many.")] = 100,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> int:
    """Read the audit log: requests, credentials and reports, the newest of them last."""
    from sn46.api.trail import LogQuery

    query = LogQuery(
        hotkey=hotkey,
        epoch_id=epoch,
        request_id=request_id,
        since=None if since is None else _moment(since),
        refusals=refusals,
        limit=limit,
    )
    entries = _with_database(lambda database: _read(database, query))
    for entry in reversed(entries):
        print(_as_json(entry) if json else _as_line(entry))
    return 0


def _with_database(work: "Callable[[Database], Awaitable[Result]]") -> Result:
    """Do something with the database that the settings name."""
    from sn46.api.database import Database
    from sn46.api.settings import load_settings

    url = load_settings().database_url

    async def done() -> Result:
        database = Database(url)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(done())


async def _read(database: "Database", query: "LogQuery") -> "list[LogEntry]":
    from sn46.api.trail import Trail

    pending = await database.pending()
    if pending.before != pending.after:
        raise _Refused(
            f"The database is at revision {pending.before}, and this program reads "
            f"{pending.after}. Start the server, or run sn46 api migrate."
        )
    return await Trail(database).entries(query)


def _moment(text: str) -> datetime:
    if match := _AGO.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise _Refused(
            f"--since {text!r} is no moment. Write it as 2024-03-15T16:00, in UTC, or as 90m, 4h "
            "or 7d for the last minutes, hours or days.",
            EXIT_USAGE,
        ) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _as_json(entry: "LogEntry") -> str:
    return jsonlib.dumps({**asdict(entry), "at": entry.at.isoformat()})


def _as_line(entry: "LogEntry") -> str:
    """Time, who, what, what came of it, where from; what is not known is left out."""
    what = entry.what if entry.kind is None else f"{entry.what} ({entry.kind})"
    if entry.what == "request":
        what = f"{entry.method} {entry.path}"
    parts = [
        f"{entry.at:%Y-%m-%d %H:%M:%S}Z",
        entry.hotkey or entry.address or "",
        what,
        f"epoch {entry.epoch_id}" if entry.epoch_id else "",
        str(entry.status) if entry.status is not None else "",
        entry.code or "",
        f"{entry.count} times" if entry.count > 1 else "",
        f"by {entry.way}" if entry.way else "",
        f"from {entry.address}" if entry.hotkey and entry.address else "",
        f"request {entry.request_id}" if entry.request_id else "",
    ]
    return "  ".join(part for part in parts if part)
