"""Faults of a network, injected where they happen in life: between a client and a real server."""

from collections.abc import Callable

import httpx

from sn46.certificates import trusted

Fault = Callable[[httpx.Request], httpx.Response]


def answer(status: int, body: bytes = b"", **headers: str) -> Fault:
    """The server, or a proxy before it, answers with an error."""
    named = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return lambda request: httpx.Response(status, headers=named, stream=httpx.ByteStream(body))


def dropped(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("connection dropped", request=request)


def timed_out(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("timed out", request=request)


class FaultyTransport(httpx.AsyncBaseTransport):
    """Meets each request with the next fault; once they are used up, the network works."""

    def __init__(self, *faults: Fault) -> None:
        self._faults = list(faults)
        self._real = httpx.AsyncHTTPTransport(verify=trusted())
        self.requests = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        if self._faults:
            return self._faults.pop(0)(request)
        return await self._real.handle_async_request(request)

    async def aclose(self) -> None:
        await self._real.aclose()
