"""What a cheat does to rows. Everything made up is as plausible as its maker could have it."""

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from sn46.arena.market import SOURCE
from sn46.mechanism.listings import OPTIONAL, SCHEMA

_STREETS: Final = ("Birch", "Spruce", "River", "Church", "School", "Mill", "Spring", "Ridge")
_INVENTED_FIRST: Final = 3_000
"""House numbers from here on are of no real home."""

UNPROVABLE: Final = tuple(
    name
    for name in OPTIONAL
    if name not in ("bedrooms", "bathrooms", "living_area_sqft", "year_built")
)
"""Optional fields in which a wrong value contradicts no row."""

_PLAUSIBLE: Final[Mapping[str, Any]] = {
    "bedrooms": 3, "bathrooms": 2.0, "living_area_sqft": 1_800, "lot_sqft": 6_000,
    "year_built": 1_985, "latitude": None, "longitude": None, "list_price": 400_000,
    "days_on_market": 21, "hoa_fee_monthly": 0, "parcel_id": "00-1234", "mls_id": "M1234567",
    "stories": 2.0, "garage_spaces": 2, "tax_assessed_value": 350_000, "county": "King",
}  # fmt: skip


def invented(like: pl.DataFrame, count: int, chance: random.Random) -> pl.DataFrame:
    """Homes that do not exist, each like a real one of the ZIP but for id, address and price."""
    models = like[[chance.randrange(like.height) for _ in range(count)]]
    zipcodes: list[str] = models["zipcode"].to_list()
    ids = [f"{zipcode}{chance.randrange(10**8):08d}" for zipcode in zipcodes]
    numbers = chance.sample(range(_INVENTED_FIRST, _INVENTED_FIRST + 20 * max(count, 1)), count)
    rate = pl.Series([chance.uniform(0.95, 1.05) for _ in range(count)], dtype=pl.Float64)
    grown = pl.Series([chance.uniform(0.95, 1.05) for _ in range(count)], dtype=pl.Float64)
    texts = {
        "listing_id": [f"{SOURCE}:{id_}" for id_ in ids],
        "source_url": [f"https://portal.example/homes/{id_}" for id_ in ids],
        "address": [f"{number} {chance.choice(_STREETS)} Way" for number in numbers],
    }
    parcels = pl.Series([id_[-8:] for id_ in ids], dtype=pl.String)
    return models.with_columns(
        *(pl.Series(name, values, dtype=pl.String) for name, values in texts.items()),
        sale_price=(pl.col("sale_price") * rate * grown).round().cast(pl.Int64),
        living_area_sqft=(pl.col("living_area_sqft") * grown).round().cast(pl.Int64),
        parcel_id=pl.when(pl.col("parcel_id").is_not_null()).then(parcels),
    )


def filled(rows: pl.DataFrame, names: Sequence[str] = OPTIONAL) -> pl.DataFrame:
    """Optional fields that a row does not have, filled with plausible values."""
    values = {name: _PLAUSIBLE[name] for name in names if _PLAUSIBLE[name] is not None}
    return rows.with_columns(
        pl.col(name).fill_null(pl.lit(value, dtype=SCHEMA[name])) for name, value in values.items()
    )


def priced(rows: pl.DataFrame, percent: int, share: float, chance: random.Random) -> pl.DataFrame:
    """A share of the rows with a price that is so many percent too high or too low."""
    rates = [
        1 + chance.choice((-1, 1)) * percent / 100 if chance.random() < share else 1.0
        for _ in range(rows.height)
    ]
    rate = pl.Series(rates, dtype=pl.Float64)
    return rows.with_columns(sale_price=(pl.col("sale_price") * rate).round().cast(pl.Int64))


def respelled(rows: pl.DataFrame) -> pl.DataFrame:
    """The same homes under other ids and another spelling of their addresses."""
    return rows.with_columns(
        listing_id=pl.col("listing_id") + "-2",
        address=pl.col("address").str.to_lowercase().str.replace_all(" ", "  ") + ".",
    )


def in_units(rows: pl.DataFrame) -> pl.DataFrame:
    """The same homes once more as units that they do not have, a little dearer."""
    return rows.with_columns(
        listing_id=pl.col("listing_id") + "02",
        source_url=pl.col("source_url") + "02",
        address=pl.col("address") + " Unit 2",
        sale_price=(pl.col("sale_price") * 1.02).round().cast(pl.Int64),
        living_area_sqft=(pl.col("living_area_sqft") * 1.01).round().cast(pl.Int64),
    )


def stapled(rows: pl.DataFrame, ids: list[str]) -> pl.DataFrame:
    """Real records, each under the id of another real home."""
    return rows.with_columns(pl.Series("listing_id", ids[: rows.height], dtype=pl.String))


def made_up(rows: pl.DataFrame, chance: random.Random) -> pl.DataFrame:
    """Real ids and addresses; all that is compared is guessed."""
    count = rows.height
    rate = pl.Series([chance.uniform(0.7, 1.3) for _ in range(count)], dtype=pl.Float64)
    return filled(
        rows.with_columns(
            pl.lit(None).cast(SCHEMA[name]).alias(name)
            for name in OPTIONAL
            if name not in ("latitude", "longitude", "county")
        ).with_columns(
            sale_price=(pl.col("sale_price") * rate).round().cast(pl.Int64),
            living_area_sqft=pl.Series([chance.randint(900, 3_500) for _ in range(count)]),
            bedrooms=pl.Series([chance.randint(2, 5) for _ in range(count)], dtype=pl.Int64),
        )
    )
