"""HTTP with manners: paced, retried within bounds, over the proxies that work.

What comes back is either an answer of the source or one of the ``SourceError`` kinds, so that an
adapter never mistakes a refusal or a broken connection for a statement about a home.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from math import inf
from typing import Any, Final
from urllib.request import Request

import httpx

from sn46.certificates import trusted
from sn46.clock import Clock
from sn46.sources.base import Blocked, SourceChanged, SourceUnavailable
from sn46.sources.bodies import ENCODINGS, read_body
from sn46.sources.options import SourceOptions
from sn46.sources.politeness import RetryPolicy, read_retry_after
from sn46.sources.proxies import Proxy
from sn46.sources.routes import AllResting, ProxyPool, Route

_REFUSALS: Final = (403, 429)
_PROXY_AUTHENTICATION: Final = 407
_JSON_WANTED: Final[Mapping[str, str]] = {"Accept": "application/json"}


@dataclass(frozen=True)
class Answer:
    """What the source answered: any status but refusals (403, 429), 407 and 5xx. ``location`` is
    where a redirection (3xx) points; none is followed."""

    status: int
    content_type: str
    body: bytes
    location: str = ""

    @property
    def is_json(self) -> bool:
        return self.content_type.partition(";")[0].strip().lower() == "application/json"


TransportFactory = Callable[[Proxy | None, str | None], httpx.AsyncBaseTransport]
"""Makes the connections of one route, of its proxy and the address to send from."""


def plain_transport(proxy: Proxy | None, local_address: str | None) -> httpx.AsyncBaseTransport:
    """httpx's own connections."""
    over = None
    if proxy is not None:
        over = httpx.Proxy(proxy.url, ssl_context=trusted() if proxy.is_tls else None)
    return httpx.AsyncHTTPTransport(verify=trusted(), proxy=over, local_address=local_address)


def pool_of(options: SourceOptions, clock: Clock, most_per_second: float = inf) -> ProxyPool:
    """The ways to one source that ``options`` name, none of them asked faster than
    ``most_per_second``."""
    return ProxyPool(
        options.proxies,
        clock=clock,
        pace=options.pace.at_most(most_per_second),
        breaker=options.breaker,
        limits=options.limits,
        rotation=options.rotation,
    )


def polite_client(
    base_url: str,
    *,
    clock: Clock,
    options: SourceOptions,
    captcha: Callable[[Answer], bool],
    most_per_second: float,
    headers: Mapping[str, str] = _JSON_WANTED,
    transport: TransportFactory = plain_transport,
) -> "PoliteClient":
    """A client with the manners of ``options``, over any one way never faster than
    ``most_per_second``."""
    return PoliteClient(
        base_url,
        clock=clock,
        pool=pool_of(options, clock, most_per_second),
        retry=options.retry,
        timeout=options.timeout,
        local_address=options.local_address,
        captcha=captcha,
        seed=options.seed,
        headers=headers,
        transport=transport,
    )


class _PlainCookies(DefaultCookiePolicy):
    """Keeps cookies of ASCII alone: httpx cannot send others back, and would fail with every later
    request."""

    def set_ok(self, cookie: Cookie, request: Request) -> bool:
        plain = cookie.name.isascii() and (cookie.value or "").isascii()
        return plain and super().set_ok(cookie, request)


