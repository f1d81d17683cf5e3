"""Proxies: how they are written, kept secret, chosen, limited and rested."""

import asyncio
import pickle
from contextlib import AsyncExitStack
from datetime import date, timedelta
from pathlib import Path

import pytest
from portal_process import portal
from pydantic import SecretStr
from source_doubles import ManualClock, http, running_proxy

from sn46.clock import SystemClock
from sn46.sources.base import SearchQuery
from sn46.sources.fetch import polite_client
from sn46.sources.options import SourceOptions
from sn46.sources.politeness import PaceSettings, RetryPolicy
from sn46.sources.portal import PortalSource
from sn46.sources.proxies import (
    Proxy,
    ProxyError,
    ProxyList,
    parse_proxy,
    proxies_from,
    proxies_from_setting,
    read_proxy_file,
)
from sn46.sources.routes import (
    AllResting,
    BreakerSettings,
    Circuit,
    Limits,
    ProxyPool,
    Rotation,
    Tally,
    session,
)

BREAKER = BreakerSettings(failures=3, rest=10, longest_rest=35)


@pytest.mark.parametrize(
    ("text", "url", "label"),
    [
        ("http://ann:s3cret@proxy.example:8080", None, "proxy.example:8080"),
        ("https://proxy.example:443", None, "proxy.example:443"),
        ("proxy.example:3128", "http://proxy.example:3128", "proxy.example:3128"),
        (
            "10.0.0.1:8000:ann:p@ss:word",
            "http://ann:p%40ss%3Aword@10.0.0.1:8000",
            "10.0.0.1:8000",
        ),
    ],
)
def test_the_ways_to_write_a_proxy(text: str, url: str | None, label: str) -> None:
    proxy = parse_proxy(f" {text}\n")
    assert (proxy.url, proxy.label) == (url or text, label)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "proxy.example",
        "socks5://h:1",
        "http://s3cret@h",
        "http://ann:s3cret@h:70000",
        "::1",
        "http://ann:s3cret\0@h:80",
        "http://ann:s3cret@xn--\u00e4.example:80",
    ],
)
def test_what_is_no_proxy_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ProxyError) as raised:
        proxies_from(["good.example:80", SecretStr(text)])
    assert "Proxy 2 of the list" in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_a_proxy_never_shows_its_credentials() -> None:
    proxy = parse_proxy("http://ann:s3cret@proxy.example:8080")
    pool = ProxyPool([proxy], clock=ManualClock())
    for shown in (str(proxy), repr(proxy), f"{[proxy]}", repr(pool.health())):
        assert "s3cret" not in shown
        assert "ann" not in shown
    assert pickle.loads(pickle.dumps(proxy)) == proxy


def test_a_file_of_proxies_is_read_and_errors_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "proxies.txt"
    path.write_text("# mine\n\nhttp://a:s3cret@h:1\n  h:2  \nh:2\n")
    assert [p.label for p in read_proxy_file(path)] == ["h:1", "h:2"]
    path.write_text("h:1\nhttp://a:s3cret@h\n")
    with pytest.raises(ProxyError, match="line 2") as raised:
        read_proxy_file(path)
    assert "s3cret" not in str(raised.value)
    with pytest.raises(ProxyError, match="cannot be read: No such file"):
        read_proxy_file(tmp_path / "none.txt")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ProxyError, match="not a text file"):
        read_proxy_file(path)


def test_one_setting_holds_several_proxies_or_none() -> None:
    assert [p.label for p in proxies_from_setting(SecretStr("h:1, h:2 h:3"))] == [
        "h:1",
        "h:2",
        "h:3",
    ]
    assert proxies_from_setting("") == ()


def test_without_proxies_there_is_the_direct_way_which_never_rests(clock: ManualClock) -> None:
    pool = ProxyPool(clock=clock, breaker=BREAKER)
    for _ in range(20):
        pool.choose().refused(clock.now(), None)
    (health,) = pool.health()
    assert (health.label, health.circuit, health.failures) == ("direct", Circuit.CLOSED, 20)
    assert not pool.has_other_way


