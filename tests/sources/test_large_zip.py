"""A ZIP with 5,000 sales comes out whole of portals that show 1,000 results of a search, over real
HTTP. Zillow's is in ``test_zillow``."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from portal_process import CALM, portal
from site_doubles import serving
from source_doubles import ManualClock, client_stats
from test_realtor import realtor, realtor_home

from sn46.localnet.portal import bundled_sales_path
from sn46.sources.base import ListingSource, SearchQuery
from sn46.sources.portal import PortalSource
from sn46.sources.realtor import RealtorSource

TODAY = date(2026, 3, 1)


async def ids(source: ListingSource, query: SearchQuery) -> list[str]:
    rows: list[dict[str, Any]] = []
    async for batch in source.search(query):
        rows += batch
    await source.close()
    return sorted(row["listing_id"] for row in rows)


async def test_the_portals(clock: ManualClock, tmp_path: Path) -> None:
    sales = (
        pl.read_parquet(bundled_sales_path())
        .unique("id", keep="first", maintain_order=True)
        .sort("id")[:5000]
        .with_columns(zipcode=pl.lit(98103))
    )
    sales.write_parquet(tmp_path / "sales.parquet")
    with portal(*CALM, "--data", str(tmp_path / "sales.parquet")) as url:
        source = PortalSource(url, clock=clock)
        query = SearchQuery("98103", date(2014, 1, 1), date(2015, 12, 31))
        found = await ids(source, query)
        asked = (await client_stats(url))["127.0.0.1"]
    assert found == sorted(f"portal:{n:010}" for n in sales["id"])
    # 125 pages of 40 hold them; the cuts and half-empty last pages cost the rest.
    assert asked["requests"] < 160
    assert set(asked["statuses"]) == {"200"}


async def test_realtors(clock: ManualClock) -> None:
    homes = [
        realtor_home(str(n), f"{n} Alder St", 500_000 + n, TODAY - timedelta(days=n % 1090))
        for n in range(5000)
    ]
    async with serving(realtor(homes, limit=1000)) as site:
        source = RealtorSource(site.url, clock=clock, result_limit=1000)
        found = await ids(source, SearchQuery("98101", TODAY - timedelta(days=1094), TODAY))
    assert found == sorted(f"realtor:{n}" for n in range(5000))
    # 25 pages of 200 hold them.
    assert len(site.asked) < 60


async def test_one_day_with_more_sales_than_are_shown_is_cut_by_price(
    clock: ManualClock, tmp_path: Path
) -> None:
    """Counties record whole batches on one day."""
    sales = (
        pl.read_parquet(bundled_sales_path())
        .unique("id", keep="first", maintain_order=True)
        .sort("id")[:3000]
        .with_columns(zipcode=pl.lit(98103), date=pl.lit(date(2014, 12, 31)))
    )
    sales.write_parquet(tmp_path / "sales.parquet")
    with portal(*CALM, "--data", str(tmp_path / "sales.parquet")) as url:
        source = PortalSource(url, clock=clock)
        query = SearchQuery("98103", date(2014, 1, 1), date(2015, 12, 31))
        assert await ids(source, query) == sorted(f"portal:{n:010}" for n in sales["id"])
