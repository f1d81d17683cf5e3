"""The adapter of the local network's portal (its API: ``sn46.localnet.portal``)."""

import math
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from datetime import date
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, Strict

from sn46.clock import Clock
from sn46.sources.base import Detail, Lookup, SearchQuery, SourceChanged, SourceError
from sn46.sources.fetch import Answer, PoliteClient, pool_of
from sn46.sources.options import SourceOptions
from sn46.sources.reading import checked, loads, read_each
from sn46.sources.remembering import Remembering
from sn46.sources.splitting import Part, ResultPage, search_whole
from sn46.sources.units import Known, joined

PROPERTY_TYPES: Final[Mapping[str, str]] = {
    "House": "SINGLE_FAMILY",
    "Condo": "CONDO",
    "Townhouse": "TOWNHOUSE",
    "Multi-family": "MULTI_FAMILY",
    "Manufactured": "MANUFACTURED",
    "Land": "LAND",
}
"""The portal's ``homeType`` in the schema's words; any other is OTHER."""

_SQFT_PER: Final[Mapping[str, int]] = {"sqft": 1, "acres": 43_560}
_NO_SUCH_PROPERTY: Final = "no_such_property"
_LONGEST_ID: Final = 1000
_M = TypeVar("_M", bound=BaseModel)
_CAPTCHA: Final = re.compile(rb"captcha", re.IGNORECASE)


class _Strict(Known):
    model_config = ConfigDict(allow_inf_nan=False)


class _Location(_Strict):
    lat: float
    lng: float


class _Home(_Strict):
    """A home in the portal's own words. What search results lack is None in them."""

    property_id: str = Field(alias="propertyId", min_length=1)
    detail_url: str = Field(alias="detailUrl")
    street_address: str = Field(alias="streetAddress")
    city: str
    state_code: str = Field(alias="stateCode")
    postal_code: str = Field(alias="postalCode", pattern=r"^[0-9]{5}$")
    county_name: str | None = Field(alias="countyName")
    home_type: str = Field(alias="homeType")
    sold_price: int = Field(alias="soldPrice")
    sold_date: Annotated[date, Strict(False)] = Field(alias="soldDate")
    beds: int | None
    baths: float | None
    living_area: int | None = Field(alias="livingArea")
    lot_area_value: float | None = Field(alias="lotAreaValue")
    lot_area_unit: str | None = Field(alias="lotAreaUnit")
    stories: float | None
    year_built: int | None = Field(alias="yearBuilt")
    parcel_number: str | None = Field(alias="parcelNumber")
    location: _Location | None
    list_price: int | None = Field(default=None, alias="listPrice")
    days_on_market: int | None = Field(default=None, alias="daysOnMarket")
    hoa_monthly_fee: int | None = Field(default=None, alias="hoaMonthlyFee")
    mls_number: str | None = Field(default=None, alias="mlsNumber")
    garage_spaces: int | None = Field(default=None, alias="garageSpaces")
    tax_assessed_value: int | None = Field(default=None, alias="taxAssessedValue")


class _SearchAnswer(_Strict):
    total_results: int = Field(alias="totalResults", ge=0)
    result_limit: int = Field(alias="resultLimit", ge=1)
    page_size: int = Field(alias="pageSize", ge=1)
    homes: list[Any]


class _PropertyAnswer(_Strict):
    property: _Home


class _Problem(_Strict):
    code: str


class _ProblemAnswer(_Strict):
    error: _Problem


