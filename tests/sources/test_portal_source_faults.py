"""The adapter when things go wrong: what is tried again, what is an error, what is NOT_FOUND."""

import json
import logging
import socket
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest
from portal_process import CALM, portal
from source_doubles import (
    DROP,
    HANG,
    ManualClock,
    client_stats,
    http,
    running_proxy,
    scripted_server,
)

from sn46.localnet.portal.catalog import detail, summary
from sn46.localnet.portal.homes import Home, Sale
from sn46.mechanism.names import ZipCode
from sn46.sources.base import (
    Blocked,
    Lookup,
    SearchQuery,
    SourceChanged,
    SourceUnavailable,
)
from sn46.sources.options import SourceOptions
from sn46.sources.politeness import PaceSettings, RetryPolicy
from sn46.sources.portal import PortalSource
from sn46.sources.proxies import parse_proxy
from sn46.sources.routes import BreakerSettings, Circuit
from sn46.sources.splitting import IncompleteSearch

YEARS = (date(2013, 1, 1), date(2016, 1, 1))
THREE = RetryPolicy(attempts=3, first_pause=1, longest_pause=4)
UNLIMITED = ("--rate", "1000000", "--burst", "1000000")
HOME = Home(
    id="7129300520",
    zipcode=ZipCode("98178"),
    city="Seattle",
    county="King County",
    sales=(Sale(date(2014, 10, 13), 221_900),),
    bedrooms=3,
    bathrooms=1.0,
    living_sqft=1180,
    lot_sqft=5650,
    floors=1.0,
    waterfront=False,
    view=0,
    condition=3,
    grade=7,
    above_sqft=1180,
    basement_sqft=0,
    year_built=1955,
    year_renovated=None,
    latitude=47.5112,
    longitude=-122.257,
)
FOUND_TEXT = orjson.dumps({"property": detail(HOME)})
FOUND = http(200, FOUND_TEXT)
NO_SUCH = http(404, '{"error": {"code": "no_such_property", "message": ""}}')
CAPTCHA = http(200, "<title>Captcha</title>", content_type="text/html")
LISTING = "portal:7129300520"


def source(url: str, clock: ManualClock, **options: Any) -> PortalSource:
    return PortalSource(url, clock=clock, options=SourceOptions(**{"retry": THREE, **options}))


def found_with(**changes: Any) -> bytes:
    return http(200, orjson.dumps({"property": {**detail(HOME), **changes}}))


@pytest.mark.parametrize(
    "trouble",
    [http(429), http(403), CAPTCHA, http(500), http(503, retry_after="1"), DROP],
    ids=["429", "403", "captcha", "500", "503", "drop"],
)
async def test_passing_trouble_is_tried_again(clock: ManualClock, trouble: bytes) -> None:
    async with scripted_server(trouble, trouble, FOUND) as server:
        one = source(server.url, clock)
        assert (await one.detail(LISTING)).lookup is Lookup.FOUND
        await one.close()
    assert len(server.requests) == 3
    assert 1.5 <= clock.total <= 3.3  # pauses of 0.5–1 and 1–2 s, and a slowed pace


