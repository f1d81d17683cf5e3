"""Proxies: how they are written, kept secret, and rested."""

import pickle
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from source_doubles import ManualClock

from sn46.sources.politeness import PaceSettings
from sn46.sources.proxies import (
    AllResting,
    BreakerSettings,
    Circuit,
    Proxy,
    ProxyError,
    ProxyPool,
    parse_proxy,
    proxies_from,
    proxies_from_setting,
    read_proxy_file,
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
    ["", "proxy.example", "socks5://h:1", "http://s3cret@h", "http://ann:s3cret@h:70000", "::1"],
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
