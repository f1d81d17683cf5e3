"""The adapter against the real portal: complete, exact, and in the schema's units."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from portal_process import CALM, portal
from source_doubles import ManualClock, client_stats

from sn46.localnet.portal import bundled_sales_path, expected_counts
from sn46.mechanism.listings import COLUMNS, PROPERTY_TYPES, SCHEMA, listings_frame, write_listings
from sn46.sources import portal as adapter
from sn46.sources.base import ListingSource, Lookup, SearchQuery, SourceError
from sn46.sources.options import SourceOptions
from sn46.sources.portal import PortalSource
from sn46.sources.splitting import IncompleteSearch

YEARS = (date(2013, 1, 1), date(2016, 1, 1))
ALL_IN_98103 = SearchQuery("98103", *YEARS)


def source(url: str, **options: Any) -> PortalSource:
    return PortalSource(url, clock=ManualClock(), options=SourceOptions(**options))


async def collect(source: ListingSource, query: SearchQuery, rows: list[dict[str, Any]]) -> None:
    """Add what the search gives, also where it then fails."""
    async for batch in source.search(query):
        rows += batch


async def rows_of(source: ListingSource, query: SearchQuery) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    await collect(source, query, rows)
    return rows


async def test_every_home_arrives_as_the_raw_file_has_it(calm_portal: str) -> None:
    one = source(calm_portal)
    rows: list[dict[str, Any]] = []
    for zipcode in expected_counts():
        rows += await rows_of(one, SearchQuery(zipcode, *YEARS))
    await one.close()
    frame = listings_frame(rows)
    assert write_listings(frame)

    raw = pl.read_parquet(bundled_sales_path())
    raw = raw.filter(pl.col("date") == pl.col("date").max().over("id"))
    parcel = pl.col("id").cast(pl.String).str.zfill(10)
    wanted = raw.select(
        listing_id="portal:" + parcel,
        source=pl.lit("portal"),
        source_url=calm_portal + "/api/property?id=" + parcel,
        address="PARCEL " + parcel,
        state=pl.lit("WA"),
        zipcode=pl.col("zipcode").cast(pl.String),
        property_type=pl.lit("SINGLE_FAMILY"),
        sale_price=pl.col("price"),
        sale_date=pl.col("date"),
        bedrooms=pl.col("bedrooms"),
        bathrooms=pl.col("bathrooms"),
        living_area_sqft=pl.col("sqft_living"),
        lot_sqft=pl.col("sqft_lot"),
        year_built=pl.col("yr_built"),
        latitude=pl.col("lat"),
        longitude=pl.col("long"),
        parcel_id=parcel,
        stories=pl.col("floors"),
        county=pl.lit("King County"),
    ).sort("listing_id")
    assert frame.sort("listing_id").select(wanted.columns).equals(wanted)
    absent = [c for c in COLUMNS if c not in {*wanted.columns, "city", "scraped_at"}]
    assert all(frame[column].null_count() == frame.height for column in absent)
    assert frame["city"].null_count() == 0
    assert frame.filter(zipcode="98103")["city"].unique().to_list() == ["Seattle"]


async def test_a_row_is_stamped_by_the_injected_clock(calm_portal: str) -> None:
    clock = ManualClock()
    one = PortalSource(calm_portal, clock=clock)
    rows = await rows_of(one, SearchQuery("98039", *YEARS))
    stamps = {row["scraped_at"] for row in rows}
    assert datetime(2026, 3, 1, 12, tzinfo=UTC) <= min(stamps) <= max(stamps) <= clock.now()
    assert set(rows[0]) == set(SCHEMA)
    await one.close()


async def test_dates_bound_a_search_inclusively(calm_portal: str) -> None:
    one = source(calm_portal)
    raw = pl.read_parquet(bundled_sales_path())
    raw = raw.filter(pl.col("date") == pl.col("date").max().over("id"), pl.col("zipcode") == 98103)
    first, last = date(2014, 6, 2), date(2014, 6, 30)
    rows = await rows_of(one, SearchQuery("98103", first, last))
    wanted = raw.filter(pl.col("date").is_between(first, last))
    assert len(rows) == wanted.height > 0
    assert {first, last} <= {row["sale_date"] for row in rows} == set(wanted["date"])
    await one.close()


@pytest.mark.parametrize(("limit", "size"), [(100, 40), (37, 10), (7, 40), (3, 2)])
async def test_a_zip_over_the_result_limit_comes_out_complete(limit: int, size: int) -> None:
    with portal(*CALM, "--result-limit", str(limit), "--page-size", str(size)) as url:
        one = source(url)
        rows = await rows_of(one, ALL_IN_98103)
        await one.close()
        statuses = (await client_stats(url))["127.0.0.1"]["statuses"]
    ids = [row["listing_id"] for row in rows]
    assert len(ids) == len(set(ids)) == 600
    assert set(statuses) == {"200"}


async def test_more_homes_of_one_day_and_price_than_shown_are_reported(tmp_path: Path) -> None:
    raw = pl.read_parquet(bundled_sales_path()).filter(pl.col("zipcode") == 98039)
    homes = raw.unique("id").sort("id")
    corner = homes.with_row_index().with_columns(
        date=pl.when(pl.col("index") < 9).then(date(2014, 7, 1)).otherwise("date"),
        price=pl.when(pl.col("index") < 9).then(1_000_000).otherwise("price"),
    )
    corner.drop("index").write_parquet(tmp_path / "sales.parquet")
    with portal(*CALM, "--data", str(tmp_path / "sales.parquet"), "--result-limit", "5") as url:
        one = source(url)
        rows: list[dict[str, Any]] = []
        with pytest.raises(IncompleteSearch, match="4 are missing") as shortfall:
            await collect(one, SearchQuery("98039", *YEARS), rows)
        await one.close()
    assert len({row["listing_id"] for row in rows}) == len(rows) == homes.height - 4
    assert (shortfall.value.found, shortfall.value.missing) == (homes.height - 4, 4)


async def test_a_zip_without_sales_gives_no_batch(calm_portal: str) -> None:
    one = source(calm_portal)
    assert await rows_of(one, SearchQuery("90210", *YEARS)) == []
    await one.close()


async def test_a_detail_is_the_row_of_the_search(calm_portal: str) -> None:
    one = source(calm_portal)
    (row, *_) = await rows_of(one, ALL_IN_98103)
    found = await one.detail(row["listing_id"])
    assert found.lookup is Lookup.FOUND
    assert found.row is not None
    assert {**found.row, "scraped_at": None} == {**row, "scraped_at": None}
    await one.close()


@pytest.mark.parametrize(
    "property_id",
    ["0000000001", "", " ", "x", "../search?zip=98103", "7129300520 ", "07129300520",
     "7129300520&id=1", "7129300520#", "é\u2028\0", "\ud800", "9" * 900, "9" * 1_000_000],
)  # fmt: skip
async def test_an_id_that_no_home_can_have_is_not_found(calm_portal: str, property_id: str) -> None:
    one = source(calm_portal)
    found = await one.detail(f"portal:{property_id}")
    assert (found.lookup, found.row) == (Lookup.NOT_FOUND, None)
    await one.close()


async def test_an_id_of_another_source_is_an_error_and_no_statement(calm_portal: str) -> None:
    one = source(calm_portal)
    for listing_id in ("zillow:7129300520", "7129300520", "", "Portal:7129300520"):
        with pytest.raises(SourceError, match="another source"):
            await one.detail(listing_id)
    await one.close()


async def test_details_are_fetched_for_each_row_only_where_asked_for() -> None:
    query = SearchQuery("98039", *YEARS)  # 49 homes, two pages
    with portal(*CALM) as url:
        plain, thorough = source(url), source(url, fetch_details=True, local_address="127.0.0.2")
        rows, detailed = await rows_of(plain, query), await rows_of(thorough, query)
        clients = await client_stats(url)
        await plain.close()
        await thorough.close()
    assert clients["127.0.0.1"]["requests"] == 2
    assert clients["127.0.0.2"]["requests"] == 2 + 49
    for row in (*rows, *detailed):
        row["scraped_at"] = None
    assert rows == detailed


async def test_two_portals_stand_side_by_side(tmp_path: Path) -> None:
    raw = pl.read_parquet(bundled_sales_path())
    raw.filter(pl.col("zipcode") != 98103).write_parquet(tmp_path / "other.parquet")
    with portal(*CALM) as first, portal(*CALM, "--data", str(tmp_path / "other.parquet")) as second:
        one = source(first)
        two = PortalSource(second, clock=ManualClock(), name="other")
        rows = await rows_of(one, ALL_IN_98103)
        assert len(rows) == 600
        assert await rows_of(two, ALL_IN_98103) == []
        home = rows[0]["parcel_id"]
        assert (await one.detail(f"portal:{home}")).lookup is Lookup.FOUND
        assert (await two.detail(f"other:{home}")).lookup is Lookup.NOT_FOUND
        assert (await two.detail("other:7129300520")).row is not None
        await one.close()
        await two.close()


def test_every_property_type_is_one_of_the_schema() -> None:
    assert set(adapter.PROPERTY_TYPES.values()) == set(PROPERTY_TYPES) - {"OTHER"}


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "ftp://h", "http://"])
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not the URL of a portal"):
        PortalSource(url, clock=ManualClock())
