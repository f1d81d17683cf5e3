"""Connections that look like a browser's, for portals that refuse any other TLS handshake.

``curl_cffi`` (the extra ``zillow``) makes them. Only the handshake, HTTP/2 settings and default
headers are a browser's: pace, proxies, retries and the reading of answers stay ``PoliteClient``'s.
"""

from importlib.util import find_spec
from typing import Any, Final, Literal, cast

import httpx

from sn46.sources.bodies import MOST_BYTES, too_large
from sn46.sources.proxies import Proxy

_BROWSER: Final = "chrome"
_LONGEST: Final = 120.0
_STOP: Final = 0xFFFFFFFF
"""What curl takes for a body that is not to be read on."""

_OWN_HEADERS: Final = frozenset(
    {"host", "connection", "user-agent", "accept-encoding", "content-length", "cookie"}
)
"""What httpx adds by itself; here the browser's own are sent, and its cookies are kept."""
_READ_ALREADY: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})

_Method = Literal["GET", "POST", "PUT"]


def has_browser() -> bool:
    """Whether ``curl_cffi`` is installed."""
    return find_spec("curl_cffi") is not None


class BrowserTransport(httpx.AsyncBaseTransport):
    """An httpx transport over one ``curl_cffi`` session, with its cookies.

    Raises (when asked): ``httpx.TransportError`` kinds, as httpx's own transports do.
    """

    def __init__(self, proxy: Proxy | None, local_address: str | None) -> None:
        # Imported here: an extra, and not needed by anyone who only talks to other sources.
        from curl_cffi.requests import AsyncSession

        self._session: Any = AsyncSession(
            impersonate=_BROWSER,
            trust_env=False,
            allow_redirects=False,
            timeout=_LONGEST,
            proxy=proxy.url if proxy else None,
            interface=local_address,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        from curl_cffi.requests.exceptions import RequestException

        body, content = await request.aread(), bytearray()

        def take(piece: bytes) -> int:
            content.extend(piece)
            return len(piece) if len(content) <= MOST_BYTES else _STOP

        headers = {k: v for k, v in request.headers.items() if k not in _OWN_HEADERS}
        try:
            answer = await self._session.request(
                cast(_Method, request.method),
                str(request.url),
                headers=headers,
                data=body or None,
                content_callback=take,
            )
        except RequestException as error:
            if len(content) > MOST_BYTES:
                raise too_large() from None
            raise _as_httpx(error) from None
        # As bytes: httpx takes texts of ASCII only.
        kept = [
            (name.encode(), value.encode())
            for name, value in answer.headers.multi_items()
            if value is not None and name.lower() not in _READ_ALREADY
        ]
        return httpx.Response(answer.status_code, headers=kept, content=bytes(content))

    async def aclose(self) -> None:
        await self._session.close()


def _as_httpx(error: Exception) -> httpx.TransportError:
    """The kind of failure in httpx's words. Its text stays behind: it may quote a proxy's URL."""
    from curl_cffi.requests import exceptions

    kinds: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
        (exceptions.ProxyError, httpx.ProxyError),
        (exceptions.Timeout, httpx.ReadTimeout),
        (exceptions.ConnectionError, httpx.ConnectError),
    )
    for theirs, ours in kinds:
        if isinstance(error, theirs):
            return ours(type(error).__name__)
    return httpx.RemoteProtocolError(type(error).__name__)
