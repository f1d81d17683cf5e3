"""A portal's homes, made up from a seed, in the shape of those that real portals show."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import polars as pl

from sn46.mechanism.assignment import AssignedZip
from sn46.mechanism.listings import SCHEMA, listings_frame
from sn46.mechanism.names import ZipCode

SOURCE: Final = "portal"
LOOKBACK: Final = timedelta(days=1095)
SEARCH_SHOWS: Final = (
    "bedrooms",
    "bathrooms",
    "living_area_sqft",
    "latitude",
    "longitude",
    "county",
)
"""Optional fields that a page of search results shows; the others stand on a home's own page."""

_SHOWN: Final[Mapping[str, float]] = {
    "bedrooms": 0.97, "bathrooms": 0.97, "living_area_sqft": 0.95, "lot_sqft": 0.9,
    "year_built": 0.97, "latitude": 1.0, "longitude": 1.0, "list_price": 0.5,
    "days_on_market": 0.5, "hoa_fee_monthly": 0.25, "parcel_id": 0.8, "mls_id": 0.6,
    "stories": 0.7, "garage_spaces": 0.6, "tax_assessed_value": 0.85, "county": 1.0,
}  # fmt: skip
_STREETS: Final = ("Oak", "Maple", "Cedar", "Pine", "Lake", "Hill", "Park", "Main", "Elm", "Walnut")
_SUFFIXES: Final = ("Street", "Avenue", "Drive", "Court", "Lane", "Road")
_RESOLD: Final = 0.05
_HORIZON: Final = timedelta(days=60)
"""Sales go on for so long after the market's first day."""


@dataclass(frozen=True)
class Resale:
    """A later sale of a home; ``price`` in USD."""

    sold_on: date
    price: int


class Market:
    """All homes of some ZIPs, and their sales over three years and the time of the arena.

    Args:
        seed: from which everything follows.
        first: the arena's first day.
        zips: how many ZIPs there are.
        homes: about how many homes each has.
    """

    def __init__(self, seed: str, first: date, *, zips: int, homes: int) -> None:
        chance = random.Random(f"{seed}:market")
        self._first = first
        self._places: dict[ZipCode, tuple[float, float]] = {}
        self._rows: dict[str, dict[str, Any]] = {}
        self._resold: dict[str, Resale] = {}
        self._frames: dict[ZipCode, pl.DataFrame] = {}
        for number in range(zips):
            zipcode = ZipCode(f"{98001 + number:05d}")
            self._places[zipcode] = (47.0 + number / 20, -122.0 - number / 20)
            count = round(homes * chance.uniform(0.8, 1.2))
            rows = [self._home(zipcode, n, chance) for n in range(count)]
            self._frames[zipcode] = self._frame(rows)

    @property
    def zipcodes(self) -> tuple[ZipCode, ...]:
        return tuple(sorted(self._frames))

    def assigned(self, zipcode: ZipCode, on: date) -> AssignedZip:
        """A ZIP as an assignment names it; it expects what the portal shows on a day."""
        latitude, longitude = self._places[zipcode]
        expected = self.shown(zipcode, on).height
        return AssignedZip(zipcode, expected, "WA", "Town", "King", "standard", latitude, longitude)

    def shown(self, zipcode: ZipCode, on: date) -> pl.DataFrame:
        """What the portal shows of a ZIP on a day, newest sale first, in the listing schema;
        ``scraped_at`` is null."""
        again = pl.col("resold_on") <= on
        now = self._frames[zipcode].with_columns(
            sale_price=pl.when(again).then("resold_price").otherwise("sale_price"),
            sale_date=pl.when(again).then("resold_on").otherwise("sale_date"),
        )
        return (
            now.filter(pl.col("sale_date").is_between(on - LOOKBACK, on))
            .sort("sale_date", "listing_id", descending=True)
            .select(*SCHEMA)
        )

    def record(self, listing_id: str, on: date) -> dict[str, Any] | None:
        """The portal's record of an id on a day; None where it knows no such property."""
        row = self._rows.get(listing_id)
        if row is None:
            return None
        later = self._resold.get(listing_id)
        if later is not None and later.sold_on <= on:
            return row | {"sale_price": later.price, "sale_date": later.sold_on}
        return row if row["sale_date"] <= on else row | {"sale_price": None, "sale_date": None}

    def _home(self, zipcode: ZipCode, number: int, chance: random.Random) -> dict[str, Any]:
        latitude, longitude = self._places[zipcode]
        identity = f"{zipcode}{chance.randrange(10**8):08d}"
        area = round(chance.lognormvariate(7.5, 0.35))
        price = _hundreds(max(50_000, area * chance.lognormvariate(5.4, 0.25)))
        days = round(LOOKBACK.days + _HORIZON.days)
        sold = self._first + _HORIZON - timedelta(days=chance.randrange(days))
        shown = {
            "bedrooms": chance.randint(1, 6),
            "bathrooms": chance.randint(2, 8) / 2,
            "living_area_sqft": area,
            "lot_sqft": round(area * chance.uniform(1.5, 6)),
            "year_built": chance.randint(1900, 2020),
            "latitude": latitude + chance.uniform(-0.03, 0.03),
            "longitude": longitude + chance.uniform(-0.03, 0.03),
            "list_price": _hundreds(price * chance.uniform(0.95, 1.08)),
            "days_on_market": chance.randint(1, 120),
            "hoa_fee_monthly": chance.randint(50, 600),
            "parcel_id": identity[-8:],
            "mls_id": f"M{chance.randrange(10**7)}",
            "stories": float(chance.randint(1, 3)),
            "garage_spaces": chance.randint(0, 3),
            "tax_assessed_value": _hundreds(price * chance.uniform(0.7, 1.0)),
            "county": "King",
        }
        row: dict[str, Any] = {
            "listing_id": f"{SOURCE}:{identity}",
            "source": SOURCE,
            "source_url": f"https://portal.example/homes/{identity}",
            "address": f"{100 + number * 7} {chance.choice(_STREETS)} {chance.choice(_SUFFIXES)}",
            "city": "Town",
            "state": "WA",
            "zipcode": zipcode,
            "property_type": chance.choice(("SINGLE_FAMILY", "SINGLE_FAMILY", "CONDO")),
            "sale_price": price,
            "sale_date": sold,
            **{name: value for name, value in shown.items() if chance.random() < _SHOWN[name]},
        }
        self._rows[row["listing_id"]] = row
        if chance.random() < _RESOLD:
            until = self._first + _HORIZON
            later = sold + timedelta(days=chance.randint(30, 900))
            if later <= until:
                resale = Resale(later, _hundreds(price * chance.uniform(1.05, 1.5)))
                self._resold[row["listing_id"]] = resale
        return row

    def _frame(self, rows: list[dict[str, Any]]) -> pl.DataFrame:
        later = [self._resold.get(row["listing_id"]) for row in rows]
        return listings_frame(rows).with_columns(
            pl.Series("resold_on", [r.sold_on if r else None for r in later], dtype=pl.Date),
            pl.Series("resold_price", [r.price if r else None for r in later], dtype=pl.Int64),
        )


def _hundreds(amount: float) -> int:
    return round(amount / 100) * 100
