"""The tables that can be asked, their columns with types and meanings: what ``sn46 data tables``
prints, and what the page for readers shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from sn46.data.preparing import STORED_SCHEMA


@dataclass(frozen=True)
class Column:
    """A column as DuckDB types it, and what it means, with its unit."""

    name: str
    type: str
    meaning: str


_MEANINGS: Final[Mapping[str, str]] = {
    "listing_id": "SOURCE:ID of the home at the portal it was found at",
    "source": "portal",
    "source_url": "page of the home there",
    "address": "as the portal writes it",
    "city": "city",
    "state": "two letters",
    "zipcode": "ZIP, five digits, a text",
    "property_type": "SINGLE_FAMILY, CONDO, TOWNHOUSE, MULTI_FAMILY, MANUFACTURED, LAND or OTHER",
    "sale_price": "of the last sale, US dollars",
    "sale_date": "of the last sale, as the portal records it",
    "scraped_at": "when the winning miner read the page, UTC",
    "bedrooms": "count",
    "bathrooms": "count; halves are baths without a tub",
    "living_area_sqft": "square feet",
    "lot_sqft": "square feet",
    "year_built": "year",
    "latitude": "degrees north, WGS 84",
    "longitude": "degrees east, WGS 84",
    "list_price": "last asking price, US dollars",
    "days_on_market": "days",
    "hoa_fee_monthly": "US dollars a month",
    "parcel_id": "number in the county's register",
    "mls_id": "number in the brokers' multiple listing service",
    "stories": "count",
    "garage_spaces": "cars",
    "tax_assessed_value": "US dollars",
    "county": "county",
    "miner_hotkey": "the winner whose row it is",
    "rank": "that winner's place in the epoch, 1 to 3",
    "epoch_id": "start of the epoch in UTC, as YYYY-MM-DD-HH:MM",
    "confirmations": "how many miners reported the home in that epoch, the winner included",
    "address_key": "normalised address: with the ZIP, what makes two spellings one home",
    "epoch_start": "start of the epoch, to the minute, UTC",
}

_TYPES: Final[Mapping[pl.DataType, str]] = {
    pl.String(): "VARCHAR",
    pl.Int64(): "BIGINT",
    pl.Float64(): "DOUBLE",
    pl.Date(): "DATE",
    pl.Datetime("us", "UTC"): "TIMESTAMP WITH TIME ZONE",
}

HISTORY: Final[Mapping[str, str]] = {
    "epoch_id": "VARCHAR",
    "sale_date": "DATE",
    "sale_price": "BIGINT",
    "confirmations": "BIGINT",
    "listing_id": "VARCHAR",
    "miner_hotkey": "VARCHAR",
}
_HISTORY_TYPE: Final = f"STRUCT({', '.join(f'{n} {t}' for n, t in HISTORY.items())})[]"

OBSERVATIONS: Final = tuple(
    Column(name, _TYPES[dtype], _MEANINGS[name]) for name, dtype in STORED_SCHEMA.items()
)
"""As published: one row for each home and epoch."""

LISTINGS: Final = (
    Column("home_id", "VARCHAR", "the home: the smallest of its listing_ids"),
    *OBSERVATIONS,
    Column("first_epoch", "VARCHAR", "epoch_id of its first observation"),
    Column("observations", "BIGINT", "how many observations there are of it"),
    Column("sales", "BIGINT", "how many different sale dates they show"),
    Column("listing_ids", "VARCHAR[]", "all ids it was reported under"),
    Column("history", _HISTORY_TYPE, "its observations, oldest first"),
)
"""One row a home: its newest observation, and all of them in ``history``."""

EPOCHS: Final = (
    Column("epoch_id", "VARCHAR", "start of the epoch in UTC, as YYYY-MM-DD-HH:MM"),
    Column("epoch_start", "TIMESTAMP WITH TIME ZONE", "start of the epoch, to the minute, UTC"),
    Column("listings", "BIGINT", "rows that count"),
    Column("zipcodes", "BIGINT", "ZIPs that they are in"),
    Column("consensus_hash", "VARCHAR", "of the scores and weights that most validators found"),
    Column("rows_sha256", "VARCHAR", "of the rows, in whatever order they were published"),
    Column("winners", "VARCHAR[]", "hotkeys of the winners, by rank"),
    Column("validators", "BIGINT", "how many validators published something"),
    Column("agreeing", "VARCHAR[]", "hotkeys of those whose rows these are"),
    Column("differing", "MAP(VARCHAR, VARCHAR)", "the others, and in what they differ"),
)
"""What was published of each epoch, and who agrees."""

TABLES: Final[Mapping[str, tuple[str, tuple[Column, ...]]]] = {
    "listings": ("a row a home, as it was seen last, with its history", LISTINGS),
    "observations": ("a row for each home and epoch, as published", OBSERVATIONS),
    "epochs": ("a row an epoch: what was published, and who agrees", EPOCHS),
}


def empty_select(columns: tuple[Column, ...]) -> str:
    """A query with these columns and no row."""
    nulls = ", ".join(f'NULL::{column.type} AS "{column.name}"' for column in columns)
    return f"SELECT {nulls} WHERE false"
