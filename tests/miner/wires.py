"""Wires to real servers over loopback that note what passes and break as wires do in life."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

RESET = "the connection is reset in the middle of the request"
LOST = "the server has the request, and its answer is lost"
SLOW = "the server takes its time"
Fault = str | bytes


@dataclass
class Wire:
    """``url`` leads to the server. Each new connection meets the next of ``faults`` (bytes are an
    answer in the server's place). A request that holds one of ``refused`` is given its answer in
    the server's place. ``targets`` and ``bodies`` are those of the other requests, in their order.
    """

    url: str = ""
    faults: list[Fault] = field(default_factory=list[Fault])
    refused: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    delay: float = 0.0
    targets: list[str] = field(default_factory=list[str])
    bodies: list[bytes] = field(default_factory=list[bytes])
    met: list[Fault] = field(default_factory=list[Fault])
    under_way: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    async def is_idle(self) -> bool:
        """Whether no connection is open."""
        return not self.under_way


@asynccontextmanager
async def wire(url: str, *faults: Fault, delay: float = 0.0) -> AsyncIterator[Wire]:
    """A wire to ``url``; ``delay`` seconds pass before each answer."""
    parts = urlsplit(url)
    laid = Wire(faults=list(faults), delay=delay)
    under_way = laid.under_way

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        try:
            fault = laid.faults.pop(0) if laid.faults else None
            if fault is not None:
                laid.met.append(fault)
            await _carry(laid, fault, reader, writer, (str(parts.hostname), parts.port or 80))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            under_way.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    laid.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield laid
    finally:
        server.close()
        for task in list(under_way):
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _carry(
    laid: Wire,
    fault: Fault | None,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    address: tuple[str, int],
) -> None:
    if fault == RESET:
        await reader.readuntil(b"\r\n\r\n")
        await reader.read(1)
        _reset(writer)
        return
    if isinstance(fault, bytes):
        await _request(reader)
        writer.write(fault)
        await writer.drain()
        return
    theirs, ours = await asyncio.open_connection(*address)
    try:
        while True:
            try:
                request = await _request(reader)
            except asyncio.IncompleteReadError:
                return
            instead = next((a for held, a in laid.refused.items() if held in request), None)
            if instead is not None:
                writer.write(instead)
                await writer.drain()
                return
            ours.write(request)
            answer = await _answer(theirs)
            if fault == LOST:
                _reset(writer)
                return
            if fault == SLOW:
                await asyncio.sleep(1.5)
            laid.targets.append(request.split(b" ", 2)[1].decode())
            laid.bodies.append(request.partition(b"\r\n\r\n")[2])
            await asyncio.sleep(laid.delay)
            writer.write(answer)
            await writer.drain()
    finally:
        ours.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side meets ECONNRESET, and not an end."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(_length(head))


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        body = b""
        while not body.endswith(b"0\r\n\r\n"):
            body += await reader.readuntil(b"\r\n")
        return head + body
    return head + await reader.readexactly(_length(head))


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


@asynccontextmanager
async def forward_proxies(count: int) -> AsyncIterator[list[str]]:
    """HTTP proxies on loopback, as ``host:port``."""
    async with AsyncExitStack() as stack:
        servers = [await asyncio.start_server(_forward, "127.0.0.1", 0) for _ in range(count)]
        for server in servers:
            stack.callback(server.close)
        yield [f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request, its body with it, to the host that it names."""
    try:
        request = await _request(reader)
        method, url, rest = request.split(b" ", 2)
        parts = urlsplit(url.decode())
        theirs, ours = await asyncio.open_connection(parts.hostname, parts.port or 80)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        ours.write(b" ".join((method, path.encode(), rest)))
        writer.write(await theirs.read(-1))
        await writer.drain()
        ours.close()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()
