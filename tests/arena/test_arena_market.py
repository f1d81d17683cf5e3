"""The arena's portal: what it shows, and what it says of an id."""

from datetime import date, timedelta

import polars as pl
import pytest

from sn46.arena.market import LOOKBACK, Market
from sn46.arena.rounds import PAGE_ROWS, Round, requests_for
from sn46.arena.running import registered
from sn46.mechanism.listings import SCHEMA
from sn46.mechanism.rules import Rules

TODAY = date(2025, 3, 1)


@pytest.fixture(scope="module")
def market() -> Market:
    return Market("a seed", TODAY, zips=4, homes=60)


def test_a_seed_gives_a_market(market: Market) -> None:
    again = Market("a seed", TODAY, zips=4, homes=60)
    other = Market("another", TODAY, zips=4, homes=60)
    for zipcode in market.zipcodes:
        assert market.shown(zipcode, TODAY).equals(again.shown(zipcode, TODAY))
        assert not market.shown(zipcode, TODAY).equals(other.shown(zipcode, TODAY))


def test_what_is_shown_is_on_record(market: Market) -> None:
    for zipcode in market.zipcodes:
        shown = market.shown(zipcode, TODAY)
        assert dict(shown.schema) == dict(SCHEMA)
        assert shown["sale_date"].is_between(TODAY - LOOKBACK, TODAY).all()
        for row in shown.to_dicts():
            record = market.record(row["listing_id"], TODAY)
            assert record is not None
            assert {n: v for n, v in row.items() if v is not None} == record


def test_sales_go_on(market: Market) -> None:
    later = TODAY + timedelta(days=50)
    before, after = (
        pl.concat([market.shown(z, day) for z in market.zipcodes]) for day in (TODAY, later)
    )
    new = set(after["listing_id"]) - set(before["listing_id"])
    assert new
    assert all(market.record(i, TODAY)["sale_date"] is None for i in new)  # known, and not sold
    assert after["sale_date"].max() > TODAY


def test_an_id_that_is_none(market: Market) -> None:
    assert market.record("portal:9800100000000", TODAY) is None


def test_what_was_sold_since_stands_on_the_first_pages(market: Market) -> None:
    round_ = Round(market, "a seed", 0, registered(0), Rules())
    age = timedelta(days=45)
    old, newest = round_.archive("a", age), round_.newest("a", age)
    before = TODAY - age
    new = pl.concat(list(newest.frames.values()))
    assert new.height
    assert new["sale_date"].min() > before
    known = {
        z: shown.filter(pl.col("sale_date") > before)["listing_id"].to_list()
        for z in round_.zipcodes
        for shown in [market.shown(z, TODAY)]
    }
    # A page a ZIP reaches what the archive has, and each new home has a page of its own.
    assert max(map(len, known.values())) < PAGE_ROWS
    assert newest.requests == len(known) + sum(map(len, known.values()))
    assert set(new["listing_id"]) <= {i for ids in known.values() for i in ids}
    assert newest.requests < old.requests / 10
    # Every new sale, a hundred years back, takes no less than a scrape.
    whole = round_.newest("a", timedelta(days=36_500))
    assert whole.requests == round_.whole


def test_what_a_scrape_takes_and_gives(market: Market) -> None:
    round_ = Round(market, "a seed", 0, registered(0), Rules())
    assert requests_for(81, details=True) == 3 + 81
    assert requests_for(81, details=False) == 3
    whole, half = round_.fetch("a"), round_.fetch("a", share=0.5)
    assert whole.requests == round_.whole
    assert half.requests == pytest.approx(round_.whole / 2, rel=0.1)
    assert round_.fetch("a").frames.keys() == set(round_.zipcodes)
    rows = pl.concat(list(whole.frames.values()))
    # A hundredth does not arrive, and every row is scraped within the epoch.
    shown = sum(market.shown(z, round_.today).height for z in round_.zipcodes)
    assert 0.94 < rows.height / shown <= 1
    # What is expected is an estimate.
    assert 0.9 <= round_.assignment.total_expected_listings / shown <= 1.05
    assert rows["scraped_at"].is_between(round_.epoch.start, round_.epoch.end).all()
    pages = pl.concat(list(round_.fetch("a", details=False).frames.values()))
    assert pages["year_built"].null_count() == pages.height
    assert rows["year_built"].null_count() < rows.height
