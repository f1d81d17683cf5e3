"""A clock that only moves when someone sleeps, a server that answers by script, and a proxy.

The servers speak real HTTP over loopback, so that what is under test meets the wire.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx

from sn46.certificates import trusted


class ManualClock:
    """Time that passes by sleeping alone; what was slept is on record, in seconds."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.moment

    async def sleep(self, duration: timedelta) -> None:
        seconds = max(0.0, duration.total_seconds())
        self.slept.append(seconds)
        self.moment += timedelta(seconds=seconds)
        await asyncio.sleep(0)

    @property
    def total(self) -> float:
        return sum(self.slept)


async def client_stats(portal_url: str) -> dict[str, Any]:
    """What the portal counted, by client address."""
    async with httpx.AsyncClient(verify=trusted()) as client:
        return (await client.get(f"{portal_url}/stats")).json()["clients"]


HANG = b"hang"
DROP = b"drop"


def http(status: int, body: bytes | str = b"", **headers: str) -> bytes:
    """One HTTP answer, JSON unless ``content_type`` says otherwise."""
    content = body.encode() if isinstance(body, str) else body
    named = {"content_type": "application/json", **headers}
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name.replace('_', '-').title()}: {value}" for name, value in named.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


@dataclass
class Scripted:
    """A server's URL and the request lines it got."""

    url: str
    requests: list[str] = field(default_factory=list)


async def _read_head(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")


@asynccontextmanager
async def scripted_server(*answers: bytes) -> AsyncIterator[Scripted]:
    """Gives the answers in order, one a connection; the last one again and again."""
    scripted = Scripted("")
    left = list(answers)
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await _read_head(reader)
            scripted.requests.append(head.splitlines()[0])
            answer = left.pop(0) if len(left) > 1 else left[0]
            if answer == HANG:
                await over.wait()
            elif answer != DROP:
                writer.write(answer)
                await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield scripted
    finally:
        over.set()
        server.close()


@dataclass
class RunningProxy:
    """A forwarding proxy's port and the URLs that went through it."""

    port: int = 0
    forwarded: list[str] = field(default_factory=list)


@asynccontextmanager
async def running_proxy(
    credentials: str | None = None, answers: Sequence[bytes] = ()
) -> AsyncIterator[RunningProxy]:
    """An HTTP proxy. It asks for ``user:password`` where given, and gives ``answers`` (one each)
    instead of forwarding while there are any."""
    proxy = RunningProxy()
    instead = list(answers)

    async def reply(head: str) -> bytes:
        if credentials is not None:
            token = base64.b64encode(credentials.encode()).decode()
            if f"proxy-authorization: basic {token}".lower() not in head.lower():
                return http(407)
        if instead:
            return instead.pop(0)
        method, url, _ = head.splitlines()[0].split(" ")
        proxy.forwarded.append(url)
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        request = f"{method} {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        whole = await reader.read(-1)
        writer.close()
        return whole.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(await reply(await _read_head(reader)))
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