def test_available_proxies_take_turns(clock: ManualClock) -> None:
    pool = ProxyPool(proxies_from(["a:1", "b:1", "c:1"]), clock=clock)
    assert [pool.choose().label for _ in range(7)] == [
        "a:1", "b:1", "c:1", "a:1", "b:1", "c:1", "a:1",
    ]  # fmt: skip


def test_sessions_at_one_gateway_are_told_apart(clock: ManualClock) -> None:
    pool = ProxyPool(proxies_from(["http://u1:x@g:1", "http://u2:x@g:1"]), clock=clock)
    assert [h.label for h in pool.health()] == ["g:1", "g:1#2"]


def test_a_failing_proxy_rests_is_tried_once_and_rests_longer(clock: ManualClock) -> None:
    pool = ProxyPool([Proxy("http://a:1")], clock=clock, breaker=BREAKER)
    (route,) = pool.routes
    for _ in range(3):
        assert route.circuit is Circuit.CLOSED
        route.failed()
    for rest in (10, 20, 35, 35):
        assert route.circuit is Circuit.OPEN
        with pytest.raises(AllResting) as resting:
            pool.choose()
        assert resting.value.until - clock.now() == timedelta(seconds=rest)
        clock.moment += timedelta(seconds=rest)
        assert route.circuit is Circuit.HALF_OPEN
        with pool.choose().in_use() as trial:
            with pytest.raises(AllResting):
                pool.choose()
            trial.failed()
    clock.moment += timedelta(seconds=35)
    with pool.choose().in_use() as trial:
        trial.succeeded()
    assert route.circuit is Circuit.CLOSED


def test_a_trial_that_was_given_up_leaves_room_for_another(clock: ManualClock) -> None:
    pool = ProxyPool([Proxy("http://a:1")], clock=clock, breaker=BREAKER)
    for _ in range(3):
        pool.routes[0].failed()
    clock.moment += timedelta(seconds=10)
    with pytest.raises(KeyboardInterrupt), pool.choose().in_use():
        raise KeyboardInterrupt
    assert pool.choose() is pool.routes[0]


def test_requests_that_fall_short_together_count_once(clock: ManualClock) -> None:
    pool = ProxyPool([Proxy("http://a:1")], clock=clock, breaker=BREAKER)
    (route,) = pool.routes
    for burst in range(3):
        assert route.circuit is Circuit.CLOSED
        asked = [clock.now() + timedelta(milliseconds=n) for n in range(6)]
        clock.moment += timedelta(seconds=1)
        for number, asked_at in enumerate(asked):
            if number % 2:
                route.failed(asked_at)
            else:
                route.refused(asked_at, None)
        assert route.health().failures == 6 * (burst + 1)
    # The third burst made it rest, for as long as one failure does.
    assert route.open_until == clock.now() + timedelta(seconds=10)


def test_successes_between_failures_keep_a_proxy_in_use(clock: ManualClock) -> None:
    pool = ProxyPool([Proxy("http://a:1")], clock=clock, breaker=BREAKER)
    (route,) = pool.routes
    for _ in range(10):
        route.failed()
        route.failed()
        route.succeeded()
    assert route.circuit is Circuit.CLOSED


def test_each_proxy_has_its_own_pace(clock: ManualClock) -> None:
    pool = ProxyPool(
        proxies_from(["a:1", "b:1"]), clock=clock, pace=PaceSettings(start=20, decrease=0.5)
    )
    pool.routes[0].refused(clock.now(), None)
    assert [h.rate for h in pool.health()] == [10, 20]


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"rest": 0.0}, {"longest_rest": 1.0}])
def test_a_breaker_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="breaker needs"):
        BreakerSettings(**wrong)  # type: ignore[arg-type]


def test_a_route_that_is_held_is_not_chosen_while_another_is_free(clock: ManualClock) -> None:
    pool = ProxyPool(proxies_from(["a:1", "b:1"]), clock=clock)
    held, free = pool.routes
    held.refused(clock.now(), 40)
    assert {pool.choose() for _ in range(5)} == {free}
    clock.moment += timedelta(seconds=41)
    assert {pool.choose() for _ in range(5)} == {held, free}