class PortalSource:
    """A ``ListingSource`` over one portal.

    Args:
        base_url: where the portal is: ``http://host:port``.
        clock: for ``scraped_at`` and all waiting.
        options: how to ask.
        name: the prefix of listing ids. Everyone who is to agree on them must use the same.

    Raises:
        ValueError: where ``base_url`` is no such URL.
    """

    def __init__(
        self,
        base_url: str,
        *,
        clock: Clock,
        options: SourceOptions | None = None,
        name: str = "portal",
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{base_url!r} is not the URL of a portal: http://host:port is needed")
        self._base_url = base_url.rstrip("/")
        self._clock = clock
        self._options = options or SourceOptions()
        self._name = name
        self.pool = pool_of(self._options, clock)
        self._client = PoliteClient(
            self._base_url,
            clock=clock,
            pool=self.pool,
            retry=self._options.retry,
            timeout=self._options.timeout,
            local_address=self._options.local_address,
            captcha=_is_captcha,
            seed=self._options.seed,
        )

    @property
    def name(self) -> str:
        return self._name

    async def search(self, query: SearchQuery) -> AsyncIterator[list[dict[str, Any]]]:
        """See ``ListingSource.search``. Homes of another ZIP, as portals like to suggest, are
        left out.

        Raises:
            IncompleteSearch: after the last batch, where the portal counts more than it shows.
            SourceError: where it cannot be asked or understood; batches before it are good.
        """

        async def read(part: Part, page: int) -> ResultPage:
            return await self._page(query.zipcode, part, page)

        memory = Remembering(query, self._name)
        whole = Part(query.sold_from, query.sold_to)
        async with aclosing(search_whole(whole, memory.pages(read))) as batches:
            async for batch in batches:
                rows = [row for row in batch if row["zipcode"] == query.zipcode]
                fault = (
                    await memory.filled(rows, self._record) if self._options.fetch_details else None
                )
                if rows:
                    yield rows
                if fault is not None:
                    raise fault

    async def detail(self, listing_id: str) -> Detail:
        """See ``ListingSource.detail``. The row carries the id that the portal's record names."""
        prefix = f"{self._name}:"
        if not listing_id.startswith(prefix):
            raise SourceError(f"This is {self._name}; it cannot know a listing of another source.")
        property_id = listing_id.removeprefix(prefix)
        if not _can_be_asked(property_id):
            return Detail(Lookup.NOT_FOUND, None)
        answer = await self._client.get("/api/property", {"id": property_id})
        if answer.status == 404 and answer.is_json:
            problem = _parse(_ProblemAnswer, answer).error
            if problem.code == _NO_SUCH_PROPERTY:
                return Detail(Lookup.NOT_FOUND, None)
        if answer.status != 200:
            raise SourceChanged(f"{self._base_url} answers a property page with {answer.status}.")
        return Detail(Lookup.FOUND, self._row(_parse(_PropertyAnswer, answer).property))

    async def close(self) -> None:
        await self._client.close()

    async def _page(self, zipcode: str, part: Part, page: int) -> ResultPage:
        params: dict[str, Any] = {
            "zip": zipcode,
            "soldFrom": part.sold_from.isoformat(),
            "soldTo": part.sold_to.isoformat(),
            "minPrice": part.min_price,
            "page": page,
        }
        if part.max_price is not None:
            params["maxPrice"] = part.max_price
        answer = await self._client.get("/api/search", params)
        if answer.status != 200:
            raise SourceChanged(f"{self._base_url} answers a search with {answer.status}.")
        found = _parse(_SearchAnswer, answer)
        return ResultPage(
            rows=read_each(found.homes, lambda home: self._row(checked(_Home, home))),
            total=found.total_results,
            limit=found.result_limit,
            size=found.page_size,
        )

    async def _record(self, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return (await self.detail(row["listing_id"])).row

    def _row(self, home: _Home) -> dict[str, Any]:
        """A home in the schema of mechanism 5, in its units."""
        return {
            "listing_id": f"{self._name}:{home.property_id}",
            "source": self._name,
            "source_url": joined(self._base_url, home.detail_url),
            "address": home.street_address,
            "city": home.city,
            "state": home.state_code,
            "zipcode": home.postal_code,
            "property_type": PROPERTY_TYPES.get(home.home_type, "OTHER"),
            "sale_price": home.sold_price,
            "sale_date": home.sold_date,
            "scraped_at": self._clock.now(),
            "bedrooms": home.beds,
            "bathrooms": home.baths,
            "living_area_sqft": home.living_area,
            "lot_sqft": _lot_sqft(home),
            "year_built": home.year_built,
            "latitude": home.location.lat if home.location else None,
            "longitude": home.location.lng if home.location else None,
            "list_price": home.list_price,
            "days_on_market": home.days_on_market,
            "hoa_fee_monthly": home.hoa_monthly_fee,
            "parcel_id": home.parcel_number,
            "mls_id": home.mls_number,
            "stories": home.stories,
            "garage_spaces": home.garage_spaces,
            "tax_assessed_value": home.tax_assessed_value,
            "county": home.county_name,
        }


def _lot_sqft(home: _Home) -> int | None:
    if home.lot_area_value is None:
        return None
    per_unit = _SQFT_PER.get(home.lot_area_unit or "")
    if per_unit is None:
        raise SourceChanged(f"The portal gives lots in {home.lot_area_unit!r}, an unknown unit.")
    area = home.lot_area_value * per_unit
    if not math.isfinite(area):
        raise SourceChanged("The portal gives a lot that is too large to be one.")
    return round(area)


def _can_be_asked(property_id: str) -> bool:
    """Whether an id fits into a request. The portal's ids are ten digits, so one that does not
    fit is none of them; calling that an error would leave a forger's row unproven for ever."""
    try:
        return len(property_id.encode()) <= _LONGEST_ID
    except UnicodeEncodeError:
        return False


def _is_captcha(answer: Answer) -> bool:
    return answer.status == 200 and not answer.is_json and bool(_CAPTCHA.search(answer.body))


def _parse(model: type[_M], answer: Answer) -> _M:
    if not answer.is_json:
        raise SourceChanged(f"The portal answered {answer.content_type!r} where JSON was due.")
    return checked(model, loads(answer.body))
