"""Realtor.com over loopback, with homeharvest's queries and hand-made answers."""

import json
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import date, timedelta
from typing import Any

import pytest
from site_doubles import CAPTCHA, CUT_OFF, JSON_WALL, Asked, Site, serving
from source_doubles import DROP, ManualClock, http, running_proxy

from sn46.mechanism.listings import listings_frame
from sn46.mechanism.verdicts import Verdict, compare
from sn46.sources.base import (
    Blocked,
    Lookup,
    SearchQuery,
    SourceChanged,
    SourceError,
    SourceUnavailable,
)
from sn46.sources.options import SourceOptions
from sn46.sources.politeness import RetryPolicy
from sn46.sources.proxies import parse_proxy
from sn46.sources.realtor import RealtorSource
from sn46.sources.splitting import IncompleteSearch

TODAY = date(2026, 3, 1)
SOLD = date(2026, 2, 10)
QUERY = SearchQuery("98101", TODAY - timedelta(days=1094), TODAY)
THREE = RetryPolicy(attempts=3, first_pause=1, longest_pause=4)
ZIPS = ("98101", "98199")


def realtor_home(
    property_id: str, line: str, price: int | None, sold: date, **more: Any
) -> dict[str, Any]:
    """A home as Realtor.com's GraphQL gives it."""
    return {
        "property_id": property_id,
        "listing_id": "2960000000",
        "href": f"https://www.realtor.com/realestateandhomes-detail/M{property_id}",
        "permalink": f"M{property_id}",
        "status": "sold",
        "list_price": 515_000,
        "list_date": f"{sold - timedelta(days=30)}T08:12:09Z",
        "last_sold_price": price,
        "last_sold_date": f"{sold}",
        "flags": {"is_pending": None, "is_contingent": None},
        "description": {
            "type": "condos",
            "sqft": 1400,
            "beds": 3,
            "baths_full": 1,
            "baths_half": 1,
            "lot_sqft": None,
            "year_built": 1999,
            "garage": None,
            "stories": 1,
        },
        "source": {"id": "NWMLS", "listing_id": "2200001"},
        "hoa": {"fee": 431},
        "location": {
            "address": {
                "line": line,
                "unit": None,
                "city": "Seattle",
                "state_code": "WA",
                "postal_code": "98101",
                "coordinate": {"lat": 47.61, "lon": -122.33},
            },
            "county": {"name": "King", "fips_code": "53033"},
        },
        "tax_record": {"apn": "0660000", "tax_parcel_id": "x"},
    } | more


ONE = realtor_home("71", "12 N Alder St Unit 4", 500_500, SOLD)


def realtor(homes: Iterable[dict[str, Any]], limit: int = 10_000) -> Callable[[Asked], bytes]:
    """Realtor.com's endpoint over these homes. It reads the queries as far as it must."""
    known = {home["property_id"]: home for home in homes}

    def place(term: str) -> Any:
        other = {"text": f"{term} Alder St", "geo": {"area_type": "address", "postal_code": None}}
        named = {
            "text": f"{term}, Seattle, WA",
            "geo": {"area_type": "postal_code", "postal_code": term},
        }
        return {"geo_results": [other, named] if term in ZIPS else [other]}

    def sold(asked: Any) -> Any:
        days = re.search(r'sold_date: \{ min: "([^"]+)", max: "([^"]+)" \}', asked["query"])
        assert days
        assert "status: sold" in asked["query"]
        zipcode = asked["variables"]["search_location"]["location"][:5]
        matches = [
            home
            for home in known.values()
            if home["location"]["address"]["postal_code"] == zipcode
            and days[1] <= home["last_sold_date"] <= days[2]
        ]
        matches.sort(key=lambda home: home["last_sold_date"], reverse=True)
        at = asked["variables"]["offset"]
        shown = matches[at : min(at + 200, limit)]
        return {"count": len(shown), "total": len(matches), "results": shown}

    def home(asked: Any) -> Any:
        found = known.get(asked["variables"]["property_id"])
        taxes = [
            {"year": 2024, "assessment": {"total": 400_000}},
            {"year": 2025, "assessment": {"total": 420_000}},
            {"year": 2023, "assessment": None},
        ]
        return found and found | {"taxHistory": taxes}

    def answer(request: Asked) -> bytes:
        assert (request.method, request.path) == ("POST", "/frontdoor/graphql")
        asked = request.json
        match asked["operationName"]:
            case "Search_suggestions":
                term = asked["variables"]["searchInput"]["search_term"]
                data: Any = {"search_suggestions": place(term)}
            case "GetHomeSearch":
                data = {"homeSearch": sold(asked)}
            case _:
                data = {"home": home(asked)}
        return http(200, json.dumps({"data": data}))

    return answer


