"""A process that does work with a database in children of its own, which die at a chosen step.

It is started for one task, of which it loads what that needs; the children are forked after that,
so that each costs little. Steps are those of transactions that write: before every statement (which
is after the one before it), before the commit, and when the connection comes back from it. What is
only read changes nothing, and a death there is one before the next write. Orders come as JSON lines
on standard input, and for each one line goes back: how the child ended (0, or minus the signal that
killed it) and how many steps it took.

An order is what the task takes (``dying_migrate.py``, ``dying_rounds.py``), with ``"die_at"``: the
step, or null.
"""

import asyncio
import gc
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.pool import Pool

from sn46.api.database import Database

Work = Callable[[dict[str, Any], Callable[[], None]], Coroutine[Any, Any, None]]


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


def in_child(work: Work, order: dict[str, Any], told: int) -> None:
    steps = Steps(order["die_at"])
    asyncio.run(work(order, steps.watch))
    os.write(told, str(steps.taken).encode())


def obey(work: Work, order: dict[str, Any]) -> tuple[int, int]:
    hears, told = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(hears)
            # Logs are no answers.
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
            in_child(work, order, told)
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
async def dying(task: str) -> AsyncGenerator[Callable[..., Any]]:
    """Start such a process for ``migrate`` or ``rounds``; gives a function that sends it an
    order."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        task,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    async def send(*, die_at: int | None = None, **order: Any) -> tuple[int, int]:
        stdin.write(json.dumps({"die_at": die_at, **order}).encode() + b"\n")
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


def main(task: str) -> None:
    work: Work = import_module(f"dying_{task}").work
    asyncio.run(warm())
    # What is loaded by now stays: the children's collectors leave its pages alone.
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(obey(work, json.loads(line))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
