"""Examines submissions in a process of its own, with limits, that can be killed.

What a stranger uploaded is decoded there and nowhere else: a file that crashes, swells or stalls
the decoder costs its sender alone. The limits are far above what an honest submission needs, so
that no two validators' machines decide differently.
"""

import asyncio
import contextlib
import multiprocessing
import resource
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import structlog

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.names import Hotkey
from sn46.mechanism.quick import QuickResult, Upload, examine, no_kept_rows
from sn46.mechanism.reasons import Code, Reason

_log = structlog.get_logger("sn46.validator")


def _work(pipe: Connection, memory_bytes: int) -> None:
    """The worker's loop: one submission in, one result out, until the pipe closes."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            pipe.send(examine(*pipe.recv()))


class Examiner:
    """One worker process, started when first needed and again after it had to be killed."""

    def __init__(self, *, seconds: float, memory_mb: int) -> None:
        """``seconds`` and ``memory_mb`` are the limits for one submission."""
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
        invalid with ``file_schema``."""
        async with self._lock:
            work = (assignment, view, hotkey, manifest, dict(files))
            try:
                return await asyncio.to_thread(self._exchange, work)
            except (EOFError, OSError, TimeoutError) as error:
                _log.warning("submission could not be examined", miner=hotkey, fault=repr(error))
                self.close()
        return _unexaminable(hotkey, manifest)

    def _exchange(self, work: tuple[Any, ...]) -> QuickResult:
        pipe = self._started()
        pipe.send(work)
        if not pipe.poll(self._seconds):
            raise TimeoutError(f"no result within {self._seconds:g} seconds")
        return pipe.recv()

    def _started(self) -> Connection:
        if self._pipe is None or not self._process.is_alive():
            self.close()
            self._pipe, theirs = self._context.Pipe()
            self._process = self._context.Process(
                target=_work, args=(theirs, self._memory), daemon=True
            )
            self._process.start()
            theirs.close()
        return self._pipe

    def close(self) -> None:
        """Kill the worker, if there is one."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _unexaminable(hotkey: Hotkey, manifest: Upload | None) -> QuickResult:
    reason = Reason(
        Code.FILE_SCHEMA,
        1,
        "The files could not be decoded: decoding them crashed, or took far more time or memory "
        "than any listing file needs.",
    )
    return QuickResult(
        hotkey=hotkey,
        submission_time=manifest.info.last_modified if manifest else None,
        rows=None,
        duplicates=None,
        out_of_range=None,
        zipcodes=None,
        completeness=None,
        volume=None,
        participant=False,
        reasons=(reason,),
        kept=no_kept_rows(),
    )
