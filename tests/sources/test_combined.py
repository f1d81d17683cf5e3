"""Several sources as one, over loopback: what is filled, what is not, and whose each row is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from typing import Any

import pytest
from site_doubles import Site, serving, zillow, zillow_home
from source_doubles import ManualClock, http
from test_realtor import realtor, realtor_home

from sn46.sources.base import ListingSource, Lookup, SearchQuery, SourceError
from sn46.sources.combined import CombinedSource, by_name
from sn46.sources.options import SourceOptions
from sn46.sources.politeness import RetryPolicy
from sn46.sources.registry import open_source
from sn46.sources.splitting import IncompleteSearch

TODAY = date(2026, 3, 1)
SOLD = date(2026, 2, 10)
QUERY = SearchQuery("98101", TODAY - timedelta(days=1094), TODAY)
ONCE = SourceOptions(retry=RetryPolicy(attempts=1))


@asynccontextmanager
async def both(
    clock: ManualClock, ours: list[Any], theirs: list[Any], **limits: int
) -> AsyncIterator[tuple[Site, Site, ListingSource]]:
    """Zillow first, then Realtor.com."""
    async with serving(zillow(ours, TODAY, **limits)) as one, serving(realtor(theirs)) as other:
        setting = f"combined:zillow:{one.url}+realtor:{other.url}"
        source = open_source(setting, clock=clock, options=ONCE)
        try:
            yield one, other, source
        finally:
            await source.close()


async def collect(source: ListingSource, rows: list[dict[str, Any]]) -> None:
    async for batch in source.search(QUERY):
        rows += batch


async def test_one_fills_what_the_other_lacks_and_rows_keep_their_origin(
    clock: ManualClock,
) -> None:
    known_to_both = zillow_home(1, "98101", 500_000, SOLD, streetAddress="12 North Alder Street #4")
    only_zillow = zillow_home(2, "98101", 510_000, SOLD)
    twin = realtor_home("71", "12 N Alder St, 4", 500_500, SOLD + timedelta(days=2))
    only_realtor = realtor_home("72", "9 Elm Ave", 520_000, SOLD)
    async with both(clock, [known_to_both, only_zillow], [twin, only_realtor]) as (_, _, source):
        rows: list[dict[str, Any]] = []
        await collect(source, rows)
        assert (await source.detail("zillow:1")).lookup is Lookup.FOUND
        assert (await source.detail("realtor:72")).lookup is Lookup.FOUND
        with pytest.raises(SourceError, match="None of the combined sources is 'redfin'"):
            await source.detail("redfin:1")
    assert {row["listing_id"]: row["source"] for row in rows} == {
        "zillow:1": "zillow",
        "zillow:2": "zillow",
        "realtor:72": "realtor",
    }
    filled, alone = rows[0], rows[1]
    assert filled["source_url"].endswith("/1_zpid/")
    assert (filled["sale_price"], filled["bathrooms"]) == (500_000, 2.0)
    assert (filled["year_built"], filled["parcel_id"], filled["list_price"]) == (
        1999,
        "0660000",
        515_000,
    )
    assert alone["year_built"] is None


async def test_another_sale_of_the_home_fills_only_what_is_the_homes(clock: ManualClock) -> None:
    ours = zillow_home(1, "98101", 500_000, SOLD, streetAddress="9 Elm Ave")
    earlier = realtor_home("72", "9 Elm Ave", 400_000, SOLD - timedelta(days=300))
    async with both(clock, [ours], [earlier]) as (_, _, source):
        rows: list[dict[str, Any]] = []
        await collect(source, rows)
    (row,) = rows
    assert (row["listing_id"], row["sale_price"], row["year_built"]) == ("zillow:1", 500_000, 1999)
    assert (row["list_price"], row["days_on_market"], row["mls_id"]) == (None, None, None)


@pytest.mark.parametrize("refused", ["zillow", "realtor"])
async def test_one_source_that_refuses_costs_only_its_own_rows(
    clock: ManualClock, refused: str
) -> None:
    ours, theirs = [zillow_home(1, "98101", 1, SOLD)], [realtor_home("72", "9 Elm Ave", 1, SOLD)]
    async with both(clock, ours, theirs) as (one, other, source):
        (one if refused == "zillow" else other).always["/"] = http(403)
        rows: list[dict[str, Any]] = []
        with pytest.raises(SourceError, match=f"{refused}: .* refuses direct: 403"):
            await collect(source, rows)
    assert [row["source"] for row in rows] == [{"zillow": "realtor", "realtor": "zillow"}[refused]]


async def test_what_sources_do_not_show_is_told_together(clock: ManualClock) -> None:
    ours = [zillow_home(n, "98101", 500_000, TODAY) for n in range(1, 31)]
    async with both(clock, ours, [], size=10, pages=2) as (_, _, source):
        rows: list[dict[str, Any]] = []
        with pytest.raises(IncompleteSearch) as told:
            await collect(source, rows)
    assert (len(rows), told.value.missing) == (20, 10)


async def test_checks_find_the_sources_of_a_combined_one(clock: ManualClock) -> None:
    async with both(clock, [], []) as (_, _, source):
        assert isinstance(source, CombinedSource)
        assert set(by_name([source])) == {"zillow", "realtor"}
        assert by_name([source.parts[0]]) == {"zillow": source.parts[0]}
