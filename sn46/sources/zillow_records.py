"""Zillow's records in the words of the schema (mechanism 5).

Field names and shapes: a property as Zillow's pages carry it (``gdpClientCache``, the same object
that resellers of its data hand on) and a result of its search (``listResults``).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, Strict
from pydantic.alias_generators import to_camel

from sn46.sources.base import SourceChanged
from sn46.sources.units import (
    Known,
    Number,
    Text,
    day_of,
    joined,
    positive,
    real,
    square_feet,
    whole,
)

SOURCE: Final = "zillow"

HOME_TYPES: Final[Mapping[str, str]] = {
    "SINGLE_FAMILY": "SINGLE_FAMILY",
    "CONDO": "CONDO",
    "TOWNHOUSE": "TOWNHOUSE",
    "MULTI_FAMILY": "MULTI_FAMILY",
    "MANUFACTURED": "MANUFACTURED",
    "LOT": "LAND",
    "VACANT_LAND": "LAND",
    # Zillow's filters take both for one kind with condos: a unit that was sold alone.
    "APARTMENT": "CONDO",
    "COOPERATIVE": "CONDO",
    "HOME_TYPE_UNKNOWN": "OTHER",
}
"""Zillow's ``homeType`` in the schema's words; any other is OTHER."""

SOLD_STATUSES: Final = frozenset({"SOLD", "RECENTLY_SOLD"})
"""``statusType`` of search results that are sales."""


class Event(Enum):
    """What an entry of a price history tells."""

    SALE = "a sale"
    LISTED = "offered for sale"
    REPRICED = "another asking price"
    UNDER_WAY = "a sale under way"
    REMOVED = "no longer offered"
    RENTAL = "offered for rent"
    OTHER = "anything else"


EVENTS: Final[Mapping[str, Event]] = {
    "Sold": Event.SALE,
    "Listed for sale": Event.LISTED,
    "Relisted": Event.LISTED,
    "Back on market": Event.UNDER_WAY,
    "Price change": Event.REPRICED,
    "Pending sale": Event.UNDER_WAY,
    "Contingent": Event.UNDER_WAY,
    "Listing removed": Event.REMOVED,
    "Listed for rent": Event.RENTAL,
}
"""Zillow's ``event``; any other is OTHER."""

HOA_MONTHS: Final[Mapping[str, int]] = {
    "monthly": 1,
    "quarterly": 3,
    "semi-annually": 6,
    "annually": 12,
}

SAME_SALE: Final = timedelta(days=45)
"""The public record and the MLS tell the same sale, some days apart."""

_LONGEST: Final = 100
"""So much of a text is looked at for an amount: these patterns take long over long ones."""

_AMOUNT: Final = re.compile(r"\$(\d[\d,]*(?:\.\d+)?)\s*/?\s*([a-z-]+)", re.IGNORECASE)
_AREA: Final = re.compile(r"([\d,]*\.?\d+)\s*([A-Za-z. ]+)")


class _Camel(Known):
    model_config = ConfigDict(alias_generator=to_camel)


class PriceEvent(_Camel):
    day: Annotated[date, Strict(False)] = Field(alias="date")
    event: str
    price: Number | None = None


class Facts(_Camel):
    """``resoFacts``: what the MLS knows."""

    lot_size: str | None = None
    hoa_fee: str | None = None
    parcel_number: Text | None = None
    garage_parking_capacity: Number | None = None
    stories: Number | None = None
    tax_assessed_value: Number | None = None


class Attribution(_Camel):
    mls_id: Text | None = None


class Property(_Camel):
    """A home's own record."""

    zpid: Text
    street_address: str = Field(min_length=1)
    city: str
    state: str
    zipcode: str = Field(pattern=r"^[0-9]{5}$")
    home_type: str
    county: str | None = None
    bedrooms: Number | None = None
    bathrooms: Number | None = None
    living_area: Number | None = None
    living_area_value: Number | None = None
    living_area_units: str | None = None
    lot_area_value: Number | None = None
    lot_area_units: str | None = None
    year_built: Number | None = None
    latitude: Number | None = None
    longitude: Number | None = None
    monthly_hoa_fee: Number | None = None
    parcel_id: Text | None = None
    mlsid: Text | None = None
    attribution_info: Attribution | None = None
    tax_assessed_value: Number | None = None
    last_sold_price: Number | None = None
    date_sold: Number | None = None
    hdp_url: str | None = None
    url: str | None = None
    price_history: list[PriceEvent] | None = None
    reso_facts: Facts | None = None


