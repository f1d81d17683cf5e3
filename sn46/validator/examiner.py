"""Examines what strangers uploaded in processes of their own, with limits, that can be killed.

Submissions and evidence are decoded there and nowhere else: a file that crashes, swells or stalls
the decoder costs its sender alone. What decides a verdict are limits on rows, bytes and structure,
the same on every machine. The limits on time and memory are backstops, far above what anything
within those needs. Where one is met, or a worker dies, it may be this machine's trouble: so the
work is done once more, by a fresh worker while no other works, and only what ends so twice is its
sender's. A worker that cannot be started is never a sender's.
"""

import pickle
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import polars as pl
import structlog

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.errors import MechanismError
from sn46.mechanism.evidence import Evidence, read_evidence
from sn46.mechanism.names import Hotkey
from sn46.mechanism.quick import QuickResult, Upload, examine, kept_listings, unreached
from sn46.mechanism.reasons import Code, Reason
from sn46.workers.pool import WorkerFault, WorkerNotStarted, WorkerPool, WorkerProcess

_log = structlog.get_logger("sn46.validator")

T = TypeVar("T")

_UNDECODABLE = (
    "decoding crashed, or took far more time or memory than any honest file of its kind needs"
)


class ExaminerError(Exception):
    """This machine could not do the work: no statement about anyone's files. Try again later."""


class _Undecodable(Exception):
    """The files did not let themselves be decoded within the limits."""


class Examiner:
    """Workers that examine uploads, each started when first needed and again after it had to be
    killed."""

    def __init__(self, *, seconds: float, memory_mb: int, workers: int = 1) -> None:
        """``seconds`` and ``memory_mb`` are the limits for one submission, beyond what the program
        itself takes; ``workers`` is how many are examined at a time."""
        self._seconds = seconds
        self._pool = WorkerPool(workers, memory_mb * 1024 * 1024)
        self._last: tuple[Assignment, ChainView, bytes] | None = None

    @property
    def workers(self) -> int:
        """How many submissions are examined at a time."""
        return self._pool.size

    async def examine(
        self,
        assignment: Assignment,
        view: ChainView,
        hotkey: Hotkey,
        manifest: Upload | None,
        files: Mapping[str, Upload],
    ) -> QuickResult:
        """As ``quick.examine``; a submission that cannot be examined within the limits is
        invalid with ``file_schema``.

        Raises:
            ExaminerError: where no worker can be started.
        """
        try:
            return await self._run(
                _examine, self._packed(assignment, view), hotkey, manifest, dict(files)
            )
        except _Undecodable as fault:
            _log.warning("submission could not be examined", miner=hotkey, fault=str(fault))
            return _unexaminable(hotkey, manifest)

    async def read_evidence(
        self,
        assignment: Assignment,
        view: ChainView,
        validator: Hotkey,
        document: Upload | None,
        body: Upload | None,
    ) -> Evidence:
        """As ``evidence.read_evidence``; what cannot be decoded within the limits is ignored.

        Raises:
            ExaminerError: where no worker can be started.
        """
        try:
            return await self._run(read_evidence, assignment, view, validator, document, body)
        except _Undecodable as fault:
            _log.warning("evidence could not be read", validator=validator, fault=str(fault))
            return Evidence(validator, (), f"spot_checks.parquet: {_UNDECODABLE}.")

    async def kept_listings(
        self, assignment: Assignment, hotkey: Hotkey, manifest: Upload, files: Mapping[str, Upload]
    ) -> pl.DataFrame:
        """As ``quick.kept_listings``.

        Raises:
            SubmissionError: where the submission is not the valid one that it was.
            ExaminerError: where it cannot be decoded now, as it could before.
        """
        try:
            return await self._run(kept_listings, assignment, hotkey, manifest, dict(files))
        except _Undecodable as fault:
            raise ExaminerError(
                f"The rows of {hotkey} could be decoded before and cannot now ({fault}). Is this "
                "machine short of memory?"
            ) from fault

    def _packed(self, assignment: Assignment, view: ChainView) -> bytes:
        """An epoch's documents as they go to workers. They are the same for all its submissions,
        and packing the whole chain view takes longer than sending a submission."""
        last = self._last
        if last is None or last[0] is not assignment or last[1] is not view:
            last = self._last = (assignment, view, pickle.dumps((assignment, view)))
        return last[2]

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        try:
            async with self._pool.one() as worker:
                return await self._ask(worker, function, arguments)
        except WorkerFault as fault:
            _log.info("an upload is examined once more, alone", fault=str(fault))
        try:
            async with self._pool.alone() as worker:
                return await self._ask(worker, function, arguments)
        except WorkerFault as fault:
            raise _Undecodable(f"twice: {fault}") from fault

    async def _ask(
        self, worker: WorkerProcess, function: Callable[..., T], arguments: tuple[Any, ...]
    ) -> T:
        try:
            answer = await worker.ask(self._seconds, function, *arguments)
        except WorkerNotStarted as error:
            raise ExaminerError(
                f"The worker that decodes uploads could not be started ({error}). Is this "
                "machine short of memory or processes?"
            ) from error
        if isinstance(answer, MechanismError):
            raise answer
        return answer

    def close(self) -> None:
        """Kill the workers that there are."""
        self._pool.close()


@lru_cache(maxsize=1)
def _unpacked(documents: bytes) -> tuple[Assignment, ChainView]:
    return pickle.loads(documents)


def _examine(
    documents: bytes, hotkey: Hotkey, manifest: Upload | None, files: Mapping[str, Upload]
) -> QuickResult:
    """``quick.examine``, in a worker: with the epoch's documents as they were packed here."""
    return examine(*_unpacked(documents), hotkey, manifest, files)


def _unexaminable(hotkey: Hotkey, manifest: Upload | None) -> QuickResult:
    reason = Reason(Code.FILE_SCHEMA, 1, f"The files could not be decoded: {_UNDECODABLE}.")
    return unreached(hotkey, manifest.info.last_modified if manifest else None, (reason,))
