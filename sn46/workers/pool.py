"""Worker processes as their owner sees them: started when needed, killed when they go wrong."""

import asyncio
import multiprocessing
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from sn46.workers.messages import receive, send
from sn46.workers.process import work

T = TypeVar("T")

_START_SECONDS = 120.0


class WorkerFault(Exception):
    """The worker died or gave no answer in time. It is gone; the next call starts another."""


class WorkerNotStarted(Exception):
    """This machine could not start a worker: no statement about any work."""


class WorkerProcess:
    """One process that does one piece of work at a time."""

    def __init__(self, memory_bytes: int) -> None:
        """``memory_bytes`` is the most that work may take, beyond what the program takes."""
        self._memory = memory_bytes
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None
        self._pipe: Connection | None = None
        self._busy = threading.Lock()

    def exchange(self, seconds: float, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        """What the function gives there, or the MechanismError that it raised. Blocks.

        Raises:
            WorkerFault: where there was no answer in time, or the worker ended.
            WorkerNotStarted: where there is no worker and none can be started.
        """
        with self._busy:
            pipe = self._started()
            try:
                send(pipe, (function, arguments))
                if pipe.poll(seconds):
                    return receive(pipe)
            except (EOFError, OSError) as error:
                self._end()
                raise WorkerFault(f"the worker ended: {error!r}") from error
            self._end()
            raise WorkerFault(f"no result within {seconds:g} seconds")

    async def ask(self, seconds: float, function: Callable[..., T], *arguments: Any) -> T:
        """As ``exchange``, in a thread. Cancelled, it ends the process, so that nobody else meets
        its answer."""
        answer = asyncio.ensure_future(
            asyncio.to_thread(self.exchange, seconds, function, arguments)
        )
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            answer.add_done_callback(_nobody_waits)
            self.kill()
            raise

    def kill(self) -> None:
        """End the process. Whoever waits for its answer meets a WorkerFault at once."""
        process = self._process
        if process is not None and process.pid is not None:
            process.kill()

    def close(self) -> None:
        """End the process, if there is one, and let go of it."""
        self.kill()
        with self._busy:
            self._end()

    def _started(self) -> Connection:
        if self._pipe is not None and self._process.is_alive():
            return self._pipe
        self._end()
        try:
            self._pipe, theirs = self._context.Pipe()
            self._process = self._context.Process(
                target=work, args=(theirs, self._memory), daemon=True
            )
            self._process.start()
            theirs.close()
            if not self._pipe.poll(_START_SECONDS):
                raise TimeoutError(f"not ready within {_START_SECONDS:g} seconds")
            receive(self._pipe)
        except (EOFError, OSError) as error:
            self._end()
            raise WorkerNotStarted(repr(error)) from error
        return self._pipe

    def _end(self) -> None:
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if process is not None and process.pid is not None:
            process.kill()
            process.join()
        if pipe is not None:
            pipe.close()


class WorkerPool:
    """Some workers. Who asks first is served first, for one of them or for all."""

    def __init__(self, count: int, memory_bytes: int) -> None:
        self._all = tuple(WorkerProcess(memory_bytes) for _ in range(count))
        self._idle = list(self._all)
        self._asking: deque[tuple[int, asyncio.Future[list[WorkerProcess]]]] = deque()

    @property
    def size(self) -> int:
        return len(self._all)

    @asynccontextmanager
    async def one(self) -> AsyncGenerator[WorkerProcess, None]:
        """A worker that has nothing to do."""
        async with self._taken(1) as (worker,):
            yield worker

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[WorkerProcess, None]:
        """A worker without a process yet, while no other worker works."""
        async with self._taken(self.size) as (worker, *_):
            worker.close()
            yield worker

    @asynccontextmanager
    async def _taken(self, count: int) -> AsyncGenerator[list[WorkerProcess], None]:
        asked: asyncio.Future[list[WorkerProcess]] = asyncio.get_running_loop().create_future()
        self._asking.append((count, asked))
        self._serve()
        try:
            workers = await asked
            yield workers
        finally:
            if asked.cancelled():
                self._asking = deque(a for a in self._asking if a[1] is not asked)
            elif asked.done():
                self._idle.extend(asked.result())
            self._serve()

    def _serve(self) -> None:
        while self._asking and len(self._idle) >= self._asking[0][0]:
            count, asked = self._asking.popleft()
            if not asked.cancelled():
                asked.set_result([self._idle.pop() for _ in range(count)])

    def close(self) -> None:
        """End all workers."""
        for worker in self._all:
            worker.close()


def _nobody_waits(done: "asyncio.Future[Any]") -> None:
    if not done.cancelled():
        done.exception()
