"""Examines what strangers uploaded in a process of its own, with limits, that can be killed.

Submissions and evidence are decoded there and nowhere else: a file that crashes, swells or stalls
the decoder costs its sender alone. The limits are far above what an honest upload needs, so that
no two validators' machines decide differently; a worker that died is tried once more, as the
machine may have killed it for reasons of its own; and a worker that cannot be started is this
machine's trouble, never a sender's.
"""

import asyncio
import multiprocessing
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
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
from sn46.validator.worker import work

_log = structlog.get_logger("sn46.validator")

T = TypeVar("T")

_START_SECONDS = 120.0
_UNDECODABLE = (
    "decoding crashed, or took far more time or memory than any honest file of its kind needs"
)


class ExaminerError(Exception):
    """This machine could not do the work: no statement about anyone's files. Try again later."""


class _Undecodable(Exception):
    """The files did not let themselves be decoded within the limits."""


class Examiner:
    """One worker process, started when first needed and again after it had to be killed."""

    def __init__(self, *, seconds: float, memory_mb: int) -> None:
        """``seconds`` and ``memory_mb`` are the limits for one submission, beyond what the program
        itself takes."""
        self._seconds = seconds
        self._memory = memory_mb * 1024 * 1024
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None
        self._pipe: Connection | None = None
        self._lock = asyncio.Lock()

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
            return await self._run(examine, assignment, view, hotkey, manifest, dict(files))
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

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        async with self._lock:
            for last in (False, True):
                try:
                    return await asyncio.to_thread(self._exchange, function, arguments)
                except TimeoutError as error:
                    self.close()
                    raise _Undecodable(str(error)) from error
                except (EOFError, OSError) as error:
                    self.close()
                    if last:
                        raise _Undecodable(f"the worker died twice: {error!r}") from error
                except asyncio.CancelledError:
                    # The exchange goes on in its thread: nobody else may meet its answer.
                    self.close()
                    raise
        raise AssertionError("the second try ends with a result or an error")

    def _exchange(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        pipe = self._started()
        pipe.send((function, arguments))
        if not pipe.poll(self._seconds):
            raise TimeoutError(f"no result within {self._seconds:g} seconds")
        answer = pipe.recv()
        if isinstance(answer, MechanismError):
            raise answer
        return answer

    def _started(self) -> Connection:
        if self._pipe is not None and self._process.is_alive():
            return self._pipe
        self.close()
        try:
            self._pipe, theirs = self._context.Pipe()
            self._process = self._context.Process(
                target=work, args=(theirs, self._memory), daemon=True
            )
            self._process.start()
            theirs.close()
            if not self._pipe.poll(_START_SECONDS):
                raise TimeoutError(f"not ready within {_START_SECONDS:g} seconds")
            self._pipe.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise ExaminerError(
                f"The worker that decodes uploads could not be started ({error!r}). Is this "
                "machine short of memory or processes?"
            ) from error
        return self._pipe

    def close(self) -> None:
        """Kill the worker, if there is one."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if process is not None and process.pid is not None:
            process.kill()
            process.join()
        if pipe is not None:
            pipe.close()


def _unexaminable(hotkey: Hotkey, manifest: Upload | None) -> QuickResult:
    reason = Reason(Code.FILE_SCHEMA, 1, f"The files could not be decoded: {_UNDECODABLE}.")
    return unreached(hotkey, manifest.info.last_modified if manifest else None, (reason,))
