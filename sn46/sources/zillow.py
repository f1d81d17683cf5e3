"""The adapter of Zillow, over its public pages and the search that they use themselves.

Three requests, as a browser makes them:

- ``GET /homes/recently_sold/{zip}_rb/``, once a ZIP: the region's number and bounds;
- ``PUT /async-create-search-page-state`` with a ``searchQueryState``: a page of results, 41 each,
  of at most 20 pages;
- ``GET /homedetails/{zpid}_zpid/``: a home's own record.

A wall (403, 429, a captcha, which also comes with status 200) is ``Blocked``, and nothing else.
"""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date, timedelta
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from sn46.clock import Clock
from sn46.sources.base import Detail, Lookup, SearchQuery, SourceChanged, SourceError
from sn46.sources.browser import BrowserTransport
from sn46.sources.fetch import Answer, TransportFactory, polite_client
from sn46.sources.options import SourceOptions
from sn46.sources.reading import checked, dig, loads, read_each
from sn46.sources.remembering import Remembering
from sn46.sources.routes import ProxyPool
from sn46.sources.splitting import Part, PricePart, ResultPage, search_whole
from sn46.sources.units import Known, Number, checked_url, joined
from sn46.sources.walls import is_wall
from sn46.sources.zillow_records import (
    SOURCE,
    Property,
    SearchResult,
    property_row,
    result_row,
)

MOST_PER_SECOND: Final = 1.0
"""Requests a second over one way, whatever the settings allow."""

WINDOWS: Final[Sequence[tuple[int, str]]] = (
    (1, "1"),
    (7, "7"),
    (14, "14"),
    (30, "30"),
    (90, "90"),
    (181, "6m"),
    (365, "12m"),
    (730, "24m"),
    (1095, "36m"),
)
"""How far back Zillow searches: days that are surely covered, and its ``doz`` for them."""

_NOT_FOR_SALE: Final = (
    "isForSaleByAgent",
    "isForSaleByOwner",
    "isNewConstruction",
    "isComingSoon",
    "isAuction",
    "isForSaleForeclosure",
)
_ZIP_REGION: Final = 7
_MOST_HOPS: Final = 3
_HEADERS: Final = {"Accept": "text/html,application/json;q=0.9,*/*;q=0.8", "Accept-Language": "en"}
_ZPID: Final = re.compile(r"[0-9]{1,12}")
_NEXT_DATA: Final = re.compile(rb'<script[^>]{0,300}\bid="__NEXT_DATA__"[^>]{0,300}>')
"""Where a page's data begin. The bounds keep a page without them from being read over and over."""

_CACHE_PATHS: Final = (
    ("props", "pageProps", "componentProps", "gdpClientCache"),
    ("props", "pageProps", "gdpClientCache"),
)


class _Camel(Known):
    model_config = ConfigDict(alias_generator=to_camel)


class _Bounds(Known):
    north: Number
    south: Number
    east: Number
    west: Number


class _RegionId(_Camel):
    region_id: int
    region_type: int | None = None


class _QueryState(_Camel):
    map_bounds: _Bounds
    region_selection: list[_RegionId] = Field(default_factory=list[_RegionId])


class _SearchList(_Camel):
    total_result_count: int = Field(ge=0)
    results_per_page: int = Field(ge=1)
    total_pages: int = Field(ge=0)


class _Results(_Camel):
    list_results: list[Any]


class _Category(_Camel):
    search_results: _Results
    search_list: _SearchList


class _SearchAnswer(Known):
    cat1: _Category


@dataclass(frozen=True)
class Region:
    """A ZIP as Zillow knows it."""

    number: int
    bounds: Mapping[str, float]