def test_latency_is_a_mean_that_forgets(clock: ManualClock) -> None:
    pool = ProxyPool([Proxy("http://a:1")], clock=clock)
    (route,) = pool.routes
    assert route.health().latency is None
    route.succeeded(1.0)
    assert route.health().latency == 1.0
    for _ in range(30):
        route.succeeded(0.2)
    assert route.health().latency == pytest.approx(0.2, abs=0.01)
    assert pool.tally() == Tally(answered=31, seconds=pytest.approx(7.0))


def test_health_tells_refused_from_lost(clock: ManualClock) -> None:
    pool = ProxyPool([Proxy("http://a:1")], clock=clock)
    (route,) = pool.routes
    route.refused(clock.now(), None)
    route.failed()
    assert (route.health().failures, route.health().refusals) == (2, 1)
    assert pool.tally() == Tally(refused=1, lost=1)


async def test_a_pool_follows_its_list(clock: ManualClock) -> None:
    listed = ProxyList(proxies_from(["a:1", "b:1"]))
    pool = ProxyPool(listed, clock=clock)
    first, second = pool.routes
    first.succeeded(0.1)
    second.failed()
    async with pool.way() as way:
        assert way is first
        listed.replace(proxies_from(["b:1", "c:1"]))
        assert [route.label for route in pool.routes] == ["b:1", "c:1"]
        assert first.left
        way.refused(clock.now(), None)
    assert pool.routes[0] is second
    assert {pool.choose().label for _ in range(4)} == {"b:1", "c:1"}
    # What became of its requests is not forgotten with it.
    listed.replace(proxies_from(["c:1"]))
    assert pool.tally() == Tally(answered=1, refused=1, lost=1, seconds=0.1)


async def test_without_any_proxy_of_a_required_list_nothing_is_asked(clock: ManualClock) -> None:
    listed = ProxyList(required=True)
    pool = ProxyPool(listed, clock=clock)
    with pytest.raises(AllResting, match="No proxy is known yet"):
        await pool.ready()
    assert pool.routes == ()
    listed.replace(proxies_from(["a:1"]))
    await pool.ready()
    assert pool.choose().label == "a:1"


async def test_a_session_keeps_to_its_proxy_until_it_is_refused(clock: ManualClock) -> None:
    proxies = proxies_from(["a:1", "b:1", "c:1"])
    pool = ProxyPool(proxies, clock=clock, rotation=Rotation.STICKY)

    async def over(refused: bool = False) -> str:
        async with pool.way() as route:
            if refused:
                route.refused(clock.now(), None)
            return route.label

    with session("98101"):
        assert [await over() for _ in range(4)] == ["a:1"] * 4
    with session("98102"):
        assert [await over() for _ in range(2)] == ["b:1"] * 2
    with session("98101"):
        assert [await over() for _ in range(2)] == ["a:1"] * 2
        assert await over(refused=True) == "a:1"
        assert [await over() for _ in range(2)] == ["c:1"] * 2
        pool.routes[2].failed()
        pool.routes[2].failed()
        pool.routes[2].failed()  # it rests
        assert await over() in ("a:1", "b:1")
    # Requests of no session take turns.
    assert len({await over() for _ in range(6)}) == 2