class HomeInfo(_Camel):
    street_address: str | None = None
    city: str | None = None
    state: str | None = None
    zipcode: str | None = None
    home_type: str | None = None
    price: Number | None = None
    date_sold: Number | None = None
    bedrooms: Number | None = None
    bathrooms: Number | None = None
    living_area: Number | None = None
    lot_area_value: Number | None = None
    lot_area_unit: str | None = None
    tax_assessed_value: Number | None = None
    latitude: Number | None = None
    longitude: Number | None = None


class HdpData(_Camel):
    home_info: HomeInfo


class SearchResult(_Camel):
    """One of ``listResults``. Buildings have no ``zpid``, and are not homes that were sold."""

    zpid: Text | None = None
    status_type: str | None = None
    relaxed: bool | None = None
    detail_url: str | None = None
    unformatted_price: Number | None = None
    address_street: str | None = None
    address_city: str | None = None
    address_state: str | None = None
    address_zipcode: str | None = None
    beds: Number | None = None
    baths: Number | None = None
    area: Number | None = None
    hdp_data: HdpData | None = None

    @property
    def is_sale(self) -> bool:
        """Whether this is a sold home that matches the search: ``relaxed`` ones are suggestions."""
        return (
            self.zpid is not None
            and self.hdp_data is not None
            and self.status_type in SOLD_STATUSES
            and not self.relaxed
        )


@dataclass(frozen=True)
class Sale:
    """A sale out of a price history; ``days`` from the offer to the sale."""

    day: date | None = None
    price: int | None = None
    list_price: int | None = None
    days: int | None = None


def result_row(found: SearchResult, base_url: str, now: datetime) -> dict[str, Any]:
    """A search result that :attr:`SearchResult.is_sale`, as a row. Where Zillow shows no price
    (some states keep it secret), it is None."""
    if found.hdp_data is None or found.zpid is None:
        raise SourceChanged("A search result carries no zpid or no homeInfo.")
    info = found.hdp_data.home_info
    return _row(
        zpid=found.zpid,
        url=joined(base_url, found.detail_url or f"/homedetails/{found.zpid}_zpid/"),
        now=now,
        address=info.street_address or found.address_street,
        city=info.city or found.address_city,
        state=info.state or found.address_state,
        zipcode=info.zipcode or found.address_zipcode,
        home_type=info.home_type,
        sale=Sale(day_of(info.date_sold), positive(_first(found.unformatted_price, info.price))),
        bedrooms=_first(info.bedrooms, found.beds),
        bathrooms=_first(info.bathrooms, found.baths),
        living_area_sqft=positive(_first(info.living_area, found.area)),
        lot_sqft=square_feet(info.lot_area_value, info.lot_area_unit),
        latitude=info.latitude,
        longitude=info.longitude,
        tax_assessed_value=positive(info.tax_assessed_value),
    )


def property_row(
    home: Property,
    base_url: str,
    now: datetime,
    sold_from: date = date.min,
    sold_to: date = date.max,
) -> dict[str, Any]:
    """A home's own record as a row, with its newest sale between two days (inclusive)."""
    facts = home.reso_facts or Facts()
    attribution = home.attribution_info or Attribution()
    area = _first(home.living_area_value, home.living_area)
    hoa = home.monthly_hoa_fee
    return _row(
        zpid=home.zpid,
        url=joined(base_url, home.hdp_url or home.url or f"/homedetails/{home.zpid}_zpid/"),
        now=now,
        address=home.street_address,
        city=home.city,
        state=home.state,
        zipcode=home.zipcode,
        home_type=home.home_type,
        sale=newest_sale(home, sold_from, sold_to),
        bedrooms=home.bedrooms,
        bathrooms=home.bathrooms,
        living_area_sqft=square_feet(area, home.living_area_units),
        lot_sqft=_lot(home, facts),
        latitude=home.latitude,
        longitude=home.longitude,
        tax_assessed_value=positive(_first(home.tax_assessed_value, facts.tax_assessed_value)),
        year_built=positive(home.year_built),
        hoa_fee_monthly=whole(hoa) if hoa is not None else monthly_fee(facts.hoa_fee),
        parcel_id=home.parcel_id or facts.parcel_number,
        mls_id=attribution.mls_id or home.mlsid,
        stories=facts.stories,
        garage_spaces=facts.garage_parking_capacity,
        county=home.county,
    )


