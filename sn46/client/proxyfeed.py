"""Proxies that change while a service runs: PROXY_FILE is read again when it changes, and
PROXIES_URL is fetched at the start and every PROXIES_REFRESH seconds.

The answer of PROXIES_URL is a list, one proxy a line, as PROXY_FILE is written. What cannot be
fetched or read leaves the list as it was. The URL often is the key to the account, so neither it
nor its answer is ever logged or put into an error; its host is.
"""

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from typing import Final

import httpx
import structlog

from sn46.certificates import trusted
from sn46.client.settings import ActorSettings
from sn46.clock import Clock
from sn46.sources.options import SourceOptions
from sn46.sources.proxies import (
    MOST_PROXIES,
    Proxy,
    ProxyError,
    ProxyList,
    proxies_in,
    read_proxy_file,
)

MOST_BYTES: Final = 1_000_000
TIME_LIMIT: Final = 30.0
"""Seconds for one fetch."""

LOOK_EVERY: Final = timedelta(seconds=15)
FIRST_RETRY: Final = timedelta(seconds=30)

_log = structlog.get_logger()


async def fetch_proxies(url: str) -> tuple[tuple[Proxy, ...], int]:
    """The proxies that a URL lists, at most ``MOST_PROXIES`` of them, and how many of its lines
    are no proxies. Redirections are not followed: they would carry the key elsewhere.

    Raises:
        ProxyError: where it cannot be fetched, is too large, or lists none. It names the host.
    """
    host = httpx.URL(url).host
    try:
        async with asyncio.timeout(TIME_LIMIT):
            text = await _fetched(url, host)
    except TimeoutError:
        raise ProxyError(f"PROXIES_URL ({host}) did not answer within {TIME_LIMIT:g} s.") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # The error's own text may quote the URL; its kind says enough.
        raise ProxyError(
            f"PROXIES_URL ({host}) cannot be fetched: {type(error).__name__}."
        ) from None
    proxies, wrong = proxies_in(text)
    if not proxies:
        raise ProxyError(f"PROXIES_URL ({host}) lists no proxy that can be read.")
    return proxies[:MOST_PROXIES], wrong


async def _fetched(url: str, host: str) -> str:
    # Over a transport and not a client: clients log the URLs that they ask.
    async with httpx.AsyncHTTPTransport(verify=trusted()) as transport:
        answer = await transport.handle_async_request(_request(httpx.URL(url)))
        try:
            if answer.status_code != HTTPStatus.OK:
                raise ProxyError(
                    f"PROXIES_URL ({host}) answers {answer.status_code}; a list of proxies is "
                    "needed."
                )
            body = bytearray()
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > MOST_BYTES:
                    raise ProxyError(
                        f"PROXIES_URL ({host}) answers with over {MOST_BYTES:,} bytes."
                    )
        finally:
            await answer.aclose()
    return body.decode("utf-8", "replace")


def _request(url: httpx.URL) -> httpx.Request:
    """The request for a URL, with the user and password that it holds."""
    headers = {"Accept": "text/plain, */*"}
    if url.userinfo:
        token = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    timeout = httpx.Timeout(TIME_LIMIT).as_dict()
    bare = url.copy_with(userinfo=b"")
    return httpx.Request("GET", bare, headers=headers, extensions={"timeout": timeout})


class ProxyFeed:
    """The list of all proxies, kept up to date by :meth:`follow`."""

    def __init__(self, settings: ActorSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._filed = read_proxy_file(settings.proxy_file) if settings.proxy_file else ()
        self._fetched: tuple[Proxy, ...] = ()
        self._seen = self._stamp()
        self.list = ProxyList(required=settings.proxies_url is not None)
        self._merge()

    async def follow(self) -> None:
        """Keep the list up to date until cancelled. The URL was fetched before (:meth:`fetch`)."""
        refresh = timedelta(seconds=self._settings.proxies_refresh)
        retry = min(FIRST_RETRY, refresh)
        next_fetch = self._clock.now() + (refresh if self._fetched else retry)
        while True:
            await self._clock.sleep(min(LOOK_EVERY, refresh))
            self.look()
            if self._clock.now() >= next_fetch:
                good = await self.fetch()
                retry = min(FIRST_RETRY, refresh) if good else min(2 * retry, refresh)
                next_fetch = self._clock.now() + (refresh if good else retry)

    async def fetch(self) -> bool:
        """Fetch the list of PROXIES_URL once. Returns False where that failed; the list is then
        as it was."""
        url = self._settings.proxies_url
        if url is None:
            return True
        try:
            proxies, wrong = await fetch_proxies(url.get_secret_value())
        except ProxyError as error:
            _log.warning(
                "the list of proxies could not be refreshed; the one before is kept",
                reason=str(error),
                kept=len(self.list.proxies),
            )
            return False
        if wrong:
            _log.warning("some lines of PROXIES_URL are no proxies", lines=wrong)
        if proxies != self._fetched:
            self._fetched = proxies
            self._merge()
            _log.info("the list of proxies changed", proxies=len(self.list.proxies))
        return True

    def look(self) -> None:
        """Read PROXY_FILE again where it changed."""
        path, stamp = self._settings.proxy_file, self._stamp()
        if path is None or stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._filed = read_proxy_file(path)
        except ProxyError as error:
            _log.warning("the proxy file changed and cannot be used", reason=str(error))
            return
        self._merge()
        _log.info("the proxy file changed", proxies=len(self.list.proxies))

    def _merge(self) -> None:
        listed = self._settings.listed_proxies()
        every = dict.fromkeys((*listed, *self._filed, *self._fetched))
        self.list.replace(tuple(every)[:MOST_PROXIES])

    def _stamp(self) -> tuple[int, int] | None:
        """What changes when the file does; None while it is not there."""
        if self._settings.proxy_file is None:
            return None
        try:
            found = self._settings.proxy_file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size


@asynccontextmanager
async def followed_options(settings: ActorSettings, clock: Clock) -> AsyncGenerator[SourceOptions]:
    """How the sources are to be asked, over proxies that follow PROXY_FILE and PROXIES_URL for as
    long as this lasts. With PROXIES_URL nothing is asked directly, even while it lists none.

    Raises:
        ProxyError: where PROXY_FILE cannot be read.
    """
    feed = ProxyFeed(settings, clock)
    await feed.fetch()
    following = asyncio.ensure_future(feed.follow())
    try:
        yield replace(settings.source_options(), proxies=feed.list)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
