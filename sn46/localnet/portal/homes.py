"""The homes that the portal shows, read from the county's sales (``data/ORIGIN.md``)."""

from collections import Counter
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import polars as pl

from sn46.mechanism.names import ZipCode
from sn46.zipcodes import load_bundled_table

STATE: Final = "WA"
_PARCEL_DIGITS: Final = 10
_COLUMNS: Final = (
    "id", "date", "price", "bedrooms", "bathrooms", "sqft_living", "sqft_lot", "floors",
    "waterfront", "view", "condition", "grade", "sqft_above", "sqft_basement", "yr_built",
    "yr_renovated", "zipcode", "lat", "long",
)  # fmt: skip


class PortalDataError(Exception):
    """A file of sales that the portal cannot serve."""


@dataclass(frozen=True, slots=True)
class Sale:
    """One sale; ``price`` in USD."""

    sold_on: date
    price: int


@dataclass(frozen=True, slots=True)
class Home:
    """One home. Areas are in square feet; ``sales`` are latest first and never empty."""

    id: str
    zipcode: ZipCode
    city: str
    county: str
    sales: tuple[Sale, ...]
    bedrooms: int
    bathrooms: float
    living_sqft: int
    lot_sqft: int
    floors: float
    waterfront: bool
    view: int
    condition: int
    grade: int
    above_sqft: int
    basement_sqft: int
    year_built: int
    year_renovated: int | None
    latitude: float
    longitude: float

    @property
    def latest(self) -> Sale:
        return self.sales[0]

    @property
    def street_address(self) -> str:
        return f"PARCEL {self.id}"


def bundled_sales_path() -> Path:
    return Path(str(files("sn46.localnet.portal") / "data" / "king_county_sales.parquet"))


def read_homes(path: Path | None = None) -> tuple[Home, ...]:
    """Every home of a file of sales, each once, sorted by id.

    Args:
        path: Parquet with the columns of the bundled file; None for the bundled one.

    Raises:
        PortalDataError: where the file cannot be read, lacks columns, or names a ZIP that the
            master table does not know.
    """
    frame = _read(path or bundled_sales_path())
    places = load_bundled_table().by_zipcode
    homes: list[Home] = []
    for row in frame.iter_rows(named=True):
        zipcode = ZipCode(str(row["zipcode"]).zfill(5))
        place = places.get(zipcode)
        if place is None:
            raise PortalDataError(f"The sales name ZIP {zipcode}, which is no ZIP of the US.")
        homes.append(_home(row, zipcode, place.city, place.county))
    return tuple(homes)


def expected_counts(path: Path | None = None) -> dict[ZipCode, int]:
    """How many homes the portal shows by ZIP, each home once: what a complete scrape finds.

    Raises:
        PortalDataError: as :func:`read_homes`.
    """
    return dict(sorted(Counter(home.zipcode for home in read_homes(path)).items()))


def _read(path: Path) -> pl.DataFrame:
    """One row a home, its sales as two lists, latest first."""
    try:
        raw = pl.read_parquet(path, memory_map=False)
    except FileNotFoundError as error:
        raise PortalDataError(f"There is no file of sales at {path}.") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PortalDataError(f"The file of sales {path} is not readable Parquet.") from error
    missing = [column for column in _COLUMNS if column not in raw.columns]
    if missing:
        raise PortalDataError(f"The file of sales {path} lacks the columns {', '.join(missing)}.")
    return (
        raw.select(_COLUMNS)
        .sort("date", "price", descending=True)
        .group_by("id", maintain_order=True)
        .agg(pl.col("date", "price"), pl.all().exclude("date", "price").first())
        .sort("id")
    )


def _home(row: dict[str, Any], zipcode: ZipCode, city: str, county: str) -> Home:
    return Home(
        id=str(row["id"]).zfill(_PARCEL_DIGITS),
        zipcode=zipcode,
        city=city,
        county=county,
        sales=tuple(Sale(d, p) for d, p in zip(row["date"], row["price"], strict=True)),
        bedrooms=row["bedrooms"],
        bathrooms=row["bathrooms"],
        living_sqft=row["sqft_living"],
        lot_sqft=row["sqft_lot"],
        floors=row["floors"],
        waterfront=row["waterfront"],
        view=row["view"],
        condition=row["condition"],
        grade=row["grade"],
        above_sqft=row["sqft_above"],
        basement_sqft=row["sqft_basement"],
        year_built=row["yr_built"],
        year_renovated=row["yr_renovated"] or None,
        latitude=row["lat"],
        longitude=row["long"],
    )
