"""What the portal can answer: its homes as JSON in the portal's own words, and how to find them."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import orjson

from sn46.localnet.portal.homes import STATE, Home

SQFT_PER_ACRE: Final = 43_560
_HOME_TYPE: Final = "House"


@dataclass(frozen=True)
class SearchFilter:
    """Bounds are inclusive; None leaves a side open. Prices in USD."""

    zipcode: str
    sold_from: date | None = None
    sold_to: date | None = None
    min_price: int | None = None
    max_price: int | None = None

    def admits(self, home: Home) -> bool:
        sale = home.latest
        return (
            (self.sold_from is None or self.sold_from <= sale.sold_on)
            and (self.sold_to is None or sale.sold_on <= self.sold_to)
            and (self.min_price is None or self.min_price <= sale.price)
            and (self.max_price is None or sale.price <= self.max_price)
        )


class Catalog:
    """All homes in memory; search rows are serialised once."""

    def __init__(self, homes: Iterable[Home]) -> None:
        self._by_id = {home.id: home for home in homes}
        by_zip: defaultdict[str, list[Home]] = defaultdict(list)
        for home in self._by_id.values():
            by_zip[home.zipcode].append(home)
        for found in by_zip.values():
            found.sort(key=lambda home: (-home.latest.sold_on.toordinal(), home.id))
        self._by_zip = dict(by_zip)
        self._summaries = {home.id: _fragment(home) for home in self._by_id.values()}

    @property
    def homes(self) -> int:
        return len(self._by_id)

    @property
    def zipcodes(self) -> int:
        return len(self._by_zip)

    def search(self, wanted: SearchFilter) -> list[Home]:
        """All matches, newest sale first, ties by id."""
        return [home for home in self._by_zip.get(wanted.zipcode, ()) if wanted.admits(home)]

    def summary_json(self, home: Home) -> orjson.Fragment:
        return self._summaries[home.id]

    def home(self, property_id: str) -> Home | None:
        return self._by_id.get(property_id)


def _fragment(home: Home) -> orjson.Fragment:
    # orjson's result keeps its roomy buffer, about 8 kB; a copy has the size of its content.
    return orjson.Fragment(bytes(memoryview(orjson.dumps(summary(home)))))


def summary(home: Home) -> dict[str, Any]:
    """A home as search results show it. Lots of an acre and more are given in acres."""
    in_acres = home.lot_sqft >= SQFT_PER_ACRE
    return {
        "propertyId": home.id,
        "detailUrl": f"/api/property?id={home.id}",
        "streetAddress": home.street_address,
        "city": home.city,
        "stateCode": STATE,
        "postalCode": home.zipcode,
        "countyName": home.county,
        "homeType": _HOME_TYPE,
        "status": "SOLD",
        "soldPrice": home.latest.price,
        "soldDate": home.latest.sold_on.isoformat(),
        "beds": home.bedrooms,
        "baths": home.bathrooms,
        "livingArea": home.living_sqft,
        "lotAreaValue": round(home.lot_sqft / SQFT_PER_ACRE, 6) if in_acres else home.lot_sqft,
        "lotAreaUnit": "acres" if in_acres else "sqft",
        "stories": home.floors,
        "yearBuilt": home.year_built,
        "parcelNumber": home.id,
        "location": {"lat": home.latitude, "lng": home.longitude},
    }


def detail(home: Home) -> dict[str, Any]:
    """A home as its own page shows it. What the county's records lack is null."""
    return {
        **summary(home),
        "saleHistory": [
            {"date": sale.sold_on.isoformat(), "price": sale.price} for sale in home.sales
        ],
        "listPrice": None,
        "daysOnMarket": None,
        "hoaMonthlyFee": None,
        "mlsNumber": None,
        "garageSpaces": None,
        "taxAssessedValue": None,
        "yearRenovated": home.year_renovated,
        "waterfront": home.waterfront,
        "viewScore": home.view,
        "conditionScore": home.condition,
        "constructionGrade": home.grade,
        "aboveGroundArea": home.above_sqft,
        "basementArea": home.basement_sqft,
    }
