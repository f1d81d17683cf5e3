"""Splitting a search, over the real catalog of homes and any result limit."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from datetime import date
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn46.localnet.portal.catalog import Catalog, SearchFilter
from sn46.localnet.portal.homes import Home, read_homes
from sn46.sources.base import Blocked
from sn46.sources.splitting import IncompleteSearch, Part, ResultPage, search_whole

DAYS = (date(2014, 1, 1), date(2016, 1, 1))


@cache
def catalog() -> Catalog:
    return Catalog(read_homes())


def matches(zipcode: str, part: Part) -> list[Home]:
    return catalog().search(
        SearchFilter(zipcode, part.sold_from, part.sold_to, part.min_price, part.max_price)
    )


async def gather(
    zipcode: str, limit: int, size: int, whole: Part
) -> tuple[list[dict[str, Any]], IncompleteSearch | None, int]:
    """Rows, the shortfall, and the number of pages that were read."""
    pages = 0

    async def read(part: Part, page: int) -> ResultPage:
        nonlocal pages
        pages += 1
        found = matches(zipcode, part)
        start = (page - 1) * size
        assert page == 1 or start < limit, "a page past the limit was asked for"
        shown = found[start : min(start + size, limit)]
        return ResultPage([{"listing_id": home.id} for home in shown], len(found), limit, size)

    rows: list[dict[str, Any]] = []
    try:
        async for batch in search_whole(whole, read):
            assert batch
            rows += batch
    except IncompleteSearch as shortfall:
        return rows, shortfall, pages
    return rows, None, pages


@settings(max_examples=60, deadline=None)
@given(
    zipcode=st.sampled_from(["98103", "98039", "98105", "98148"]),
    limit=st.integers(1, 700),
    size=st.integers(1, 60),
)
def test_any_limit_gives_every_home_once_or_says_how_many_are_missing(
    zipcode: str, limit: int, size: int
) -> None:
    rows, shortfall, _ = asyncio.run(gather(zipcode, limit, size, Part(*DAYS)))
    homes = matches(zipcode, Part(*DAYS))
    ids = [row["listing_id"] for row in rows]
    assert len(ids) == len(set(ids))
    assert set(ids) <= {home.id for home in homes}
    corners = Counter((home.latest.sold_on, home.latest.price) for home in homes)
    hidden = sum(max(0, count - limit) for count in corners.values())
    assert len(ids) == len(homes) - hidden
    if hidden:
        assert shortfall is not None
        assert (shortfall.found, shortfall.missing) == (len(ids), hidden)
    else:
        assert shortfall is None


@given(
    start=st.dates(date(2010, 1, 1), date(2020, 1, 1)),
    days=st.integers(0, 4000),
    low=st.integers(0, 1 << 31),
    width=st.none() | st.integers(0, 1 << 31),
)
def test_halves_are_the_whole_without_overlap(
    start: date, days: int, low: int, width: int | None
) -> None:
    end = date.fromordinal(start.toordinal() + days)
    part = Part(start, end, low, None if width is None else low + width)
    halves = part.halves()
    if halves is None:
        assert days == 0
        assert width == 0 or (width is None and 2 * low > 1 << 31)
        return
    first, second = halves
    if days:
        assert (first.sold_from, second.sold_to) == (start, end)
        assert second.sold_from.toordinal() == first.sold_to.toordinal() + 1
        assert first.sold_from <= first.sold_to
        assert second.sold_from <= second.sold_to
    else:
        assert (first.min_price, second.max_price) == (low, part.max_price)
        assert first.max_price is not None
        assert second.min_price == first.max_price + 1
        assert first.min_price <= first.max_price


async def test_a_search_under_the_limit_reads_its_pages_and_no_more() -> None:
    rows, shortfall, pages = await gather("98103", 1000, 40, Part(*DAYS))
    assert (len(rows), shortfall, pages) == (600, None, 15)


async def test_homes_that_move_between_pages_are_counted_honestly() -> None:
    async def read(part: Part, page: int) -> ResultPage:
        # A home sold meanwhile pushed B to page 2, and C off the end.
        rows = [["A", "B"], ["B"]][page - 1]
        return ResultPage([{"listing_id": i} for i in rows], 3, 1000, 2)

    found = search_whole(Part(*DAYS), read)
    assert await anext(found) == [{"listing_id": "A"}, {"listing_id": "B"}]
    with pytest.raises(IncompleteSearch) as shortfall:
        await anext(found)
    assert (shortfall.value.found, shortfall.value.missing) == (2, 1)


async def test_overlapping_parts_count_a_home_once() -> None:
    async def read(part: Part, page: int) -> ResultPage:
        # A portal whose last day is exclusive in search, and shows the neighbouring day too.
        if part == Part(*DAYS):
            return ResultPage([], 4, 3, 40)
        shown = ["A", "B", "C"] if part.sold_from == DAYS[0] else ["C", "D"]
        return ResultPage([{"listing_id": i} for i in shown], len(shown), 3, 40)

    rows = [row["listing_id"] async for b in search_whole(Part(*DAYS), read) for row in b]
    assert rows == ["A", "B", "C", "D"]


def pages_of(count: int, size: int = 10, limit: int = 1000) -> list[ResultPage]:
    """The pages of one part with ``count`` homes."""
    rows = [{"listing_id": str(n)} for n in range(count)]
    parts = [rows[at : at + size] for at in range(0, count, size)] or [[]]
    return [ResultPage(part, count, limit, size) for part in parts]


@pytest.mark.parametrize("at_once", [1, 3, 8])
async def test_pages_are_read_a_few_at_a_time_and_given_in_order(at_once: int) -> None:
    pages, reading, most = pages_of(175), set[int](), 0

    async def read(part: Part, page: int) -> ResultPage:
        nonlocal most
        reading.add(page)
        most = max(most, len(reading))
        for _ in range(page % 5 + 1):  # they do not come back in the order they were asked in
            await asyncio.sleep(0)
        reading.discard(page)
        return pages[page - 1]

    rows = [
        row["listing_id"]
        async for batch in search_whole(Part(*DAYS), read, pages_at_once=at_once)
        for row in batch
    ]
    assert rows == [str(n) for n in range(175)]
    assert most == at_once


async def test_a_page_that_fails_ends_the_search_after_those_before_it() -> None:
    pages, reading = pages_of(200), set[int]()

    async def read(part: Part, page: int) -> ResultPage:
        reading.add(page)
        try:
            if page == 4:
                raise Blocked("refused")
            if page > 4:
                await asyncio.Event().wait()
            return pages[page - 1]
        finally:
            reading.discard(page)

    rows: list[str] = []

    async def collect() -> None:
        async for batch in search_whole(Part(*DAYS), read):
            rows.extend(row["listing_id"] for row in batch)

    with pytest.raises(Blocked):
        await collect()
    assert rows == [str(n) for n in range(30)]
    assert not reading


async def test_a_search_that_is_left_leaves_no_reading_behind() -> None:
    """Both in the middle of a part's pages and between two halves."""
    reading = set[tuple[Part, int]]()
    whole = Part(*DAYS)
    halves = whole.halves()
    assert halves

    async def read(part: Part, page: int) -> ResultPage:
        if part == whole:
            return ResultPage([], 150, 100, 10)
        reading.add((part, page))
        try:
            if part == halves[1] or page > 2:
                await asyncio.Event().wait()
            return pages_of(75)[page - 1]
        finally:
            reading.discard((part, page))

    search = search_whole(whole, read)
    assert len(await anext(search)) == 10
    assert len(await anext(search)) == 10
    await asyncio.sleep(0)
    assert (halves[1], 1) in reading
    assert len(reading) > 2
    assert isinstance(search, AsyncGenerator)
    await search.aclose()
    assert not reading


async def test_a_source_that_counts_more_while_it_is_read_is_read_on() -> None:
    async def read(part: Part, page: int) -> ResultPage:
        rows = [{"listing_id": f"{page}.{n}"} for n in range(10 if page < 5 else 3)]
        return ResultPage(rows, 20 if page == 1 else 43, 1000, 10)

    found = [row["listing_id"] async for b in search_whole(Part(*DAYS), read) for row in b]
    assert len(found) == len(set(found)) == 43
