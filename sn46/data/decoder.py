"""A process that prepares strangers' rows, with limits, and that can be killed.

What decides about a file are limits on rows, bytes and structure, the same everywhere; those on
time and memory are backstops. A file that meets one twice, the second time in a fresh process,
is at fault itself.
"""

import asyncio
import contextlib
import multiprocessing
import os
import resource
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from sn46.data.choosing import Report
from sn46.data.errors import DataError
from sn46.mechanism.errors import MechanismError
from sn46.mechanism.names import EpochId

_START_SECONDS: Final = 120.0


class UndecodableFault(MechanismError):
    """The rows could not be decoded within the limits on time and memory."""


class Decoder:
    """One process that prepares one file at a time; started when first needed."""

    def __init__(self, *, seconds: float = 120, memory_mb: int = 3_000) -> None:
        """The limits for one file, memory beyond what the program itself takes."""
        self._seconds = seconds
        self._memory = memory_mb * 1024 * 1024
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None
        self._pipe: Connection | None = None
        self._turn = asyncio.Lock()

    async def prepare(self, body: bytes, report: Report, epoch_id: EpochId, path: Path) -> Any:
        """As ``preparing.prepare``, there.

        Raises:
            MechanismError: as there, or UndecodableFault.
            DataError: where no process can be started on this machine.
        """
        async with self._turn:
            answer = await asyncio.to_thread(self._ask, body, report, epoch_id, path)
            if answer is None:
                answer = await asyncio.to_thread(self._ask, body, report, epoch_id, path)
        if answer is None:
            raise UndecodableFault("decoding takes more time or memory than any honest file needs")
        if isinstance(answer, MechanismError):
            raise answer
        if isinstance(answer, OSError):
            raise DataError(f"{path.parent} cannot be written: {answer.strerror}.") from answer
        return answer

    def _ask(self, *arguments: Any) -> Any:
        """The answer; None where the process ended or took too long."""
        pipe = self._started()
        try:
            pipe.send(arguments)
            if pipe.poll(self._seconds):
                return pipe.recv()
        except (EOFError, OSError):
            pass
        self.close()
        return None

    def _started(self) -> Connection:
        if self._pipe is not None and self._process.is_alive():
            return self._pipe
        self.close()
        try:
            self._pipe, theirs = self._context.Pipe()
            self._process = self._context.Process(
                target=serve, args=(theirs, self._memory), daemon=True
            )
            self._process.start()
            theirs.close()
            if not self._pipe.poll(_START_SECONDS):
                raise TimeoutError(f"not ready within {_START_SECONDS:g} seconds")
            self._pipe.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise DataError(
                f"The process that decodes published rows could not be started ({error!r}). Is "
                "this machine short of memory or processes?"
            ) from error
        return self._pipe

    def close(self) -> None:
        """End the process, if there is one."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if process is not None and process.pid is not None:
            process.kill()
            process.join()
        if pipe is not None:
            pipe.close()


def serve(pipe: Connection, memory_bytes: int) -> None:
    """What the process does: prepares files until the pipe closes."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    _hush_libraries()
    from sn46.data.preparing import prepare
    from sn46.mechanism.listings import empty_listings, write_listings
    from sn46.mechanism.parquetfile import decode

    decode(write_listings(empty_listings()), most_rows=0)  # Starts what threads there are.
    _limit(resource.RLIMIT_DATA, _own_bytes() + memory_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    with contextlib.suppress(EOFError, KeyboardInterrupt, MemoryError):
        pipe.send(None)
        while True:
            arguments = pipe.recv()
            try:
                answer = prepare(*arguments)
            except (MechanismError, OSError) as error:
                answer = error
            pipe.send(answer)


def _hush_libraries() -> None:
    """Drop what libraries write to standard error: a decoder that panics over a page writes
    dozens of lines, and any validator could fill a reader's terminal."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _own_bytes() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return 1024**3
    return int(status.read_text().partition("VmData:")[2].split()[0]) * 1024


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(kind, (most, most))
