"""HTTP load: as much as the server takes over a few connections, or a herd that arrives evenly."""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

_HEADERS_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


@dataclass(frozen=True)
class Load:
    """What a load measured. Latencies are in seconds, sorted."""

    seconds: float
    latencies: Sequence[float]
    statuses: Counter[int]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def quantile(self, share: float) -> float:
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))]


class _Connection(asyncio.Protocol):
    """Sends one request after another, and counts each answer when it is whole."""

    def __init__(
        self, requests: Iterator[bytes], latencies: list[float], statuses: Counter[int]
    ) -> None:
        self._requests = requests
        self._latencies = latencies
        self._statuses = statuses
        self._buffer = b""
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def start(self) -> None:
        """Send the first request."""
        self._next()

    def _next(self) -> None:
        assert self._transport is not None
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(_HEADERS_END)
        if not separator:
            return
        at = head.lower().find(_LENGTH)
        length = int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) < length:
            return
        self._latencies.append(time.perf_counter() - self._sent)
        self._statuses[int(head[9:12])] += 1
        self._buffer = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.done.done():
            return
        if exc is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(exc)


@contextmanager
def _undisturbed() -> Generator[None]:
    """No garbage is collected meanwhile: with all that a benchmark loads, this process would stand
    still for 150 ms, and those would be told as the server's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def run_load(host: str, port: int, requests: Sequence[bytes], *, connections: int) -> Load:
    """Send all requests over so many connections at once, each answered before its next. The
    connections are open before the first."""
    latencies: list[float] = []
    statuses: Counter[int] = Counter()
    remaining = iter(requests)
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(
            lambda: _Connection(remaining, latencies, statuses), host, port
        )
        for _ in range(connections)
    ]
    with _undisturbed():
        began = time.perf_counter()
        for _, protocol in opened:
            protocol.start()
        await asyncio.gather(*(protocol.done for _, protocol in opened))
        seconds = time.perf_counter() - began
    return Load(seconds, sorted(latencies), statuses)


async def run_herd(
    host: str, port: int, callers: Sequence[Callable[[], list[bytes]]], *, seconds: float
) -> Load:
    """Callers that arrive evenly over ``seconds``, each with a connection of its own and one
    request after another. A caller makes its requests when it arrives, as signatures age.

    A connection that fails counts as status 0.
    """
    latencies: list[float] = []
    statuses: Counter[int] = Counter()
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def call(n: int, requests: Callable[[], list[bytes]]) -> None:
        await asyncio.sleep(max(0.0, began + seconds * n / len(callers) - loop.time()))
        waiting = iter(requests())
        try:
            _, protocol = await loop.create_connection(
                lambda: _Connection(waiting, latencies, statuses), host, port
            )
            protocol.start()
            await protocol.done
        except OSError:
            statuses[0] += 1

    with _undisturbed():
        await asyncio.gather(*(call(n, requests) for n, requests in enumerate(callers)))
    return Load(loop.time() - began, sorted(latencies), statuses)