def newest_sale(home: Property, sold_from: date, sold_to: date) -> Sale:
    """The newest sale of a home between two days (inclusive), out of its price history; where that
    has none, what the record says of the last sale."""
    history = sorted(home.price_history or (), key=lambda entry: entry.day, reverse=True)
    until = [entry for entry in history if entry.day <= sold_to]
    sold = next((e for e in until if _kind(e) is Event.SALE), None)
    if sold is None:
        day = day_of(home.date_sold)
        if day is None or not sold_from <= day <= sold_to:
            return Sale()
        return Sale(day, positive(home.last_sold_price))
    if sold.day < sold_from:
        return Sale()
    told = [e.price for e in until if _kind(e) is Event.SALE and sold.day - e.day <= SAME_SALE]
    price = next((positive(p) for p in told if p), None)
    asked, offered = _offer(sold.day, [e for e in until if e.day <= sold.day])
    return Sale(sold.day, price, asked, (sold.day - offered).days if offered else None)


def monthly_fee(text: str | None) -> int | None:
    """``$514 monthly`` or ``$410 annually`` as dollars a month; None for nothing, and for a form or
    period that is not known."""
    match = _AMOUNT.search((text or "")[:_LONGEST])
    months = HOA_MONTHS.get(match.group(2).lower()) if match else None
    if match is None or months is None:
        return None
    return whole(float(match.group(1).replace(",", "")) / months)


def _offer(sold_on: date, before: Iterable[PriceEvent]) -> tuple[int | None, date | None]:
    """The last asking price before a sale and the day that the home was offered; None for each
    where the history does not tell. A rental, an earlier sale or a removal ends the search."""
    asked: int | None = None
    for entry in before:
        near = sold_on - entry.day <= SAME_SALE
        match _kind(entry):
            case Event.LISTED:
                return asked or positive(entry.price), entry.day
            case Event.REPRICED:
                asked = asked or positive(entry.price)
            case Event.RENTAL:
                break
            case Event.SALE | Event.REMOVED if not near:
                break
            case _:
                pass
    return None, None


def _kind(entry: PriceEvent) -> Event:
    return EVENTS.get(entry.event, Event.OTHER)


def _lot(home: Property, facts: Facts) -> int | None:
    if home.lot_area_value:
        return square_feet(home.lot_area_value, home.lot_area_units)
    if facts.lot_size is None:
        return None
    match = _AREA.fullmatch(facts.lot_size[:_LONGEST].strip())
    if match is None:
        return None  # "Irregular" and the like: words, no area
    return square_feet(float(match.group(1).replace(",", "")), match.group(2))


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _row(
    *,
    zpid: str,
    url: str,
    now: datetime,
    home_type: str | None,
    sale: Sale,
    bedrooms: float | None,
    bathrooms: float | None,
    latitude: float | None,
    longitude: float | None,
    stories: float | None = None,
    garage_spaces: float | None = None,
    **columns: Any,
) -> dict[str, Any]:
    optional = dict.fromkeys(("year_built", "hoa_fee_monthly", "parcel_id", "mls_id", "county"))
    return {
        "listing_id": f"{SOURCE}:{zpid}",
        "source": SOURCE,
        "source_url": url,
        "property_type": HOME_TYPES.get(home_type or "", "OTHER"),
        "sale_price": sale.price,
        "sale_date": sale.day,
        "scraped_at": now,
        "list_price": sale.list_price,
        "days_on_market": sale.days,
        "bedrooms": whole(bedrooms),
        "bathrooms": real(bathrooms),
        "stories": real(stories),
        "latitude": real(latitude),
        "longitude": real(longitude),
        "garage_spaces": whole(garage_spaces),
        **optional,
        **columns,
    }