class ZillowSource:
    """A ``ListingSource`` over Zillow.

    Args:
        base_url: ``https://www.zillow.com``.
        clock: for ``scraped_at``, how far back to search, and all waiting.
        options: how to ask. ``fetch_details`` matters here: search results lack year, parcel, fees,
            stories, garage, asking price and days on the market.
        transport: makes the connections. Zillow refuses all but a browser's.

    Raises:
        ValueError: where ``base_url`` is no such URL.
    """

    def __init__(
        self,
        base_url: str,
        *,
        clock: Clock,
        options: SourceOptions | None = None,
        transport: TransportFactory = BrowserTransport,
    ) -> None:
        self._base_url = checked_url(base_url, "Zillow")
        self._clock = clock
        self._options = options or SourceOptions()
        self._client = polite_client(
            self._base_url,
            clock=clock,
            options=self._options,
            captcha=_is_wall,
            most_per_second=MOST_PER_SECOND,
            headers=_HEADERS,
            transport=transport,
        )
        self._regions: dict[str, Mapping[str, Any]] = {}

    @property
    def name(self) -> str:
        return SOURCE

    @property
    def pool(self) -> ProxyPool:
        """The ways to Zillow, and how they fare."""
        return self._client.pool

    async def search(self, query: SearchQuery) -> AsyncIterator[list[dict[str, Any]]]:
        """See ``ListingSource.search``. Sales whose price Zillow does not show are left out, as the
        schema needs one; so are homes of other ZIPs.

        Zillow cannot search between two dates, only back from today, so a search that is too large
        is cut by price.

        Raises:
            IncompleteSearch: after the last batch, where Zillow counts more than it shows.
            SourceError: where it cannot be asked or understood; batches before it are good.
        """
        memory = Remembering(query, SOURCE)
        region = Region(**await memory.once("region", lambda: self._region(query.zipcode)))
        window = self._window(query.sold_from)
        elsewhere = here = 0

        async def read(part: Part, page: int) -> ResultPage:
            return await self._page(query.zipcode, region, window, part, page)

        async def record(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
            return await self._record(row, query)

        whole = PricePart(query.sold_from, query.sold_to)
        async with aclosing(search_whole(whole, memory.pages(read))) as batches:
            async for batch in batches:
                rows = [row for row in batch if row["zipcode"] == query.zipcode]
                here, elsewhere = here + len(rows), elsewhere + len(batch) - len(rows)
                fault = await memory.filled(rows, record) if self._options.fetch_details else None
                kept = [row for row in rows if _is_sale_in(row, query)]
                if kept:
                    yield kept
                if fault is not None:
                    raise fault
        if elsewhere and not here:
            raise SourceChanged(
                f"Zillow answered the search for {query.zipcode} with {elsewhere} homes elsewhere."
            )

    async def detail(self, listing_id: str) -> Detail:
        """See ``ListingSource.detail``. The sale is the newest one. NOT_FOUND needs Zillow's own
        page that says so; a bare 404, as walls and caches give, is an error."""
        prefix = f"{SOURCE}:"
        if not listing_id.startswith(prefix):
            raise SourceError(f"This is {SOURCE}; it cannot know a listing of another source.")
        zpid = listing_id.removeprefix(prefix)
        if not _ZPID.fullmatch(zpid):
            return Detail(Lookup.NOT_FOUND, None)  # a zpid is a number; this is none
        home = await self._property(zpid)
        if home is None:
            return Detail(Lookup.NOT_FOUND, None)
        return Detail(Lookup.FOUND, property_row(home, self._base_url, self._clock.now()))

    async def close(self) -> None:
        await self._client.close()

    async def _property(self, zpid: str) -> Property | None:
        answer, hops = await self._follow(f"/homedetails/{zpid}_zpid/")
        gone = answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
        if answer.status != HTTPStatus.OK and not gone:
            raise SourceChanged(f"Zillow answers a property page with {answer.status}.")
        record = property_in(next_data(answer))
        if gone and record is None:
            return None
        if gone or record is None:
            raise SourceChanged("Zillow's property page has no property, or says two things.")
        home = checked(Property, record)
        if hops and home.zpid != zpid:
            raise SourceChanged(f"Zillow leads from {zpid} to {home.zpid}: it says neither thing.")
        return home

    async def _region(self, zipcode: str) -> Mapping[str, Any]:
        """A ZIP's :class:`Region`, as a mapping of its fields, asked once."""
        if zipcode not in self._regions:
            answer, _ = await self._follow(f"/homes/recently_sold/{zipcode}_rb/")
            if answer.status != HTTPStatus.OK:
                raise SourceChanged(f"Zillow answers the page of a ZIP with {answer.status}.")
            page = next_data(answer)
            found = dig(page, "props", "pageProps", "searchPageState", "queryState")
            state = checked(_QueryState, found)
            zips = [r for r in state.region_selection if r.region_type in (None, _ZIP_REGION)]
            if len(zips) != 1:
                raise SourceChanged(f"Zillow shows no region for the ZIP {zipcode}.")
            bounds = state.map_bounds.model_dump()
            self._regions[zipcode] = {"number": zips[0].region_id, "bounds": bounds}
        return self._regions[zipcode]

    async def _page(
        self, zipcode: str, region: Region, window: str | None, part: Part, page: int
    ) -> ResultPage:
        answer = await self._client.ask(
            "PUT",
            "/async-create-search-page-state",
            json=search_request(zipcode, region, window, part, page),
            headers={"Origin": self._base_url, "Referer": f"{self._base_url}/"},
        )
        if answer.status != HTTPStatus.OK:
            raise SourceChanged(f"Zillow answers a search with {answer.status}.")
        if not answer.is_json:
            raise SourceChanged(f"Zillow answered {answer.content_type!r} where JSON was due.")
        found = checked(_SearchAnswer, loads(answer.body)).cat1
        now = self._clock.now()

        def read(entry: Any) -> tuple[SearchResult, dict[str, Any] | None]:
            result = checked(SearchResult, entry)
            return result, result_row(result, self._base_url, now) if result.is_sale else None

        results = read_each(found.search_results.list_results, read)
        shown = [(result, row) for result, row in results if not result.relaxed]
        rows = [row for _, row in shown if row is not None]
        counts = found.search_list
        if counts.total_result_count and page == 1 and not shown:
            raise SourceChanged(f"Zillow counts {counts.total_result_count} homes and shows none.")
        if shown and not any(row["sale_date"] for row in rows):
            raise SourceChanged(f"Of {len(shown)} homes on a page, Zillow shows no day of sale.")
        return ResultPage(
            rows=rows,
            total=counts.total_result_count,
            limit=counts.results_per_page * max(1, counts.total_pages),
            size=counts.results_per_page,
            others=len(shown) - len(rows),
        )

    async def _record(self, row: Mapping[str, Any], query: SearchQuery) -> Mapping[str, Any] | None:
        """The home's own page as a row, with its newest sale of the query."""
        home = await self._property(row["listing_id"].removeprefix(f"{SOURCE}:"))
        if home is None:
            return None
        now = self._clock.now()
        return property_row(home, self._base_url, now, query.sold_from, query.sold_to)

    async def _follow(self, path: str) -> tuple[Answer, int]:
        """A page, after its redirections within Zillow, and how many there were."""
        answer = await self._client.get(path, {})
        for hops in range(_MOST_HOPS + 1):
            if not answer.location or not 300 <= answer.status < 400:
                return answer, hops
            path = self._own_path(path, answer.location)
            if hops < _MOST_HOPS:
                answer = await self._client.get(path, {})
        raise SourceChanged("Zillow's page leads from one to the next without an end.")

    def _own_path(self, path: str, location: str) -> str:
        base = urlsplit(self._base_url)
        target = urlsplit(joined(self._base_url + path, location))
        if target.netloc != base.netloc:
            raise SourceChanged(f"Zillow's page leads to another host, {target.hostname}.")
        return f"{target.path}?{target.query}" if target.query else target.path

    def _window(self, sold_from: date) -> str | None:
        days = (self._clock.now().date() - sold_from) // timedelta(days=1)
        return next((doz for covered, doz in WINDOWS if days <= covered), None)


def search_request(
    zipcode: str, region: Region, window: str | None, part: Part, page: int
) -> dict[str, Any]:
    """The body of a search for homes sold: ``window`` is a ``doz`` of ``WINDOWS`` (None searches as
    far back as Zillow does), the prices those of ``part``, pages count from 1."""
    filters: dict[str, Any] = {name: {"value": False} for name in _NOT_FOR_SALE}
    filters |= {
        "isAllHomes": {"value": True},
        "isRecentlySold": {"value": True},
        "sortSelection": {"value": "days"},
    }
    if window is not None:
        filters["doz"] = {"value": window}
    if part.min_price or part.max_price is not None:
        filters["price"] = {"min": part.min_price} | (
            {} if part.max_price is None else {"max": part.max_price}
        )
    return {
        "searchQueryState": {
            "pagination": {"currentPage": page},
            "isMapVisible": True,
            "isListVisible": True,
            "mapBounds": dict(region.bounds),
            "usersSearchTerm": zipcode,
            "regionSelection": [{"regionId": region.number, "regionType": _ZIP_REGION}],
            "filterState": filters,
        },
        "wants": {"cat1": ["listResults"]},
        "requestId": page,
        "isDebugRequest": False,
    }


def next_data(answer: Answer) -> Any:
    """The JSON that a page carries for its own scripts.

    Raises:
        SourceChanged: where it carries none.
    """
    match = _NEXT_DATA.search(answer.body)
    end = answer.body.find(b"</script>", match.end()) if match else -1
    if match is None or end < 0:
        raise SourceChanged(f"Zillow's page ({answer.status}) carries no data.")
    return loads(answer.body[match.end() : end])


def property_in(page: Any) -> Mapping[str, Any] | None:
    """A home's own record in the data of its page; None where there is none."""
    for path in _CACHE_PATHS:
        cache = dig(page, *path)
        if isinstance(cache, str):
            cache = loads(cache.encode())
        if not isinstance(cache, dict):
            continue
        for entry in cast(dict[str, Any], cache).values():
            record = dig(entry, "property")
            if dig(record, "zpid") is not None and dig(record, "streetAddress") is not None:
                return cast(dict[str, Any], record)
    return None


def _is_wall(answer: Answer) -> bool:
    return is_wall(answer, genuine=_NEXT_DATA)


def _is_sale_in(row: Mapping[str, Any], query: SearchQuery) -> bool:
    day = row["sale_date"]
    return (
        row["sale_price"] is not None
        and day is not None
        and query.sold_from <= day <= query.sold_to
    )