@pytest.mark.parametrize(
    ("trouble", "error", "tries"),
    [
        (http(429), Blocked, 3),
        (http(403), Blocked, 3),
        (CAPTCHA, Blocked, 3),
        (http(500), SourceUnavailable, 3),
        (http(502, "<html>", content_type="text/html"), SourceUnavailable, 3),
        (DROP, SourceUnavailable, 3),
        (b"SSH-2.0-OpenSSH\r\n", SourceUnavailable, 3),
        (http(404), SourceChanged, 1),
        (http(404, "gone", content_type="text/plain"), SourceChanged, 1),
        (http(404, '{"error": {"code": "no_such_page"}}'), SourceChanged, 1),
        (http(404, '{"message": "no_such_property"}'), SourceChanged, 1),
        (http(404, "no_such_property", content_type="text/html"), SourceChanged, 1),
        (http(410, '{"error": {"code": "no_such_property"}}'), SourceChanged, 1),
        (http(200, '{"error": {"code": "no_such_property"}}'), SourceChanged, 1),
        (http(200, "<h1>Hello</h1>", content_type="text/html"), SourceChanged, 1),
        (http(200, "{"), SourceChanged, 1),
        (http(200, "null"), SourceChanged, 1),
        (http(200, b"\xff\xfe"), SourceChanged, 1),
        (http(200, b"no gzip", content_encoding="gzip"), SourceChanged, 1),
        (http(302, location="/login"), SourceChanged, 1),
        (http(400), SourceChanged, 1),
        (found_with(soldPrice="221900"), SourceChanged, 1),
        (found_with(soldPrice=221900.5), SourceChanged, 1),
        (found_with(soldDate="last week"), SourceChanged, 1),
        (found_with(postalCode="8178"), SourceChanged, 1),
        (found_with(beds="three"), SourceChanged, 1),
        (found_with(lotAreaUnit="hectares"), SourceChanged, 1),
        (found_with(propertyId=""), SourceChanged, 1),
        (found_with(detailUrl="http://["), SourceChanged, 1),
        (found_with(lotAreaValue=1e308, lotAreaUnit="acres"), SourceChanged, 1),
        (http(200, FOUND_TEXT.replace(b'"baths":', b'"baths":NaN,"x":')), SourceChanged, 1),
        (http(200, FOUND_TEXT.replace(b'"baths":', b'"baths":1e999,"x":')), SourceChanged, 1),
    ],
)
async def test_trouble_that_stays_is_an_error_and_never_not_found(
    clock: ManualClock, trouble: bytes, error: type[Exception], tries: int
) -> None:
    async with scripted_server(trouble) as server:
        one = source(server.url, clock)
        with pytest.raises(error):
            await one.detail(LISTING)
        await one.close()
    assert len(server.requests) == tries


async def test_only_the_portals_own_word_is_not_found(clock: ManualClock) -> None:
    async with scripted_server(http(403), NO_SUCH) as server:
        one = source(server.url, clock)
        assert (await one.detail(LISTING)).lookup is Lookup.NOT_FOUND
        await one.close()
    assert server.requests == ["GET /api/property?id=7129300520 HTTP/1.1"] * 2


async def test_a_record_keeps_the_id_that_it_names(clock: ManualClock) -> None:
    async with scripted_server(found_with(propertyId="0000000009", homeType="Castle")) as server:
        one = source(server.url, clock)
        row = (await one.detail(LISTING)).row
        await one.close()
    assert row is not None
    assert (row["listing_id"], row["property_type"]) == ("portal:0000000009", "OTHER")


async def test_lots_in_acres_and_gaps_are_mapped(clock: ManualClock) -> None:
    gaps = {"beds": None, "location": None, "yearBuilt": None}
    acres = found_with(lotAreaValue=1.5, lotAreaUnit="acres", hoaMonthlyFee=25, **gaps)
    async with scripted_server(acres, found_with(lotAreaValue=None, lotAreaUnit=None)) as server:
        one = source(server.url, clock)
        row, bare = (await one.detail(LISTING)).row, (await one.detail(LISTING)).row
        await one.close()
    assert row is not None
    assert bare is not None
    assert (row["lot_sqft"], row["hoa_fee_monthly"], bare["lot_sqft"]) == (65_340, 25, None)
    assert [row[c] for c in ("bedrooms", "latitude", "longitude", "year_built")] == [None] * 4


async def test_an_answer_that_never_comes_is_a_time_out(clock: ManualClock) -> None:
    async with scripted_server(HANG, FOUND) as server:
        one = source(server.url, clock, timeout=0.15)
        assert (await one.detail(LISTING)).lookup is Lookup.FOUND
        await one.close()
    async with scripted_server(HANG) as server:
        one = source(server.url, clock, timeout=0.05)
        with pytest.raises(SourceUnavailable, match=r"did not answer within 0\.05 s"):
            await one.detail(LISTING)
        await one.close()