class Busy:
    """A server that answers when told, and counts requests under way by connection's peer."""

    def __init__(self) -> None:
        self.under_way = self.most = self.asked = 0
        self.opened = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                self.under_way += 1
                self.most = max(self.most, self.under_way)
                await self.opened.wait()
                self.under_way -= 1
                writer.write(http(200, "{}").replace(b"Connection: close\r\n", b""))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        (Limits(route_at_once=3, source_at_once=100), [3, 3]),
        (Limits(route_at_once=10, source_at_once=4), [2, 2]),
    ],
)
async def test_a_proxy_and_a_source_are_asked_a_few_at_a_time(
    limits: Limits, most: list[int]
) -> None:
    async with AsyncExitStack() as stack:
        busy, proxies = [Busy(), Busy()], list[Proxy]()
        for one in busy:
            server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
            stack.callback(server.close)
            proxies.append(parse_proxy(f"127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        options = SourceOptions(
            proxies=tuple(proxies), limits=limits, pace=PaceSettings(start=1000, maximum=1000)
        )
        client = polite_client(
            "http://portal.example", clock=SystemClock(), options=options,
            captcha=lambda _: False, most_per_second=1000,
        )  # fmt: skip
        stack.push_async_callback(client.close)
        asking = [asyncio.ensure_future(client.get("/", {})) for _ in range(30)]
        async with asyncio.timeout(60):
            while [one.under_way for one in busy] != most:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            assert [health.under_way for health in client.pool.health()] == most
            for one in busy:
                one.opened.set()
            answers = await asyncio.gather(*asking)
        assert {answer.status for answer in answers} == {200}
        assert sum(one.asked for one in busy) == 30
        assert sum(one.most for one in busy) <= sum(most) + 2
        assert all(0 < (health.latency or 0) < 10 for health in client.pool.health())


async def test_a_source_is_asked_so_often_over_all_proxies_together(clock: ManualClock) -> None:
    limits = Limits(source_per_second=2.0)
    pool = ProxyPool(
        proxies_from(f"h:{n}" for n in range(1, 21)), clock=clock, limits=limits,
        pace=PaceSettings(start=50),
    )  # fmt: skip
    for _ in range(41):
        async with pool.way() as route:
            await pool.turn(route)
    assert clock.total == pytest.approx(20, abs=1)


async def test_a_proxy_that_joins_is_used_and_one_that_leaves_is_let_go(
    calm_portal: str, clock: ManualClock
) -> None:
    query = {"zip": "98039"}
    async with running_proxy() as old, running_proxy() as new:
        one, two = (parse_proxy(f"127.0.0.1:{p.port}") for p in (old, new))
        listed = ProxyList([one])
        client = polite_client(
            calm_portal, clock=clock, options=SourceOptions(proxies=listed),
            captcha=lambda _: False, most_per_second=1000,
        )  # fmt: skip
        await client.get("/api/search", query)
        listed.replace([one, two])
        for _ in range(4):
            await client.get("/api/search", query)
        assert (len(old.forwarded), len(new.forwarded)) == (3, 2)
        listed.replace([two])
        for _ in range(3):
            await client.get("/api/search", query)
        assert (len(old.forwarded), len(new.forwarded)) == (3, 5)
        assert [h.label for h in client.pool.health()] == [two.label]
        await client.close()


@pytest.mark.parametrize(
    "wrong", [{"route_at_once": 0}, {"source_at_once": 0}, {"source_per_second": 0.0}]
)
def test_limits_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="limits need"):
        Limits(**wrong)  # type: ignore[arg-type]


async def test_a_portal_with_a_limit_is_asked_about_as_fast_as_it_allows() -> None:
    """It lets this address ask 15 times a second. Two proxies begin at 13 times that, are
    refused, slow down by themselves, and are not refused for long: without that, each page would
    be refused a dozen times."""
    strict = ("--p429", "0", "--p403", "0", "--slow", "0", "--rate", "15", "--burst", "2")
    with portal(*strict, "--page-size", "30") as url:
        async with running_proxy() as one, running_proxy() as two:
            options = SourceOptions(
                proxies=tuple(parse_proxy(f"127.0.0.1:{p.port}") for p in (one, two)),
                pace=PaceSettings(start=100, minimum=1, maximum=100, increase=1),
                breaker=BreakerSettings(failures=100),
                retry=RetryPolicy(attempts=20, first_pause=0.05, longest_pause=0.2),
            )
            source = PortalSource(url, clock=SystemClock(), options=options)
            query = SearchQuery("98103", date(2014, 1, 1), date(2015, 12, 31))
            rows = [row async for batch in source.search(query) for row in batch]
            health = source.pool.health()
            await source.close()
    assert len(rows) == 600
    assert sum(h.successes for h in health) == 20
    assert 0 < sum(h.refusals for h in health) < 60
    assert all(1 <= h.rate < 100 for h in health)