class PoliteClient:
    """Requests to one host.

    Args:
        base_url: scheme, host and port.
        pool: the ways there; each has its own pace and connections.
        retry: how often and when a request is tried again.
        timeout: seconds for one attempt, from connecting to the last byte.
        local_address: the address of this machine to send from; None leaves it to the system.
        captcha: whether an answer is a captcha page.
        seed: of the jitter between attempts.
        headers: sent with every request.
        transport: makes the connections.
    """

    def __init__(
        self,
        base_url: str,
        *,
        clock: Clock,
        pool: ProxyPool,
        retry: RetryPolicy,
        timeout: float,
        local_address: str | None = None,
        captcha: Callable[[Answer], bool],
        seed: str = "retry",
        headers: Mapping[str, str] = _JSON_WANTED,
        transport: TransportFactory = plain_transport,
    ) -> None:
        self._base_url = base_url
        self._clock = clock
        self._pool = pool
        self._retry = retry
        self._timeout = timeout
        self._local_address = local_address
        self._captcha = captcha
        self._chance = random.Random(seed)
        self._headers = dict(headers)
        self._transport = transport
        self._clients: dict[Route, httpx.AsyncClient] = {}

    @property
    def pool(self) -> ProxyPool:
        """The ways to the source, and how they fare."""
        return self._pool

    async def get(self, path: str, params: Mapping[str, Any]) -> Answer:
        """As :meth:`ask`, with GET."""
        return await self.ask("GET", path, params=params or None)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer to one request, tried again where it was refused or lost. So it must be one
        that only reads, whatever its method.

        Raises:
            Blocked: refused at the last attempt too, every proxy rests, or the source asks for a
                longer wait than ``longest_hold``. ``retry_after`` says how long it asks for, where
                there is no other way.
            SourceUnavailable: a time-out, a 5xx or a broken connection at the last attempt too.
        """
        failures = 0
        while True:
            try:
                return await self._attempt(method, path, params=params, json=json, headers=headers)
            except (Blocked, SourceUnavailable) as error:
                failures += 1
                if failures >= self._retry.attempts or self._too_long(error):
                    if isinstance(error, Blocked) and self._pool.has_other_way:
                        error.retry_after = None  # another way may be asked before
                    raise
            await self._clock.sleep(self._retry.pause(failures, self._chance))

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    def _too_long(self, error: Exception) -> bool:
        """Whether to give up at once: the wait asked for is longer than any that this program
        makes, and there is no other way to try."""
        if not isinstance(error, Blocked) or error.retry_after is None:
            return False
        return error.retry_after > self._pool.longest_hold and not self._pool.has_other_way

    async def _attempt(self, method: str, path: str, **parts: Any) -> Answer:
        try:
            await self._pool.ready()
            async with self._pool.way() as route:
                asked_at = await self._pool.turn(route)
                return await self._over(route, asked_at, method, path, **parts)
        except AllResting as resting:
            wait = (resting.until - self._clock.now()).total_seconds()
            raise Blocked(str(resting), max(0.0, wait)) from None
        finally:
            await self._close_left()

    async def _over(
        self, route: Route, asked_at: datetime, method: str, path: str, **parts: Any
    ) -> Answer:
        try:
            async with asyncio.timeout(self._timeout):
                async with self._client(route).stream(method, path, **parts) as response:
                    body = await read_body(response)
        except TimeoutError:
            route.failed(asked_at)
            raise SourceUnavailable(
                f"{self._base_url} did not answer within {self._timeout:g} s ({route.label})."
            ) from None
        except httpx.TransportError as error:
            route.failed(asked_at)
            # The error's own text may quote a proxy's address; its kind says enough.
            raise SourceUnavailable(
                f"The connection to {self._base_url} over {route.label} failed: "
                f"{type(error).__name__}."
            ) from None
        except (httpx.InvalidURL, httpx.DecodingError) as error:
            raise SourceChanged(
                f"{self._base_url} could not be asked or read: {type(error).__name__}."
            ) from error
        answer = Answer(
            response.status_code,
            response.headers.get("Content-Type", ""),
            body,
            response.headers.get("Location", ""),
        )
        now = self._clock.now()
        wait = read_retry_after(response.headers.get("Retry-After"), now)
        if answer.status in _REFUSALS or self._captcha(answer):
            route.refused(asked_at, wait)
            kind = answer.status if answer.status in _REFUSALS else "a captcha"
            raise Blocked(f"{self._base_url} refuses {route.label}: {kind}.", wait)
        self._check_reached(answer, route, asked_at)
        route.succeeded(max(0.0, (now - asked_at).total_seconds()))
        return answer

    def _check_reached(self, answer: Answer, route: Route, asked_at: datetime) -> None:
        if answer.status == _PROXY_AUTHENTICATION:
            route.failed(asked_at)
            raise SourceUnavailable(f"The proxy {route.label} does not accept its credentials.")
        if answer.status >= 500:
            route.failed(asked_at)
            raise SourceUnavailable(f"{self._base_url} has a fault of its own: {answer.status}.")

    async def _close_left(self) -> None:
        """Close the connections of proxies that left the list."""
        for route in [r for r in self._clients if r.left and not r.under_way]:
            await self._clients.pop(route).aclose()

    def _client(self, route: Route) -> httpx.AsyncClient:
        client = self._clients.get(route)
        if client is None:
            client = httpx.AsyncClient(
                base_url=self._base_url,
                transport=self._transport(route.proxy, self._local_address),
                timeout=httpx.Timeout(self._timeout),
                headers={**self._headers, "Accept-Encoding": ENCODINGS},
                cookies=CookieJar(_PlainCookies()),
                trust_env=False,
            )
            self._clients[route] = client
        return client