@asynccontextmanager
async def opened(
    clock: ManualClock, homes: list[dict[str, Any]], **options: Any
) -> AsyncIterator[tuple[Site, RealtorSource]]:
    async with serving(realtor(homes)) as site:
        settings = SourceOptions(**{"retry": THREE, **options})
        source = RealtorSource(site.url, clock=clock, options=settings)
        try:
            yield site, source
        finally:
            await source.close()


async def found(source: RealtorSource, query: SearchQuery = QUERY) -> list[dict[str, Any]]:
    return [row async for batch in source.search(query) for row in batch]


async def test_a_sale_becomes_a_row_of_the_schema(clock: ManualClock) -> None:
    async with opened(clock, [ONE]) as (_, source):
        (row,) = await found(source)
        detail = await source.detail("realtor:71")
    assert compare(row, detail.row) == (Verdict.CONFIRMED, "")
    expected = {
        "listing_id": "realtor:71",
        "source": "realtor",
        "source_url": "https://www.realtor.com/realestateandhomes-detail/M71",
        "address": "12 N Alder St Unit 4",
        "city": "Seattle",
        "state": "WA",
        "zipcode": "98101",
        "property_type": "CONDO",
        "sale_price": 500_500,
        "sale_date": SOLD,
        "bedrooms": 3,
        "bathrooms": 1.5,
        "living_area_sqft": 1400,
        "lot_sqft": None,
        "year_built": 1999,
        "latitude": 47.61,
        "longitude": -122.33,
        "list_price": 515_000,
        "days_on_market": 30,
        "hoa_fee_monthly": 431,
        "parcel_id": "0660000",
        "mls_id": "2200001",
        "stories": 1.0,
        "garage_spaces": None,
        "tax_assessed_value": None,
        "county": "King",
    }
    assert {k: v for k, v in row.items() if k != "scraped_at"} == expected
    assert detail.row is not None
    assert {k: v for k, v in detail.row.items() if k != "scraped_at"} == expected | {
        "tax_assessed_value": 420_000
    }
    assert listings_frame([row, dict(detail.row)]).height == 2


async def test_a_search_over_the_limit_is_cut_by_date(clock: ManualClock) -> None:
    homes = [
        realtor_home(str(n), f"{n} Alder St", 500_000 + n, TODAY - timedelta(days=n % 1090))
        for n in range(1500)
    ]
    async with serving(realtor(homes, limit=400)) as site:
        source = RealtorSource(site.url, clock=clock, result_limit=400)
        rows = await found(source)
        await source.close()
    assert len({row["listing_id"] for row in rows}) == len(rows) == 1500
    assert len(site.asked) < 30


async def test_details_fill_rows_and_their_failure_loses_none(clock: ManualClock) -> None:
    async with opened(clock, [ONE], fetch_details=True) as (site, source):
        (row,) = await found(source)
        assert row["tax_assessed_value"] == 420_000
        rows: list[dict[str, Any]] = []
        # The place is known: the search is answered, the home's record is not.
        site.faults = [("/frontdoor", site.answer(site.asked[1]))]
        site.always["/frontdoor"] = http(403)
        with pytest.raises(Blocked):
            await collect(source, rows)
    assert [row["tax_assessed_value"] for row in rows] == [None]


async def collect(source: RealtorSource, rows: list[dict[str, Any]]) -> None:
    async for batch in source.search(QUERY):
        rows += batch


async def test_an_empty_zip_is_empty_and_an_unknown_one_an_error(clock: ManualClock) -> None:
    async with opened(clock, [ONE]) as (_, source):
        assert await found(source, SearchQuery("98199", QUERY.sold_from, TODAY)) == []
        with pytest.raises(SourceChanged, match="no place for the ZIP 00000"):
            await found(source, SearchQuery("00000", QUERY.sold_from, TODAY))


async def test_an_offer_after_the_sale_is_not_this_sales(clock: ManualClock) -> None:
    relisted = ONE | {"list_date": f"{SOLD + timedelta(days=5)}"}
    async with opened(clock, [relisted]) as (_, source):
        (row,) = await found(source)
    assert (row["list_price"], row["days_on_market"]) == (None, None)


