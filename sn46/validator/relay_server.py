"""A small HTTP/1.1 server for a service that has other work to do.

It runs in the validator's own loop, so it must not be able to use up what validation needs: so many
connections and no more, one request on each, of a few kilobytes, within some seconds.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import h11
import orjson
import structlog

from sn46.problems import MEDIA_TYPE, Problem

MOST_CONNECTIONS: Final = 128
MOST_HEAD_BYTES: Final = 8 * 1024
MOST_BODY_BYTES: Final = 1024
TIME_LIMIT: Final = 10.0
"""Seconds from the first byte to the last, both ways."""

_CHUNK: Final = 4096

_log = structlog.get_logger("sn46.validator")


@dataclass(frozen=True)
class Address:
    """Where to listen, and what to publish on the chain; a public port of 0 is the one listened
    at."""

    host: str
    port: int
    public_host: str
    public_port: int


@dataclass(frozen=True)
class Request:
    """A whole request. ``target`` is path and query as they came, header names are in lower case,
    ``address`` is where it came from."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    address: str

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


Handler = Callable[[Request], Answer]
"""Answers a request at once, or raises a Problem."""


class RelayServer:
    """Listens from ``start`` to ``close``."""

    def __init__(
        self,
        handler: Handler,
        *,
        most_connections: int = MOST_CONNECTIONS,
        seconds: float = TIME_LIMIT,
    ) -> None:
        self._handler = handler
        self._most = most_connections
        self._seconds = seconds
        self._open: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen. Returns the port, a free one for 0.

        Raises:
            OSError: where the port is taken, or the host is none of this machine.
        """
        self._server = await asyncio.start_server(self._connected, host, port, limit=_CHUNK * 4)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, and end what is under way."""
        if self._server is None:
            return
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= self._most:
            writer.transport.abort()
            return
        self._open.add(task)
        try:
            async with asyncio.timeout(self._seconds):
                await self._answer(reader, writer)
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, h11.LocalProtocolError):
            pass
        except asyncio.CancelledError:
            # The server closes. Raised on, its stream machinery would report it as a fault.
            pass
        finally:
            # Also where the other side reads nothing: a connection outlasts its place by no moment.
            writer.transport.abort()
            self._open.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD_BYTES)
        peer = writer.get_extra_info("peername")
        method = ""
        try:
            request = await _read(connection, reader, str(peer[0]) if peer else "unknown")
            if request is None:
                return
            method = request.method
            answer = self._handler(request)
        except h11.RemoteProtocolError as error:
            text = "This is no HTTP/1.1 request that can be read here."
            answer = _problem(Problem(error.error_status_hint, "malformed_request", text))
        except Problem as problem:
            answer = _problem(problem)
        writer.write(_bytes(connection, method, answer))
        await writer.drain()


async def _read(
    connection: h11.Connection, reader: asyncio.StreamReader, address: str
) -> Request | None:
    """The one request of a connection; None where its end comes first.

    Raises:
        h11.RemoteProtocolError: where it is none.
        Problem: 413, where its body is too large.
    """
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_CHUNK))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MOST_BODY_BYTES:
                raise Problem(
                    413, "body_too_large", f"A request body has at most {MOST_BODY_BYTES} bytes."
                )
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return Request(
                method=head.method.decode("ascii"),
                target=head.target.decode("latin-1"),
                headers={name.decode(): value.decode("latin-1") for name, value in head.headers},
                body=bytes(body),
                address=address,
            )
        else:
            return None


def _bytes(connection: h11.Connection, method: str, answer: Answer) -> bytes:
    """The answer as it goes over the wire."""
    headers = {
        "content-type": answer.media_type,
        "content-length": str(len(answer.body)),
        "x-content-type-options": "nosniff",
        "connection": "close",
        **answer.headers,
    }
    events: list[h11.Event] = [
        h11.Response(status_code=answer.status, headers=list(headers.items()))
    ]
    if method != "HEAD":
        events.append(h11.Data(data=answer.body))
    events.append(h11.EndOfMessage())
    return b"".join(connection.send(event) or b"" for event in events)


def _problem(problem: Problem) -> Answer:
    return Answer(problem.status, orjson.dumps(problem.to_json()), MEDIA_TYPE, problem.headers)