async def test_nobody_listening_is_unavailable(clock: ManualClock) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        one = source(f"http://127.0.0.1:{held.getsockname()[1]}", clock)
        with pytest.raises(SourceUnavailable, match="ConnectError"):
            await one.detail(LISTING)
        await one.close()


async def test_retry_after_is_waited_for(clock: ManualClock) -> None:
    async with scripted_server(http(429, retry_after="7"), FOUND) as server:
        one = source(server.url, clock)
        assert (await one.detail(LISTING)).lookup is Lookup.FOUND
        await one.close()
    assert 7 <= clock.total <= 8


async def test_a_wait_too_long_is_handed_to_the_caller(clock: ManualClock) -> None:
    async with scripted_server(http(429, retry_after="3600")) as server:
        one = source(server.url, clock)
        with pytest.raises(Blocked, match="429") as blocked:
            await one.detail(LISTING)
        await one.close()
    assert blocked.value.retry_after == 3600
    assert (len(server.requests), clock.total) == (1, 0)


async def collect(source: PortalSource, rows: list[Any]) -> None:
    async for batch in source.search(SearchQuery("98178", *YEARS)):
        rows += batch


def page_of(*homes: Any) -> bytes:
    counts = {"totalResults": len(homes), "resultLimit": 1000, "pageSize": 40, "page": 1}
    return http(200, json.dumps({**counts, "homes": homes}))


@pytest.mark.parametrize(
    "odd",
    [
        {"soldPrice": None},
        {"lotAreaUnit": "hectares"},
        {"detailUrl": "http://["},
    ],
)
async def test_a_bad_row_costs_itself_alone_and_is_told(
    clock: ManualClock, odd: dict[str, Any]
) -> None:
    bad, found = {**summary(HOME), **odd, "propertyId": "2"}, list[Any]()
    async with scripted_server(page_of(bad, summary(HOME))) as server:
        one = source(server.url, clock)
        with pytest.raises(IncompleteSearch, match="1 are missing"):
            await collect(one, found)
        await one.close()
    assert [row["listing_id"] for row in found] == [LISTING]


async def test_bad_rows_that_are_most_of_a_page_are_named(clock: ManualClock) -> None:
    bad = {**summary(HOME), "soldPrice": None}
    async with scripted_server(page_of(summary(HOME), bad, bad)) as server:
        one = source(server.url, clock)
        with pytest.raises(SourceChanged, match=r"soldPrice.*entry 1"):
            await anext(aiter(one.search(SearchQuery("98178", *YEARS))))
        await one.close()


async def test_homes_of_other_zips_that_a_portal_suggests_are_left_out(clock: ManualClock) -> None:
    rows = [summary(HOME), {**summary(HOME), "propertyId": "1", "postalCode": "98055"}]
    page = {"totalResults": 2, "resultLimit": 1000, "pageSize": 40, "page": 1, "homes": rows}
    async with scripted_server(http(200, orjson.dumps(page))) as server:
        one = source(server.url, clock)
        batches = [b async for b in one.search(SearchQuery("98178", *YEARS))]
        await one.close()
    assert [[row["listing_id"] for row in batch] for batch in batches] == [[LISTING]]


async def test_a_stormy_portal_is_searched_to_the_end(clock: ManualClock) -> None:
    stormy = ("--p429", "0.15", "--p403", "0.1", "--captcha", "0.1", "--slow", "0")
    with portal(*UNLIMITED, *stormy) as url:
        one = source(url, clock, retry=RetryPolicy(attempts=12), local_address="127.0.7.8")
        rows = [r async for b in one.search(SearchQuery("98103", *YEARS)) for r in b]
        (health,) = one.pool.health()
        await one.close()
        clients = await client_stats(url)
    assert len({row["listing_id"] for row in rows}) == len(rows) == 600
    assert list(clients) == ["127.0.7.8"]
    refused = sum(clients["127.0.7.8"]["faults"].values())
    assert refused == health.failures > 0
    assert clients["127.0.7.8"]["requests"] == refused + 15


