"""Proxies that come from a URL or a file and change while a service runs."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import ValidationError
from site_doubles import Asked, serving
from source_doubles import HANG, ManualClock, http

from sn46.client import proxyfeed
from sn46.client.proxyfeed import MOST_BYTES, ProxyFeed, fetch_proxies, followed_options
from sn46.client.settings import ActorSettings
from sn46.sources.proxies import MOST_PROXIES, ProxyError, ProxyList
from sn46.sources.routes import ProxyPool

GOOD: dict[str, Any] = {
    "api_url": "http://api.example",
    "api_hotkey": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
    "sources": "portal:http://portal.example",
}


def settings(**changes: Any) -> ActorSettings:
    return ActorSettings(_env_file=None, **GOOD, **changes)  # type: ignore[call-arg]


def labels(listed: ProxyList) -> list[str]:
    return [proxy.label for proxy in listed.proxies]


def text(body: str, status: int = 200) -> bytes:
    return http(status, body, content_type="text/plain")


@asynccontextmanager
async def following(feed: ProxyFeed) -> AsyncIterator[None]:
    task = asyncio.ensure_future(feed.follow())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def test_a_list_is_fetched_with_the_credentials_of_its_url() -> None:
    lines = "# plan B\r\nh:1\r\n10.0.0.1:2:ann:pass\r\nnonsense\r\nh:1\r\n\r\n"
    async with serving(lambda _: text(lines)) as site:
        url = site.url.replace("//", "//ann:s3cret@") + "/list?key=s3cret"
        proxies, wrong = await fetch_proxies(url)
    assert [proxy.label for proxy in proxies] == ["h:1", "10.0.0.1:2"]
    assert proxies[1].url == "http://ann:pass@10.0.0.1:2"
    assert wrong == 1
    (asked,) = site.asked
    assert asked.path == "/list?key=s3cret"
    assert asked.headers["authorization"] == "Basic YW5uOnMzY3JldA=="


def redirecting(asked: Asked) -> bytes:
    return http(302, location="/other")


FAILING = {
    "refused": (lambda _: text("h:1", 403), "answers 403"),
    "moved": (redirecting, "answers 302"),
    "no list": (lambda _: text("<html>Log in</html>"), "no proxy that can be read"),
    "empty": (lambda _: text(""), "no proxy that can be read"),
    "huge": (lambda _: text("h:1\n" * (MOST_BYTES // 4 + 1)), "over 1,000,000 bytes"),
    "broken": (lambda _: b"", "RemoteProtocolError"),
}


@pytest.mark.parametrize("kind", FAILING)
async def test_a_fetch_that_fails_keeps_the_list_and_the_secret(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answer, why = FAILING[kind]
    answers = [lambda _: text("h:1\nh:2"), answer]
    async with serving(lambda asked: answers[len(site.asked) - 1](asked)) as site:
        url = site.url.replace("//", "//ann:s3cret@") + "/list?key=s3cret"
        feed = ProxyFeed(settings(proxies_url=url), ManualClock())
        with structlog.testing.capture_logs() as logged:
            assert await feed.fetch()
            assert not await feed.fetch()
    assert labels(feed.list) == ["h:1", "h:2"]
    (warning,) = [line for line in logged if line["log_level"] == "warning"]
    assert why in warning["reason"]
    assert len(site.asked) == 2  # no redirection is followed
    assert "s3cret" not in f"{logged}{caplog.text}"


async def test_a_list_that_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxyfeed, "TIME_LIMIT", 0.2)
    async with serving(lambda _: HANG) as site:
        with pytest.raises(ProxyError, match=r"did not answer|ReadTimeout"):
            await fetch_proxies(f"{site.url}/s3cret")


async def test_a_list_is_bounded() -> None:
    lines = "\n".join(f"10.0.{n // 250}.{n % 250}:80" for n in range(MOST_PROXIES + 500))
    async with serving(lambda _: text(lines)) as site:
        feed = ProxyFeed(settings(proxies_url=site.url, proxies="h:1"), ManualClock())
        await feed.fetch()
    assert len(feed.list.proxies) == MOST_PROXIES
    assert labels(feed.list)[0] == "h:1"


async def test_the_url_is_fetched_now_and_then_and_soon_after_a_failure() -> None:
    clock = ManualClock()
    answers = [text("", 500), text("", 500), text("h:1"), text("h:1\nh:2")]
    moments: list[float] = []

    def answer(asked: Asked) -> bytes:
        moments.append(clock.total)
        return answers[min(len(moments), len(answers)) - 1]

    async with serving(answer) as site:
        feed = ProxyFeed(settings(proxies_url=site.url, proxies_refresh=600), clock)
        assert not await feed.fetch()
        assert feed.list.proxies == ()
        async with following(feed):
            await until(lambda: labels(feed.list) == ["h:1", "h:2"])
    first, again, good, later = moments[:4]
    assert (first, again) == (0, 30)
    assert good - again == pytest.approx(60, abs=16)
    assert later - good == pytest.approx(600, abs=16)


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "proxies.txt"
    path.write_text("h:1\nh:2\n")
    feed = ProxyFeed(settings(proxies="a:1", proxy_file=path), ManualClock())
    pool = ProxyPool(feed.list, clock=ManualClock())
    kept = pool.routes[1]
    assert [route.label for route in pool.routes] == ["a:1", "h:1", "h:2"]
    async with following(feed):
        path.write_text("h:1\nh:3\n# more\n")
        await until(lambda: labels(feed.list) == ["a:1", "h:1", "h:3"])
        assert pool.routes[1] is kept
        with structlog.testing.capture_logs() as logged:
            path.write_text("h:1\nhttp://ann:s3cret@\n")
            await until(lambda: bool(logged))
        assert labels(feed.list) == ["a:1", "h:1", "h:3"]
        assert "line 2" in logged[0]["reason"]
        assert "s3cret" not in str(logged)
        path.write_text("h:4\n")
        await until(lambda: labels(feed.list) == ["a:1", "h:4"])


async def test_with_a_url_nothing_is_asked_directly() -> None:
    async with serving(lambda _: text("", 500)) as site:
        given = settings(proxies_url=site.url)
        async with followed_options(given, ManualClock()) as options:
            assert isinstance(options.proxies, ProxyList)
            assert ProxyPool(options.proxies, clock=ManualClock()).routes == ()
        assert ProxyPool(given.source_options().proxies, clock=ManualClock()).routes == ()
    async with followed_options(settings(), ManualClock()) as options:
        (route,) = ProxyPool(options.proxies, clock=ManualClock()).routes
        assert route.label == "direct"


@pytest.mark.parametrize("url", ["ftp://h/s3cret", "http://", "h:1", "http://h:s3cret/"])
def test_what_is_no_url_of_a_list_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(ValidationError, match="answers with a list") as raised:
        settings(proxies_url=url)
    assert "s3cret" not in str(raised.value)


def test_settings_reach_the_pool() -> None:
    given = settings(
        proxies="a:1,b:1", proxy_rotation="sticky", requests_per_second="7", requests_at_once="2",
        source_requests_at_once="9", source_requests_per_second="30",
    )  # fmt: skip
    options = given.source_options()
    assert options.rotation == "sticky"
    assert (options.pace.start, options.pace.maximum) == (7, 7)
    limits = options.limits
    assert (limits.route_at_once, limits.source_at_once, limits.source_per_second) == (2, 9, 30)
    assert settings(proxies_url=" ").proxies_url is None
