"""The table that comes with the package (its origin: ``data/ORIGIN.md``)."""

from importlib.resources import as_file, files

import polars as pl

from sn46.zipcodes.table import TABLE_SCHEMA, MasterTable, table_from_frame


def load_bundled_table() -> MasterTable:
    """All 42,724 US ZIPs with the figures of the 2020 census, none with expected listings.

    ZIPs that the census does not know have 0 people and 0 housing units and no home value.
    """
    with as_file(files("sn46.zipcodes") / "data" / "us_zipcodes.parquet") as path:
        raw = pl.read_parquet(path, memory_map=False)
    frame = raw.select(
        pl.col("zipcode"),
        pl.lit(None, dtype=pl.Int64).alias("expected_listings"),
        pl.col("state"),
        pl.col("major_city").alias("city"),
        pl.col("county"),
        pl.col("lat").alias("latitude"),
        pl.col("lng").alias("longitude"),
        pl.col("population").fill_null(0),
        pl.col("housing_units").fill_null(0).alias("property_count"),
        pl.col("median_home_value").alias("home_value"),
        pl.lit(None, dtype=pl.Date).alias("updated_on"),
    )
    return table_from_frame(frame.cast(dict(TABLE_SCHEMA)))  # pyright: ignore[reportArgumentType]