async def test_not_found_is_an_answer_without_errors(clock: ManualClock) -> None:
    async with opened(clock, [ONE]) as (site, source):
        assert (await source.detail("realtor:999")).lookup is Lookup.NOT_FOUND
        assert (await source.detail("realtor:M71-x")).lookup is Lookup.NOT_FOUND
        site.always["/"] = http(200, '{"data": {"home": null}, "errors": [{"message": "busy"}]}')
        with pytest.raises(SourceChanged, match="busy"):
            await source.detail("realtor:999")


async def test_passing_trouble_is_waited_out(clock: ManualClock) -> None:
    passing = [http(403), http(429, retry_after="7"), CAPTCHA, JSON_WALL, http(502), DROP]
    retry = RetryPolicy(attempts=len(passing) + 1, first_pause=1, longest_pause=4)
    async with opened(clock, [ONE], retry=retry) as (site, source):
        site.faults = [("/frontdoor", trouble) for trouble in passing]
        assert len(await found(source)) == 1
    assert clock.total > 7


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
        (http(404), SourceChanged),
        (http(200, "null"), SourceChanged),
        (http(200, '{"data": null}'), SourceChanged),
        (http(200, '{"data": {}}'), SourceChanged),
        (http(200, '{"data": {"home": {}, "homeSearch": {}}}'), SourceChanged),
        (http(400, '{"errors": [{"message": "Required parameter is missing"}]}'), SourceChanged),
        (http(200, "<html>hello</html>", content_type="text/html"), SourceChanged),
    ],
)
@pytest.mark.parametrize("asking", ["search", "detail"])
async def test_lasting_trouble_is_an_error_and_never_not_found(
    clock: ManualClock, asking: str, trouble: bytes, error: type[SourceError]
) -> None:
    async with opened(clock, [ONE]) as (site, source):
        await found(source)  # the place is known from here on
        site.always["/"] = trouble
        with pytest.raises(error) as raised:
            await (found(source) if asking == "search" else source.detail("realtor:71"))
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("last_sold_date", "soldDate"),
        ("last_sold_price", "soldPrice"),
        ("property_id", "propertyId"),
        ("postal_code", "zip"),
        ("sqft", 7),
    ],
)
async def test_changed_fields_are_an_error_and_no_empty_zip(
    clock: ManualClock, old: str, new: str | int
) -> None:
    if isinstance(new, int):
        changed: Any = ONE | {"description": {old: str(new)}}
    else:
        changed = json.loads(json.dumps(ONE).replace(f'"{old}"', f'"{new}"'))
    answer = {"data": {"homeSearch": {"count": 1, "total": 1, "results": [changed]}}}
    async with opened(clock, [ONE]) as (site, source):
        await found(source)
        site.always["/"] = http(200, json.dumps(answer))
        with pytest.raises(SourceChanged):
            await found(source)


@pytest.mark.parametrize(
    "odd", [{"last_sold_date": "soon"}, {"href": "http://["}, {"last_sold_price": 10**400}]
)
async def test_one_odd_home_costs_itself_alone_and_is_told(
    clock: ManualClock, odd: dict[str, Any]
) -> None:
    results = [ONE, ONE | {"property_id": "72"} | odd]
    answer = {"data": {"homeSearch": {"count": 2, "total": 2, "results": results}}}
    rows: list[dict[str, Any]] = []
    async with opened(clock, [ONE]) as (site, source):
        await found(source)
        site.always["/"] = http(200, json.dumps(answer))
        with pytest.raises(IncompleteSearch, match="1 are missing"):
            await collect(source, rows)
    assert [row["listing_id"] for row in rows] == ["realtor:71"]


async def test_its_words_are_quoted_in_plain_letters(clock: ManualClock) -> None:
    async with opened(clock, [ONE]) as (site, source):
        site.always["/"] = http(200, json.dumps({"errors": "\x1b[2Jno\n\ud800"}))
        with pytest.raises(SourceChanged) as raised:
            await found(source)
    assert str(raised.value).isprintable()
    assert str(raised.value).isascii()


async def test_requests_take_the_proxies(clock: ManualClock) -> None:
    async with running_proxy("u:s3cret", [http(403)] * 3) as proxy:
        proxies = (parse_proxy(f"http://u:s3cret@127.0.0.1:{proxy.port}"),)
        async with opened(clock, [ONE], proxies=proxies) as (site, source):
            with pytest.raises(Blocked):
                await source.detail("realtor:71")
    assert site.asked == []
