"""A process that does work with a database in children of its own, which die at a chosen step.

The children are forked after everything is loaded, so that each costs little. Steps are those of
transactions that write: before every statement (which is after the one before it), before the
commit, and when the connection comes back from it. What is only read changes nothing, and a death
there is one before the next write. Orders come as JSON lines on standard input, and for each one
line goes back: how the child ended (0, or minus the signal that killed it) and how many steps it
took.

``{"task": "migrate", "url": …, "to": …}`` or ``{"task": "rounds", "url": …, "folder": …,
"moments": [Unix seconds]}``, each with ``"die_at"``: the step, in the last round, or null.
"""

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from draw_epochs import SteppedClock, services_at
from sqlalchemy import Engine, event
from sqlalchemy.pool import Pool

from sn46.api.database import Database


class Steps:
    """Counts, and kills this process at one."""

    def __init__(self, die_at: int | None) -> None:
        self.taken = 0
        self._die_at = die_at
        self._writing: set[object] = set()

    def watch(self) -> None:
        event.listen(Engine, "before_cursor_execute", self._executing)
        event.listen(Engine, "commit", self._committing)
        event.listen(Pool, "checkin", self._back)

    def _executing(self, connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        driver = connection.connection.dbapi_connection
        if _WRITES.match(statement):
            self._writing.add(driver)
        if driver in self._writing:
            self._step()

    def _committing(self, connection: Any) -> None:
        if connection.connection.dbapi_connection in self._writing:
            self._step()

    def _back(self, driver: Any, _record: Any) -> None:
        if driver in self._writing:
            self._writing.discard(driver)
            self._step()

    def _step(self) -> None:
        if self.taken == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.taken += 1


_WRITES = re.compile(
    r"\s*(BEGIN IMMEDIATE|SELECT pg_advisory|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP)"
)


async def migrate(order: dict[str, Any], watch: Callable[[], None]) -> None:
    database = Database(order["url"])
    watch()
    await database.migrate(order["to"])
    await database.close()


async def rounds(order: dict[str, Any], watch: Callable[[], None]) -> None:
    """Rounds of a server that has just started."""
    clock = SteppedClock(datetime.fromtimestamp(order["moments"][0], UTC))
    async with services_at(order["url"], Path(order["folder"]), clock) as services:
        await services.database.migrate()
        await services.metagraph.refresh()
        for moment in order["moments"]:
            if moment == order["moments"][-1]:
                watch()
            clock.time = datetime.fromtimestamp(moment, UTC)
            await services.scheduler.round()
            if services.scheduler.last_error is not None:
                raise RuntimeError(services.scheduler.last_error)


TASKS = {"migrate": migrate, "rounds": rounds}


def in_child(order: dict[str, Any], told: int) -> None:
    steps = Steps(order["die_at"])
    asyncio.run(TASKS[order["task"]](order, steps.watch))
    os.write(told, str(steps.taken).encode())


def obey(order: dict[str, Any]) -> tuple[int, int]:
    hears, told = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(hears)
            # Logs are no answers.
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
            in_child(order, told)
            code = 0
        finally:
            # Nothing of the parent's is to be finished here.
            sys.stderr.flush()
            os._exit(code)
    os.close(told)
    with os.fdopen(hears, "rb") as answer:
        steps = answer.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), int(steps or b"0")


@asynccontextmanager
async def dying() -> AsyncGenerator[Callable[..., Any]]:
    """Start such a process; gives a function that sends it an order."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    async def send(task: str, *, die_at: int | None = None, **order: Any) -> tuple[int, int]:
        stdin.write(json.dumps({"task": task, "die_at": die_at, **order}).encode() + b"\n")
        await stdin.drain()
        code, steps = json.loads(await stdout.readline())
        return code, steps

    try:
        yield send
    finally:
        stdin.close()
        await process.wait()


async def warm() -> None:
    """Load what is loaded at the first use only, once for all children. None of it leaves a
    thread behind, which a fork would not take along."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite+aiosqlite:///{folder}/warm.db")
        await database.migrate()
        await database.close()


if __name__ == "__main__":
    asyncio.run(warm())
    for line in sys.stdin:
        print(json.dumps(obey(json.loads(line))), flush=True)
