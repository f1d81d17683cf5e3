"""Preparing strangers' rows in a process that can be killed.

What decides about a file are limits on rows, bytes and structure, the same everywhere; those on
time and memory are backstops. A file that meets one twice, the second time in a fresh process,
is at fault itself.
"""

import asyncio
from pathlib import Path

from sn46.data.choosing import Report
from sn46.data.errors import DataError
from sn46.data.preparing import Prepared, prepare
from sn46.mechanism.errors import MechanismError
from sn46.mechanism.names import EpochId
from sn46.workers.pool import WorkerFault, WorkerNotStarted, WorkerProcess


class UndecodableFault(MechanismError):
    """The rows could not be decoded within the limits on time and memory."""


class Decoder:
    """One process that prepares one file at a time; started when first needed."""

    def __init__(self, *, seconds: float = 120, memory_mb: int = 3_000) -> None:
        """The limits for one file, memory beyond what the program itself takes."""
        self._seconds = seconds
        self._worker = WorkerProcess(memory_mb * 1024 * 1024)
        self._turn = asyncio.Lock()

    async def prepare(self, body: bytes, report: Report, epoch_id: EpochId, path: Path) -> Prepared:
        """As ``preparing.prepare``, there.

        Raises:
            MechanismError: as there, or UndecodableFault.
            DataError: where no process can be started on this machine.
        """
        async with self._turn:
            try:
                answer = await self._ask(body, report, epoch_id, path)
            except WorkerFault:
                answer = await self._ask_again(body, report, epoch_id, path)
        if isinstance(answer, MechanismError):
            raise answer
        if isinstance(answer, OSError):
            raise DataError(f"{path.parent} cannot be written: {answer.strerror}.") from answer
        return answer

    async def _ask(
        self, body: bytes, report: Report, epoch_id: EpochId, path: Path
    ) -> Prepared | MechanismError | OSError:
        try:
            return await self._worker.ask(self._seconds, _prepared, body, report, epoch_id, path)
        except WorkerNotStarted as error:
            raise DataError(
                f"The process that decodes published rows could not be started ({error}). Is "
                "this machine short of memory or processes?"
            ) from error

    async def _ask_again(
        self, body: bytes, report: Report, epoch_id: EpochId, path: Path
    ) -> Prepared | MechanismError | OSError:
        try:
            return await self._ask(body, report, epoch_id, path)
        except WorkerFault as fault:
            raise UndecodableFault(
                "decoding takes more time or memory than any honest file needs"
            ) from fault

    def close(self) -> None:
        """End the process, if there is one."""
        self._worker.close()


def _prepared(
    body: bytes, report: Report, epoch_id: EpochId, path: Path
) -> Prepared | MechanismError | OSError:
    """What the process does. A disk that refuses is an answer as well."""
    try:
        return prepare(body, report, epoch_id, path)
    except (MechanismError, OSError) as error:
        return error
