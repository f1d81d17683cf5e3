"""Zillow over loopback: rows, whole searches, details, and what is no statement about a home."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from site_doubles import (
    CAPTCHA,
    CUT_OFF,
    JSON_WALL,
    Site,
    milliseconds,
    property_page,
    serving,
    zillow,
    zillow_home,
    zillow_result,
)
from source_doubles import DROP, HANG, ManualClock, http, running_proxy

from sn46.mechanism.listings import COLUMNS, PROPERTY_TYPES, listings_frame
from sn46.mechanism.verdicts import Verdict, compare
from sn46.sources.base import (
    Blocked,
    Lookup,
    SearchQuery,
    SourceChanged,
    SourceError,
    SourceUnavailable,
)
from sn46.sources.bodies import MOST_BYTES
from sn46.sources.browser import BrowserTransport
from sn46.sources.fetch import plain_transport
from sn46.sources.options import SourceOptions
from sn46.sources.politeness import PaceSettings, RetryPolicy
from sn46.sources.proxies import parse_proxy
from sn46.sources.remembering import MOST_ODD
from sn46.sources.splitting import IncompleteSearch
from sn46.sources.zillow import ZillowSource
from sn46.sources.zillow_records import EVENTS, Event, Property, monthly_fee, property_row

TODAY = date(2026, 3, 1)
QUERY = SearchQuery("98101", TODAY - timedelta(days=1094), TODAY)
THREE = RetryPolicy(attempts=3, first_pause=1, longest_pause=4)
ONE = zillow_home(101, "98101", 925_000, date(2026, 2, 10))
SEARCH, DETAIL, REGION = "/async-create", "/homedetails/", "/homes/"
PAYLOADS = Path(__file__).parents[3] / "shared" / "data" / "zillow_payloads"


@asynccontextmanager
async def opened(
    clock: ManualClock,
    homes: list[dict[str, Any]],
    *,
    size: int = 41,
    pages: int = 20,
    transport: Any = plain_transport,
    **options: Any,
) -> AsyncIterator[tuple[Site, ZillowSource]]:
    async with serving(zillow(homes, TODAY, size=size, pages=pages)) as site:
        source = ZillowSource(
            site.url,
            clock=clock,
            options=SourceOptions(**{"retry": THREE, **options}),
            transport=transport,
        )
        try:
            yield site, source
        finally:
            await source.close()


async def found(source: ZillowSource, query: SearchQuery = QUERY) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    await collect(source, rows, query)
    return rows


async def collect(
    source: ZillowSource, rows: list[dict[str, Any]], query: SearchQuery = QUERY
) -> None:
    async for batch in source.search(query):
        rows += batch


@pytest.mark.parametrize("transport", [plain_transport, BrowserTransport])
async def test_a_sale_becomes_a_row_of_the_schema(clock: ManualClock, transport: Any) -> None:
    async with opened(clock, [ONE], transport=transport) as (site, source):
        (row,) = await found(source)
        detail = await source.detail("zillow:101")
    assert compare(row, detail.row) == (Verdict.CONFIRMED, "")
    assert row == {
        "listing_id": "zillow:101",
        "source": "zillow",
        "source_url": f"{site.url}/homedetails/101-Alder-St/101_zpid/",
        "address": "101 Alder St UNIT 3",
        "city": "Seattle",
        "state": "WA",
        "zipcode": "98101",
        "property_type": "CONDO",
        "sale_price": 925_000,
        "sale_date": date(2026, 2, 10),
        "scraped_at": row["scraped_at"],
        "bedrooms": 2,
        "bathrooms": 2.0,
        "living_area_sqft": 1408,
        "lot_sqft": 15_390,
        "latitude": 47.61,
        "longitude": -122.33,
    } | dict.fromkeys(set(COLUMNS) - SHOWN_BY_SEARCH)
    assert detail.lookup is Lookup.FOUND
    assert detail.row is not None
    assert {key: detail.row[key] for key in SHOWN_BY_SEARCH - {"lot_sqft", "scraped_at"}} == {
        key: row[key] for key in SHOWN_BY_SEARCH - {"lot_sqft", "scraped_at"}
    }
    assert {key: detail.row[key] for key in set(COLUMNS) - SHOWN_BY_SEARCH} == {
        "year_built": 1986,
        "list_price": None,
        "days_on_market": None,
        "hoa_fee_monthly": 204,
        "parcel_id": "0123",
        "mls_id": None,
        "stories": 2.0,
        "garage_spaces": 1,
        "tax_assessed_value": 400_400,
        "county": "King County",
    }
    assert listings_frame([row, dict(detail.row)]).height == 2


SHOWN_BY_SEARCH = {
    "listing_id", "source", "source_url", "address", "city", "state", "zipcode", "property_type",
    "sale_price", "sale_date", "scraped_at", "bedrooms", "bathrooms", "living_area_sqft",
    "lot_sqft", "latitude", "longitude",
}  # fmt: skip


async def test_a_zip_with_five_thousand_sales_comes_out_whole(clock: ManualClock) -> None:
    homes = [
        zillow_home(n, "98101", 100_000 + (n * n * 7919) % 2_900_000, TODAY - timedelta(n % 1090))
        for n in range(1, 5001)
    ]
    async with opened(clock, homes, size=50) as (site, source):
        rows = await found(source)
    assert sorted(row["listing_id"] for row in rows) == sorted(
        f"zillow:{n}" for n in range(1, 5001)
    )
    # 100 pages of 50 hold them; the cuts cost the rest.
    assert site.count(SEARCH) < 200
    assert site.count(REGION) == 1


async def test_what_cannot_be_cut_further_is_told(clock: ManualClock) -> None:
    homes = [zillow_home(n, "98101", 500_000, TODAY) for n in range(1, 51)]
    async with opened(clock, homes, size=10, pages=2) as (_, source):
        rows: list[Any] = []
        with pytest.raises(IncompleteSearch) as told:
            await collect(source, rows)
    assert (len(rows), told.value.found, told.value.missing) == (20, 20, 30)


async def test_only_sales_of_the_query_are_given(clock: ManualClock) -> None:
    old = zillow_home(2, "98101", 500_000, TODAY - timedelta(days=400))
    secret = zillow_home(3, "98101", None, TODAY)
    elsewhere = zillow_home(4, "98102", 500_000, TODAY)
    query = SearchQuery("98101", TODAY - timedelta(days=300), TODAY)
    async with opened(clock, [ONE, old, secret, elsewhere]) as (site, source):
        assert [row["listing_id"] for row in await found(source, query)] == ["zillow:101"]
    (search,) = [asked for asked in site.asked if asked.path.startswith(SEARCH)]
    assert search.json["searchQueryState"]["filterState"]["doz"] == {"value": "12m"}


async def test_an_empty_zip_is_empty_and_an_unknown_one_an_error(clock: ManualClock) -> None:
    async with opened(clock, [ONE]) as (_, source):
        assert await found(source, SearchQuery("98199", QUERY.sold_from, TODAY)) == []
        with pytest.raises(SourceChanged, match="no region for the ZIP 00000"):
            await found(source, SearchQuery("00000", QUERY.sold_from, TODAY))


async def test_buildings_and_suggestions_are_no_sales(clock: ManualClock) -> None:
    building = {"buildingId": "47.6--122.3", "isBuilding": True, "statusType": "SOLD"}
    suggested = zillow_result(zillow_home(9, "98101", 1, TODAY)) | {"relaxed": True}
    results = [building, zillow_result(ONE), suggested]
    counts = {"totalResultCount": 2, "resultsPerPage": 41, "totalPages": 1}
    answer = {"cat1": {"searchResults": {"listResults": results}, "searchList": counts}}
    async with opened(clock, []) as (site, source):
        site.always[SEARCH] = http(200, json.dumps(answer))
        assert [row["listing_id"] for row in await found(source)] == ["zillow:101"]


async def test_details_fill_rows_and_their_failure_loses_none(clock: ManualClock) -> None:
    homes = [zillow_home(n, "98101", 500_000 + n, TODAY) for n in (1, 2, 3)]
    async with opened(clock, homes, fetch_details=True) as (site, source):
        rows = await found(source)
        assert [row["year_built"] for row in rows] == [1986] * 3
        site.always["/homedetails/2_"] = http(403)
        kept: list[Any] = []
        with pytest.raises(Blocked):
            await collect(source, kept)
        assert [row["year_built"] for row in kept] == [1986, None, None]


async def test_an_odd_page_of_one_home_does_not_end_the_search(clock: ManualClock) -> None:
    homes = [zillow_home(n, "98101", 500_000 + n, TODAY) for n in range(1, 10)]
    async with opened(clock, homes, size=3, fetch_details=True) as (site, source):
        site.always["/homedetails/2_"] = http(301, location="/homedetails/x/1_zpid/")
        site.always["/homedetails/5_"] = property_page(homes[4] | {"livingAreaUnits": "Tatami"})
        rows = {row["listing_id"]: row["year_built"] for row in await found(source)}
        assert len(rows) == 9
        assert [name for name, year in rows.items() if year is None] == ["zillow:2", "zillow:5"]


async def test_odd_pages_of_all_homes_end_it(clock: ManualClock) -> None:
    homes = [zillow_home(n, "98101", 500_000 + n, TODAY) for n in range(1, 10)]
    async with opened(clock, homes, size=3, fetch_details=True) as (site, source):
        site.always[DETAIL] = http(200, "<html>Welcome</html>", content_type="text/html")
        rows: list[Any] = []
        with pytest.raises(SourceChanged, match="carries no data"):
            await collect(source, rows)
        assert (len(rows), site.count(DETAIL)) == (6, MOST_ODD)


PASSING = [
    http(403),
    http(429, retry_after="7"),
    CAPTCHA,
    JSON_WALL,
    http(307, location="/captchaPerimeterX/?url=x"),
    http(503),
    DROP,
]


@pytest.mark.parametrize("transport", [plain_transport, BrowserTransport])
@pytest.mark.parametrize("path", [REGION, SEARCH, DETAIL])
async def test_passing_trouble_is_waited_out(clock: ManualClock, path: str, transport: Any) -> None:
    retry = RetryPolicy(attempts=len(PASSING) + 1, first_pause=1, longest_pause=4)
    async with opened(clock, [ONE], transport=transport, retry=retry) as (site, source):
        site.faults = [(path, trouble) for trouble in PASSING]
        assert len(await found(source)) == 1
        assert (await source.detail("zillow:101")).lookup is Lookup.FOUND
    assert clock.total > 7


@pytest.mark.parametrize("transport", [plain_transport, BrowserTransport])
async def test_odd_headers_spoil_no_later_request(clock: ManualClock, transport: Any) -> None:
    odd = http(
        503, set_cookie="a=\u00fc; Path=/", x_odd="\u00fc", retry_after="Sun, 1 Mar 2026 0:0 +9e9"
    )
    async with opened(clock, [ONE], transport=transport) as (site, source):
        site.faults = [(REGION, odd), (SEARCH, odd)]
        assert len(await found(source)) == 1
        assert (await source.detail("zillow:101")).lookup is Lookup.FOUND


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (http(403), Blocked),
        (http(429, retry_after="5"), Blocked),
        (CAPTCHA, Blocked),
        (JSON_WALL, Blocked),
        (http(500), SourceUnavailable),
        (DROP, SourceUnavailable),
        (CUT_OFF, SourceChanged),
        (http(200, '{"cat1": {"searchResults": NaN}}'), SourceChanged),
        (http(200, '{"cat1": {}}'), SourceChanged),
        (http(200, "[]"), SourceChanged),
        (http(200, "<html>Welcome</html>", content_type="text/html"), SourceChanged),
        (http(302, location="https://elsewhere.test/"), SourceChanged),
        (http(301, location="/homedetails/101_zpid/"), SourceChanged),
        (http(404), SourceChanged),
        (http(404, "<html>404</html>", content_type="text/html"), SourceChanged),
        (http(410), SourceChanged),
        (property_page(None), SourceChanged),
        (property_page(ONE | {"zipcode": 98101}), SourceChanged),
        (property_page(ONE | {"livingAreaUnits": "Tatami"}), SourceChanged),
        (property_page(ONE | {"priceHistory": [{"date": "soon", "event": "Sold"}]}), SourceChanged),
        (property_page({k: v for k, v in ONE.items() if k != "homeType"}), SourceChanged),
        (property_page(ONE | {"lastSoldPrice": 10**400}), SourceChanged),
        (property_page(ONE | {"lotAreaValue": 1e308, "lotAreaUnits": "acres"}), SourceChanged),
        (property_page(ONE | {"hdpUrl": "http://["}), SourceChanged),
        (http(301, location="http://["), SourceChanged),
    ],
)
@pytest.mark.parametrize("path", [SEARCH, DETAIL])
async def test_lasting_trouble_is_an_error_and_never_not_found(
    clock: ManualClock, path: str, trouble: bytes, error: type[SourceError]
) -> None:
    async with opened(clock, [ONE]) as (site, source):
        site.always[path] = trouble
        with pytest.raises(error) as raised:
            await (found(source) if path == SEARCH else source.detail("zillow:101"))
    assert type(raised.value) is error


async def test_a_long_retry_after_is_told(clock: ManualClock) -> None:
    async with opened(clock, [ONE]) as (site, source):
        site.always[SEARCH] = http(429, retry_after="3600")
        with pytest.raises(Blocked) as raised:
            await found(source)
    assert raised.value.retry_after == 3600
    assert site.count(SEARCH) == 1


def search_answer(results: list[Any], total: int = 1) -> bytes:
    counts = {"totalResultCount": total, "resultsPerPage": 41, "totalPages": 1}
    whole = {"cat1": {"searchResults": {"listResults": results}, "searchList": counts}}
    return http(200, json.dumps(whole))


def renamed(old: str, new: str) -> dict[str, Any]:
    return json.loads(json.dumps(zillow_result(ONE)).replace(f'"{old}"', f'"{new}"'))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (search_answer([], total=7), "counts 7 homes and shows none"),
        (search_answer([renamed("dateSold", "soldOn")]), "no day of sale"),
        (search_answer([renamed("SOLD", "OFF_MARKET")]), "no day of sale"),
        (search_answer([renamed("98101", "10001")]), "1 homes elsewhere"),
        (search_answer([renamed("homeInfo", "info")]), "homeInfo"),
        (search_answer([zillow_result(ONE) | {"unformattedPrice": "925000"}]), "unformattedPrice"),
        (search_answer([zillow_result(ONE | {"dateSold": 10**20})]), "which is none"),
        (search_answer([zillow_result(ONE) | {"unformattedPrice": 10**400}]), "finite number"),
        (search_answer([zillow_result(ONE | {"hdpUrl": "http://["})]), "which is none"),
    ],
)
async def test_changed_fields_are_an_error_and_no_empty_zip(
    clock: ManualClock, answer: bytes, said: str
) -> None:
    async with opened(clock, [ONE]) as (site, source):
        site.always[SEARCH] = answer
        with pytest.raises(SourceChanged, match=said):
            await found(source)


@pytest.mark.parametrize(
    "odd",
    [
        {"unformattedPrice": "925000"},
        {"detailUrl": "http://["},
        {"hdpData": {"homeInfo": {"lotAreaValue": 3, "lotAreaUnit": "Tatami"}}},
        {"hdpData": {"homeInfo": {"dateSold": 10**20}}},
    ],
)
async def test_one_odd_home_costs_itself_alone_and_is_told(
    clock: ManualClock, odd: dict[str, Any]
) -> None:
    homes = [ONE, ONE | {"zpid": 102}]
    results = [*map(zillow_result, homes), zillow_result(ONE | {"zpid": 103}) | odd]
    rows: list[dict[str, Any]] = []
    async with opened(clock, [ONE]) as (site, source):
        site.always[SEARCH] = search_answer(results, total=3)
        with pytest.raises(IncompleteSearch, match="1 are missing"):
            await collect(source, rows)
    assert [row["listing_id"] for row in rows] == ["zillow:101", "zillow:102"]


ENDLESS = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\n\r\n" + b" " * (MOST_BYTES + 1)
BOMB = http(200, gzip.compress(b" " * (MOST_BYTES + 1)), content_encoding="gzip")
BOMBS = http(200, gzip.compress(gzip.compress(b"{}")), content_encoding="gzip, gzip")


@pytest.mark.parametrize(
    ("transport", "body"),
    [
        (plain_transport, ENDLESS),
        (plain_transport, BOMB),
        (plain_transport, BOMBS),
        (BrowserTransport, ENDLESS),
        (BrowserTransport, BOMB),
    ],
)
async def test_no_answer_is_read_beyond_its_limit(
    clock: ManualClock, transport: Any, body: bytes
) -> None:
    async with opened(clock, [ONE], transport=transport) as (site, source):
        site.always[SEARCH] = body
        with pytest.raises(SourceChanged, match="could not be asked or read"):
            await found(source)


@pytest.mark.parametrize("piece", [b"<script ", b'<script id="__NEXT_DATA__">'])
async def test_a_page_of_beginnings_is_read_once(clock: ManualClock, piece: bytes) -> None:
    async with opened(clock, [ONE]) as (site, source):
        site.always[DETAIL] = http(200, piece * 200_000, content_type="text/html")
        with pytest.raises(SourceChanged, match="carries no data"):
            await source.detail("zillow:101")


async def test_packed_answers_are_unpacked(clock: ManualClock) -> None:
    text = search_answer([zillow_result(ONE)]).partition(b"\r\n\r\n")[2]
    bare = zlib.compressobj(wbits=-15)
    forms = {
        "gzip": gzip.compress(text),
        "deflate": zlib.compress(text),
        "Deflate": bare.compress(text) + bare.flush(),
        "identity": text,
    }
    async with opened(clock, [ONE]) as (site, source):
        for encoding, packed in forms.items():
            site.always[SEARCH] = http(200, packed, content_encoding=encoding)
            assert len(await found(source)) == 1
        site.always[SEARCH] = http(200, forms["gzip"][:-9], content_encoding="gzip")
        with pytest.raises(SourceChanged):
            await found(source)


async def test_not_found_is_zillows_own_word(clock: ManualClock) -> None:
    async with opened(clock, [ONE]) as (site, source):
        assert (await source.detail("zillow:999")).lookup is Lookup.NOT_FOUND
        before = len(site.asked)
        for invented in ("abc", "", "12 34", "1" * 13, "٣", "1/../2"):
            assert (await source.detail(f"zillow:{invented}")).lookup is Lookup.NOT_FOUND
        assert len(site.asked) == before
        with pytest.raises(SourceError, match="another source"):
            await source.detail("realtor:101")


async def test_another_record_under_an_id_is_shown_as_it_is(clock: ManualClock) -> None:
    async with opened(clock, [ONE]) as (site, source):
        site.always["/homedetails/55_"] = property_page(ONE)
        detail = await source.detail("zillow:55")
        assert detail.row is not None
        assert detail.row["listing_id"] == "zillow:101"
        # A home that Zillow moved to another number is no forgery.
        site.always["/homedetails/56_"] = http(301, location="/homedetails/x/101_zpid/")
        with pytest.raises(SourceChanged, match="from 56 to 101"):
            await source.detail("zillow:56")


async def test_zillow_is_never_asked_faster_than_its_pace(clock: ManualClock) -> None:
    homes = [zillow_home(n, "98101", 500_000, TODAY) for n in range(1, 31)]
    pace = PaceSettings(start=50, maximum=50)
    async with opened(clock, homes, fetch_details=True, pace=pace) as (site, source):
        await found(source)
    assert clock.total >= len(site.asked) - 2


@pytest.mark.parametrize("transport", [plain_transport, BrowserTransport])
async def test_proxies_take_over_from_one_that_is_refused(
    clock: ManualClock, transport: Any
) -> None:
    async with running_proxy("u:s3cret", [http(403)] * 9) as bad, running_proxy("u:s3cret") as good:
        proxies = tuple(parse_proxy(f"http://u:s3cret@127.0.0.1:{p.port}") for p in (bad, good))
        async with opened(clock, [ONE], transport=transport, proxies=proxies) as (_, source):
            assert (await source.detail("zillow:101")).lookup is Lookup.FOUND
    assert good.forwarded


@pytest.mark.parametrize(
    ("transport", "error"), [(plain_transport, "ConnectError"), (BrowserTransport, "ConnectError")]
)
async def test_a_host_that_is_not_there_is_unavailable(
    clock: ManualClock, transport: Any, error: str
) -> None:
    async with opened(clock, [ONE]) as (site, _):
        url = site.url
    options = SourceOptions(retry=RetryPolicy(attempts=1))
    source = ZillowSource(url, clock=clock, options=options, transport=transport)
    with pytest.raises(SourceUnavailable, match=error):
        await source.detail("zillow:1")
    await source.close()


async def test_a_browser_is_what_the_site_sees(clock: ManualClock) -> None:
    async with opened(clock, [ONE], transport=BrowserTransport) as (site, source):
        site.faults = [
            (DETAIL, http(301, location="/homedetails/x/101_zpid/", set_cookie="a=b; Path=/"))
        ]
        await source.detail("zillow:101")
        await found(source)
    agents = {asked.headers["user-agent"] for asked in site.asked}
    assert len(agents) == 1
    assert "Chrome" in agents.pop()
    assert site.asked[1].headers["cookie"] == "a=b"
    assert site.asked[-1].headers["content-type"] == "application/json"


BROKEN_OFF = http(200, "x" * 9).replace(b"Content-Length: 9", b"Content-Length: 99")


@pytest.mark.parametrize("transport", [plain_transport, BrowserTransport])
@pytest.mark.parametrize("trouble", [HANG, DROP, BROKEN_OFF, b"SSH-2.0-OpenSSH\r\n"])
async def test_a_broken_connection_is_unavailable(
    clock: ManualClock, trouble: bytes, transport: Any
) -> None:
    retry = RetryPolicy(attempts=1)
    async with opened(clock, [ONE], transport=transport, retry=retry, timeout=0.5) as (
        site,
        source,
    ):
        site.always[DETAIL] = trouble
        with pytest.raises(SourceUnavailable):
            await source.detail("zillow:101")
        del site.always[DETAIL]
        assert (await source.detail("zillow:101")).lookup is Lookup.FOUND


@pytest.mark.parametrize("transport", [plain_transport, BrowserTransport])
async def test_it_asks_from_the_address_that_it_is_given(
    clock: ManualClock, transport: Any
) -> None:
    options = {"local_address": "127.0.0.44"}
    async with opened(clock, [ONE], transport=transport, **options) as (site, source):
        await source.detail("zillow:101")
    assert {asked.peer for asked in site.asked} == {"127.0.0.44"}


def history(*entries: tuple[str, str, int | None], **more: Any) -> Property:
    told = [{"date": day, "event": event, "price": price} for day, event, price in entries]
    return Property.model_validate(ONE | {"priceHistory": told, "dateSold": None} | more)


@pytest.mark.parametrize(
    ("home", "sale"),
    [
        # the newest sale, from the offer on: 26 June − 7 June = 19 days
        (
            history(
                ("2024-10-28", "Listed for sale", 650_000),
                ("2024-06-26", "Sold", 635_000),
                ("2024-06-10", "Contingent", 630_000),
                ("2024-06-09", "Price change", 630_000),
                ("2024-06-07", "Listed for sale", 640_000),
                ("2019-01-01", "Sold", 400_000),
            ),
            (date(2024, 6, 26), 635_000, 630_000, 19),
        ),
        # the public record's entry without a price, and the MLS's of the same sale with one
        (
            history(("2024-06-28", "Sold", None), ("2024-06-26", "Sold", 635_000)),
            (date(2024, 6, 28), 635_000, None, None),
        ),
        # a secret price is not an earlier sale's
        (
            history(("2024-06-28", "Sold", None), ("2015-06-26", "Sold", 300_000)),
            (date(2024, 6, 28), None, None, None),
        ),
        # rents are no asking prices
        (
            history(
                ("2024-06-26", "Sold", 635_000),
                ("2024-05-01", "Price change", 1_790),
                ("2024-04-01", "Listed for rent", 1_900),
                ("2023-01-01", "Listed for sale", 700_000),
            ),
            (date(2024, 6, 26), 635_000, None, None),
        ),
        # an offer withdrawn long before is another one; one that ends with the sale is not
        (
            history(
                ("2024-06-26", "Sold", 635_000),
                ("2023-05-01", "Listing removed", 700_000),
                ("2023-01-01", "Listed for sale", 700_000),
            ),
            (date(2024, 6, 26), 635_000, None, None),
        ),
        (
            history(
                ("2024-06-26", "Sold", 635_000),
                ("2024-06-20", "Listing removed", 700_000),
                ("2024-06-16", "Listed for sale", 700_000),
            ),
            (date(2024, 6, 26), 635_000, 700_000, 10),
        ),
        # no history: what the record says of the last sale
        (
            history(dateSold=milliseconds(date(2024, 6, 26)), lastSoldPrice=635_000),
            (date(2024, 6, 26), 635_000, None, None),
        ),
        (history(("2024-06-26", "Listed for sale", 1)), (None, None, None, None)),
    ],
)
def test_a_price_history_tells_the_newest_sale(home: Property, sale: tuple[Any, ...]) -> None:
    row = property_row(home, "https://z.test", ManualClock().now())
    assert (row["sale_date"], row["sale_price"], row["list_price"], row["days_on_market"]) == sale


def test_a_window_finds_the_sale_within_it() -> None:
    home = history(("2025-06-26", "Sold", 900_000), ("2024-06-26", "Sold", 635_000))
    now, url = ManualClock().now(), "https://z.test"
    until = property_row(home, url, now, date(2023, 1, 1), date(2024, 12, 31))
    assert (until["sale_date"], until["sale_price"]) == (date(2024, 6, 26), 635_000)
    assert property_row(home, url, now, date(2025, 7, 1))["sale_price"] is None


@pytest.mark.parametrize(
    ("text", "dollars"),
    [
        ("$514 monthly", 514),
        ("$2,772 monthly", 2772),
        ("$410 annually", 34),
        ("$612 quarterly", 204),
        ("$99.50 monthly", 100),
        ("$600 semi-annually", 100),
        ("$25 one time", None),
        ("no fee", None),
        ("$, monthly", None),
        (None, None),
        ("$1" + " " * 1_000_000 + "monthly", None),
    ],
)
def test_fees_are_dollars_a_month(text: str | None, dollars: int | None) -> None:
    assert monthly_fee(text) == dollars


@pytest.mark.skipif(not PAYLOADS.is_dir(), reason="the recorded answers are not here")
def test_every_recorded_answer_maps_to_the_schema() -> None:
    told = [json.loads(path.read_text()) for path in sorted(PAYLOADS.glob("[0-9]*.json"))]
    rows = [property_row(Property.model_validate(t), "https://z.test", NOW) for t in told]
    assert len(rows) == 61
    assert listings_frame(rows).height == 61
    assert {event["event"] for t in told for event in t["priceHistory"]} <= set(EVENTS)
    for row, record in zip(rows, told, strict=True):
        assert row["property_type"] in set(PROPERTY_TYPES) - {"OTHER"}
        assert row["listing_id"] == f"zillow:{record['zpid']}"
        assert row["bedrooms"] == record["bedrooms"]
        assert row["living_area_sqft"] is None or 100 <= row["living_area_sqft"] <= 50_000
        assert row["lot_sqft"] is None or 100 <= row["lot_sqft"] <= 20_000_000
        assert row["year_built"] is None or 1800 <= row["year_built"] <= 2027
        assert row["hoa_fee_monthly"] is None or 0 <= row["hoa_fee_monthly"] <= 20_000
        assert row["days_on_market"] is None or 0 <= row["days_on_market"] <= 2000
        sold = [e for e in record["priceHistory"] if EVENTS[e["event"]] is Event.SALE]
        assert row["sale_date"] == (date.fromisoformat(sold[0]["date"]) if sold else None)
        if sold and sold[0]["price"]:
            assert row["sale_price"] == sold[0]["price"]
    # What the recorded homes have: a floor under what is understood of them.
    filled = {name: sum(row[name] is not None for row in rows) for name in COLUMNS}
    assert filled["lot_sqft"] == sum(t["resoFacts"]["lotSize"] is not None for t in told)
    assert filled["hoa_fee_monthly"] == 43
    assert filled["parcel_id"] == 53


NOW = ManualClock().now()