async def test_a_zip_that_is_always_refused_is_blocked_within_bounds(
    clock: ManualClock, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"127.0.0.14": {"fail_zipcodes": ["98103"]}}))
    with portal(*CALM, "--client-rules", str(rules)) as url:
        one = source(url, clock, local_address="127.0.0.14")
        with pytest.raises(Blocked, match="403"):
            await anext(aiter(one.search(SearchQuery("98103", *YEARS))))
        rows = [r async for b in one.search(SearchQuery("98039", *YEARS)) for r in b]
        await one.close()
        clients = await client_stats(url)
    assert len(rows) == 49
    assert clients["127.0.0.14"]["statuses"] == {"200": 2, "403": 3}


async def test_requests_go_through_a_proxy_with_its_credentials(
    calm_portal: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="httpx")
    caplog.set_level(logging.DEBUG, logger="sn46")
    async with running_proxy("ann:s3cret") as proxy:
        way = parse_proxy(f"127.0.0.1:{proxy.port}:ann:s3cret")
        one = source(calm_portal, clock, proxies=(way,))
        assert (await one.detail(LISTING)).lookup is Lookup.FOUND
        await one.close()
    assert proxy.forwarded == [f"{calm_portal}/api/property?id=7129300520"]
    assert "s3cret" not in caplog.text


async def test_a_proxy_that_refuses_its_credentials_says_nothing_of_the_home(
    calm_portal: str, clock: ManualClock
) -> None:
    async with running_proxy("ann:right") as proxy:
        way = parse_proxy(f"http://ann:s3cret@127.0.0.1:{proxy.port}")
        one = source(calm_portal, clock, proxies=(way,))
        with pytest.raises(SourceUnavailable, match="does not accept its credentials") as raised:
            await one.detail(LISTING)
        await one.close()
    assert "s3cret" not in str(raised.value)


async def test_a_dead_proxy_and_a_blocked_one_rest_while_another_works(
    calm_portal: str, clock: ManualClock
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{held.getsockname()[1]}"
        async with running_proxy(answers=[http(403)] * 100) as blocked, running_proxy() as good:
            ways = [parse_proxy(dead)]
            ways += [parse_proxy(f"127.0.0.1:{p.port}") for p in (blocked, good)]
            breaker = BreakerSettings(failures=2, rest=600, longest_rest=600)
            one = source(calm_portal, clock, proxies=tuple(ways), breaker=breaker)
            for _ in range(10):
                assert (await one.detail(LISTING)).lookup is Lookup.FOUND
            health = one.pool.health()
            await one.close()
    assert [h.circuit for h in health] == [Circuit.OPEN, Circuit.OPEN, Circuit.CLOSED]
    assert [h.failures for h in health] == [2, 2, 0]
    assert len(good.forwarded) == 10


async def test_when_every_proxy_rests_the_caller_learns_for_how_long(
    calm_portal: str, clock: ManualClock
) -> None:
    async with running_proxy(answers=[http(403)] * 100) as blocked:
        breaker = BreakerSettings(failures=1, rest=300, longest_rest=300)
        ways = (parse_proxy(f"127.0.0.1:{blocked.port}"),)
        one = source(calm_portal, clock, proxies=ways, breaker=breaker)
        with pytest.raises(Blocked, match="Every proxy rests") as raised:
            await one.detail(LISTING)
        await one.close()
    assert raised.value.retry_after == pytest.approx(300, abs=2)


async def test_a_short_rest_is_waited_for(calm_portal: str, clock: ManualClock) -> None:
    async with running_proxy(answers=[http(403)]) as proxy:
        breaker = BreakerSettings(failures=1, rest=20, longest_rest=20)
        pace = PaceSettings(longest_hold=60)
        ways = (parse_proxy(f"127.0.0.1:{proxy.port}"),)
        one = source(calm_portal, clock, proxies=ways, breaker=breaker, pace=pace)
        assert (await one.detail(LISTING)).lookup is Lookup.FOUND
        await one.close()
    assert 19 <= clock.total <= 22
