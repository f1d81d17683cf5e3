"""The adapter of Realtor.com, over the GraphQL endpoint of its own pages.

The queries are homeharvest's (``sn46.sources.realtor_queries``); the requests, with their pace and
proxies, and the reading of answers are this package's.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from datetime import date, datetime
from http import HTTPStatus
from typing import Any, Final

from pydantic import Field

from sn46.clock import Clock
from sn46.sources.base import Detail, Lookup, SearchQuery, SourceChanged, SourceError
from sn46.sources.fetch import polite_client
from sn46.sources.options import SourceOptions
from sn46.sources.reading import checked, dig, loads, read_each
from sn46.sources.realtor_queries import Question, Questions
from sn46.sources.remembering import Remembering
from sn46.sources.routes import ProxyPool
from sn46.sources.splitting import DatePart, Part, ResultPage, search_whole
from sn46.sources.units import Known, Number, Text, checked_url, joined, positive, real, whole
from sn46.sources.walls import is_wall

SOURCE: Final = "realtor"
MOST_PER_SECOND: Final = 1.0
"""Requests a second over one way, whatever the settings allow."""

PAGE_SIZE: Final = 200
RESULT_LIMIT: Final = 10_000

TYPES: Final[Mapping[str, str]] = {
    "single_family": "SINGLE_FAMILY",
    "condo": "CONDO",
    "condos": "CONDO",
    "condop": "CONDO",
    "coop": "CONDO",
    "apartment": "CONDO",
    "condo_townhome": "TOWNHOUSE",
    "condo_townhome_rowhome_coop": "TOWNHOUSE",
    "townhome": "TOWNHOUSE",
    "townhomes": "TOWNHOUSE",
    "duplex_triplex": "MULTI_FAMILY",
    "multi_family": "MULTI_FAMILY",
    "mobile": "MANUFACTURED",
    "land": "LAND",
    "farm": "OTHER",
    "other": "OTHER",
}
"""Realtor.com's ``description.type`` in the schema's words; any other is OTHER."""

_POSTAL_CODE: Final = "postal_code"
_ID: Final = re.compile(r"[0-9]{1,20}")


class _Description(Known):
    type: str | None = None
    sqft: Number | None = None
    beds: Number | None = None
    baths_full: Number | None = None
    baths_half: Number | None = None
    lot_sqft: Number | None = None
    year_built: Number | None = None
    garage: Number | None = None
    stories: Number | None = None


class _Coordinate(Known):
    lat: Number | None = None
    lon: Number | None = None


class _Address(Known):
    line: str | None
    city: str | None
    state_code: str | None
    postal_code: str | None
    coordinate: _Coordinate | None = None


class _County(Known):
    name: str | None = None


class _Parcel(Known):
    parcel_id: Text | None = None


class _Location(Known):
    address: _Address
    county: _County | None = None
    parcel: _Parcel | None = None


class _Mls(Known):
    listing_id: Text | None = None


class _Hoa(Known):
    fee: Number | None = None


class _TaxRecord(Known):
    apn: Text | None = None
    tax_parcel_id: Text | None = None


class _Assessment(Known):
    total: Number | None = None


class _TaxYear(Known):
    year: int | None = None
    assessment: _Assessment | None = None


class _Home(Known):
    """A home, as a search result or its own record. Dates are ``YYYY-MM-DD`` with or without a
    time of day."""

    property_id: Text = Field(min_length=1)
    location: _Location
    last_sold_date: str | None
    last_sold_price: Number | None
    href: str | None = None
    permalink: str | None = None
    list_price: Number | None = None
    list_date: str | None = None
    description: _Description | None = None
    source: _Mls | None = None
    hoa: _Hoa | None = None
    tax_record: _TaxRecord | None = None
    tax_history: list[_TaxYear] | None = Field(default=None, alias="taxHistory")


class _Page(Known):
    total: int = Field(ge=0)
    results: list[Any]


class _Geo(Known):
    area_type: str | None = None
    postal_code: str | None = None


class _Place(Known):
    text: str | None = None
    geo: _Geo | None = None


class _Places(Known):
    geo_results: list[_Place]


class RealtorSource:
    """A ``ListingSource`` over Realtor.com.

    Args:
        base_url: ``https://www.realtor.com``.
        clock: for ``scraped_at`` and all waiting.
        options: how to ask. With ``fetch_details`` each home's own record adds the parcel and the
            assessed value.
        result_limit: results that a search can page through.

    Raises:
        ValueError: where ``base_url`` is no such URL, or homeharvest is not installed.
    """

    def __init__(
        self,
        base_url: str,
        *,
        clock: Clock,
        options: SourceOptions | None = None,
        result_limit: int = RESULT_LIMIT,
    ) -> None:
        self._base_url = checked_url(base_url, "Realtor.com")
        self._questions = Questions()
        self._clock = clock
        self._options = options or SourceOptions()
        self._client = polite_client(
            self._base_url,
            clock=clock,
            options=self._options,
            captcha=is_wall,
            most_per_second=MOST_PER_SECOND,
        )
        self._result_limit = result_limit
        self._places: dict[str, str] = {}

    @property
    def name(self) -> str:
        return SOURCE

    @property
    def pool(self) -> ProxyPool:
        """The ways to Realtor.com, and how they fare."""
        return self._client.pool

    async def search(self, query: SearchQuery) -> AsyncIterator[list[dict[str, Any]]]:
        """See ``ListingSource.search``. Sales without a price, and homes of other ZIPs, are left
        out.

        Raises:
            IncompleteSearch: after the last batch, where Realtor.com counts more than it shows.
            SourceError: where it cannot be asked or understood; batches before it are good.
        """
        memory = Remembering(query, SOURCE)
        place = await memory.once("place", lambda: self._place(query.zipcode))

        async def read(part: Part, page: int) -> ResultPage:
            return await self._page(place, part, page)

        elsewhere = here = 0
        whole_search = DatePart(query.sold_from, query.sold_to)
        async with aclosing(search_whole(whole_search, memory.pages(read))) as batches:
            async for batch in batches:
                rows = [row for row in batch if row["zipcode"] == query.zipcode]
                here, elsewhere = here + len(rows), elsewhere + len(batch) - len(rows)
                rows = [row for row in rows if _is_sale_in(row, query)]
                fault = (
                    await memory.filled(rows, self._record) if self._options.fetch_details else None
                )
                if rows:
                    yield rows
                if fault is not None:
                    raise fault
        if elsewhere and not here:
            raise SourceChanged(
                f"Realtor.com answered the search for {query.zipcode} with homes elsewhere only."
            )

    async def detail(self, listing_id: str) -> Detail:
        """See ``ListingSource.detail``. The sale is the last one. NOT_FOUND is an answer without
        any error whose ``home`` is null."""
        prefix = f"{SOURCE}:"
        if not listing_id.startswith(prefix):
            raise SourceError(f"This is {SOURCE}; it cannot know a listing of another source.")
        property_id = listing_id.removeprefix(prefix)
        if not _ID.fullmatch(property_id):
            return Detail(Lookup.NOT_FOUND, None)  # its ids are numbers; this is none
        data = await self._ask(self._questions.home(property_id), "home")
        if data is None:
            return Detail(Lookup.NOT_FOUND, None)
        return Detail(Lookup.FOUND, self._row(checked(_Home, data)))

    async def close(self) -> None:
        await self._client.close()

    async def _place(self, zipcode: str) -> str:
        """What Realtor.com calls the ZIP, asked once."""
        if zipcode not in self._places:
            data = await self._ask(self._questions.place(zipcode), "search_suggestions")
            found = checked(_Places, data).geo_results
            texts = [p.text for p in found if p.geo and p.text and _is_zip(p.geo, zipcode)]
            if not texts:
                raise SourceChanged(f"Realtor.com shows no place for the ZIP {zipcode}.")
            self._places[zipcode] = texts[0]
        return self._places[zipcode]

    async def _page(self, place: str, part: Part, page: int) -> ResultPage:
        question = self._questions.sold(place, part, (page - 1) * PAGE_SIZE)
        found = checked(_Page, await self._ask(question, "homeSearch"))
        if found.total and page == 1 and not found.results:
            raise SourceChanged(f"Realtor.com counts {found.total} homes and shows none.")
        rows = read_each(found.results, lambda home: self._row(checked(_Home, home)))
        if rows and not any(row["sale_date"] for row in rows):
            raise SourceChanged(f"Of {len(rows)} homes, Realtor.com shows no day of sale.")
        return ResultPage(rows=rows, total=found.total, limit=self._result_limit, size=PAGE_SIZE)

    async def _ask(self, question: Question, name: str) -> Any:
        """What stands under ``data.{name}``; None where it stands there as null, without errors."""
        answer = await self._client.ask(
            "POST", question.path, json=question.body, headers=question.headers
        )
        if answer.status != HTTPStatus.OK or not answer.is_json:
            raise SourceChanged(
                f"Realtor.com answers a query with {answer.status} {answer.content_type!r}."
            )
        whole_answer = loads(answer.body)
        errors = dig(whole_answer, "errors")
        if errors:
            told = repr(errors)[:200]
            raise SourceChanged(f"Realtor.com refuses the query {name!r}: {told}")
        data = dig(whole_answer, "data")
        if not isinstance(data, dict) or name not in data:
            raise SourceChanged(f"Realtor.com's answer has no {name!r}.")
        return dig(whole_answer, "data", name)

    async def _record(self, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return (await self.detail(row["listing_id"])).row

    def _row(self, home: _Home) -> dict[str, Any]:
        """A home in the schema of mechanism 5, in its units (Realtor.com's are the same)."""
        about = home.description or _Description()
        address = home.location.address
        coordinate = address.coordinate or _Coordinate()
        sold, listed = _day(home.last_sold_date), _day(home.list_date)
        days = (sold - listed).days if sold and listed else None
        offered = days is not None and days >= 0
        path = home.href or f"/realestateandhomes-detail/{home.permalink or home.property_id}"
        return {
            "listing_id": f"{SOURCE}:{home.property_id}",
            "source": SOURCE,
            "source_url": joined(self._base_url, path),
            "address": address.line,
            "city": address.city,
            "state": address.state_code,
            "zipcode": address.postal_code,
            "property_type": TYPES.get((about.type or "").lower(), "OTHER"),
            "sale_price": positive(home.last_sold_price),
            "sale_date": sold,
            "scraped_at": self._clock.now(),
            "bedrooms": whole(about.beds),
            "bathrooms": _bathrooms(about),
            "living_area_sqft": positive(about.sqft),
            "lot_sqft": positive(about.lot_sqft),
            "year_built": positive(about.year_built),
            "latitude": real(coordinate.lat),
            "longitude": real(coordinate.lon),
            # An offer after the sale is another one, and its price is not this sale's.
            "list_price": positive(home.list_price) if offered else None,
            "days_on_market": days if offered else None,
            "hoa_fee_monthly": whole(home.hoa.fee) if home.hoa else None,
            "parcel_id": _parcel(home),
            "mls_id": home.source.listing_id if home.source else None,
            "stories": real(about.stories),
            "garage_spaces": whole(about.garage),
            "tax_assessed_value": _assessed(home),
            "county": home.location.county.name if home.location.county else None,
        }


def _is_zip(geo: _Geo, zipcode: str) -> bool:
    return geo.area_type == _POSTAL_CODE and geo.postal_code == zipcode


def _is_sale_in(row: Mapping[str, Any], query: SearchQuery) -> bool:
    day = row["sale_date"]
    return (
        row["sale_price"] is not None
        and day is not None
        and query.sold_from <= day <= query.sold_to
    )


def _bathrooms(about: _Description) -> float | None:
    """Full bathrooms, and half of one for each half bathroom."""
    if about.baths_full is None and about.baths_half is None:
        return None
    return (about.baths_full or 0) + (about.baths_half or 0) / 2


def _parcel(home: _Home) -> str | None:
    parcel = home.location.parcel.parcel_id if home.location.parcel else None
    record = home.tax_record or _TaxRecord()
    return record.apn or parcel or record.tax_parcel_id


def _assessed(home: _Home) -> int | None:
    years = [(t.year or 0, t.assessment.total) for t in home.tax_history or () if t.assessment]
    newest = max(years, key=lambda pair: pair[0], default=None)
    return positive(newest[1]) if newest else None


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).date()
    except ValueError as error:
        raise SourceChanged(f"Realtor.com gives a day as {text!r}.") from error
