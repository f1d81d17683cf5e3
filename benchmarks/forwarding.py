"""Forward proxies on loopback, each with an address of its own and a distance to the portal.

``python -m benchmarks.forwarding COUNT MILLISECONDS`` prints their ports in one line and serves
until it is ended. Each asks the portal from another address of this machine, as real proxies do,
so that the portal counts and refuses each of them by itself.
"""

import asyncio
import sys
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_END = b"\r\n\r\n"
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Forwarder:
    """One proxy: ``GET http://…`` over connections that are kept, ``delay`` seconds each."""

    address: str
    delay: float
    _idle: list[Pair] = field(default_factory=list[Pair])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(_END)
                await asyncio.sleep(self.delay)
                writer.write(await self._forwarded(head))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _forwarded(self, head: bytes) -> bytes:
        first, _, rest = head.partition(b"\r\n")
        method, url, version = first.split(b" ")
        parts = urlsplit(url.decode())
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        if self._idle:
            pair = self._idle.pop()
        else:
            pair = await asyncio.open_connection(
                parts.hostname, parts.port, local_addr=(self.address, 0)
            )
        upstream, out = pair
        out.write(b" ".join((method, path.encode(), version)) + b"\r\n" + rest)
        answer = await upstream.readuntil(_END)
        length = 0
        for line in answer.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        body = await upstream.readexactly(length)
        self._idle.append(pair)
        return answer + body


async def main(count: int, milliseconds: int) -> None:
    ports: list[int] = []
    servers: list[asyncio.Server] = []
    for number in range(count):
        forwarder = Forwarder(f"127.0.8.{number + 1}", milliseconds / 1000)
        server = await asyncio.start_server(forwarder.serve, "127.0.0.1", 0)
        servers.append(server)
        ports.append(server.sockets[0].getsockname()[1])
    print(*ports, flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
