"""A listing (a sold home): its columns, their types and what identifies it (mechanism 5)."""

import io
from collections.abc import Mapping
from typing import Final

import polars as pl

REQUIRED: Final = (
    "listing_id",
    "source",
    "source_url",
    "address",
    "city",
    "state",
    "zipcode",
    "property_type",
    "sale_price",
    "sale_date",
    "scraped_at",
)
OPTIONAL: Final = (
    "bedrooms",
    "bathrooms",
    "living_area_sqft",
    "lot_sqft",
    "year_built",
    "latitude",
    "longitude",
    "list_price",
    "days_on_market",
    "hoa_fee_monthly",
    "parcel_id",
    "mls_id",
    "stories",
    "garage_spaces",
    "tax_assessed_value",
    "county",
)
"""Counted for completeness: 16 fields."""

COLUMNS: Final = REQUIRED + OPTIONAL

PROPERTY_TYPES: Final = (
    "SINGLE_FAMILY",
    "CONDO",
    "TOWNHOUSE",
    "MULTI_FAMILY",
    "MANUFACTURED",
    "LAND",
    "OTHER",
)

_INT64 = (
    "sale_price",
    "bedrooms",
    "living_area_sqft",
    "lot_sqft",
    "year_built",
    "list_price",
    "days_on_market",
    "hoa_fee_monthly",
    "garage_spaces",
    "tax_assessed_value",
)
_DOUBLE = ("bathrooms", "latitude", "longitude", "stories")


def _dtype(column: str) -> pl.DataType:
    if column in _INT64:
        return pl.Int64()
    if column in _DOUBLE:
        return pl.Float64()
    if column == "sale_date":
        return pl.Date()
    if column == "scraped_at":
        return pl.Datetime("us", "UTC")
    return pl.String()


SCHEMA: Final[Mapping[str, pl.DataType]] = {column: _dtype(column) for column in COLUMNS}
"""Columns in the file's order with their types; every one is nullable in the file."""


def empty_listings() -> pl.DataFrame:
    return pl.DataFrame(schema=dict(SCHEMA))


def listings_frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    """Rows as dictionaries (absent fields are null) in the schema's order and types.

    Raises:
        polars.exceptions.PolarsError: where a value does not fit its column.
    """
    full = [{column: row.get(column) for column in COLUMNS} for row in rows]
    return pl.DataFrame(full, schema=dict(SCHEMA), orient="row")


def write_listings(frame: pl.DataFrame) -> bytes:
    """Snappy Parquet of one ZIP's listings, as mechanism 4 and 5 want it.

    Raises:
        ValueError: where the frame's columns or types are not the schema's.
    """
    if dict(frame.schema) != dict(SCHEMA):
        raise ValueError("the frame is not in the listing schema")
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="snappy", statistics=True)
    return buffer.getvalue()
