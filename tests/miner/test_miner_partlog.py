"""A search that was killed goes on at its next request, whatever the crash left on disk."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portal_process import CALM, portal
from site_doubles import Asked, Site, serving, zillow, zillow_home
from source_doubles import ManualClock, client_stats
from test_realtor import realtor, realtor_home

from sn46.miner.partlog import PartLog
from sn46.sources.base import ListingSource, SearchQuery
from sn46.sources.options import SourceOptions
from sn46.sources.politeness import PaceSettings, RetryPolicy
from sn46.sources.registry import open_source
from sn46.sources.remembering import remembered_rows
from sn46.sources.splitting import PAGES_AT_ONCE

TODAY = date(2026, 3, 1)
HOMES = 5_000
FAST = SourceOptions(
    pace=PaceSettings(start=500, minimum=1, maximum=500), retry=RetryPolicy(attempts=1)
)
Answer = Callable[[Asked], bytes]


def zillow_site() -> Answer:
    homes = [
        zillow_home(n, "98101", 100_000 + 37 * n, TODAY - timedelta(days=n % 1000))
        for n in range(1, HOMES + 1)
    ]
    return zillow(homes, TODAY)


def realtor_site() -> Answer:
    homes = [
        realtor_home(f"{n}", f"{n} Elm Ave", 100_000 + n, TODAY - timedelta(days=n % 1000))
        for n in range(1, HOMES + 1)
    ]
    return realtor(homes)


def query(log: PartLog | None) -> SearchQuery:
    return SearchQuery("98101", TODAY - timedelta(days=1094), TODAY, log)


@asynccontextmanager
async def source_at(setting: str) -> AsyncIterator[ListingSource]:
    source = open_source(setting, clock=ManualClock(), options=FAST)
    try:
        yield source
    finally:
        await source.close()


async def found(setting: str, log: PartLog | None, most: int = 10**9) -> list[dict[str, Any]]:
    """The rows of a search; given up, as by a crash, once it has given so many."""
    rows: list[dict[str, Any]] = []
    async with source_at(setting) as source:
        await take(source.search(query(log)), rows, most)
    return rows


async def take(search: Any, rows: list[dict[str, Any]], most: int) -> None:
    async with aclosing(search) as batches:
        async for batch in batches:
            rows += batch
            if len(rows) >= most:
                return


def bare(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without the moments at which they were found."""
    return sorted(
        ({k: v for k, v in row.items() if k != "scraped_at"} for row in rows),
        key=lambda row: row["listing_id"],
    )


def requests(*sites: Site) -> list[tuple[str, bytes]]:
    return [(asked.path, asked.body) for site in sites for asked in site.asked]


def assert_nothing_kept_was_asked_again(
    at_once: list[tuple[str, bytes]], runs: list[list[tuple[str, bytes]]], in_flight: int
) -> None:
    """All runs together asked for what one run asks for. Only what was under way when a run was
    cut short, the last few of its requests, may have been asked for again."""
    assert {r for run in runs for r in run} == set(at_once)
    asked: set[tuple[str, bytes]] = set()
    for run in runs:
        assert len(run) == len(set(run))
        assert not asked & set(run)
        asked |= set(run[:-in_flight])


@pytest.mark.parametrize(("kind", "make"), [("zillow", zillow_site), ("realtor", realtor_site)])
async def test_five_thousand_sales_killed_again_and_again(
    tmp_path: Path, kind: str, make: Callable[[], Answer]
) -> None:
    path = tmp_path / "98101.log"
    async with serving(make()) as site:
        whole = await found(f"{kind}:{site.url}", None)
        at_once = requests(site)
        assert len(whole) == HOMES
        rows: list[dict[str, Any]] = []
        runs: list[list[tuple[str, bytes]]] = []
        for most in (400, 1_300, 2_900, 4_700, 10**9):
            site.asked.clear()
            log = PartLog(path)
            rows = await found(f"{kind}:{site.url}", log, most)
            log.close()
            runs.append(requests(site))
    assert_nothing_kept_was_asked_again(at_once, runs, PAGES_AT_ONCE)
    assert bare(rows) == bare(whole)
    # What is on disk is all of it, for a run that has no time to ask.
    assert bare(remembered_rows(PartLog(path).entries(), "98101")) == bare(whole)


async def test_the_portals_search_goes_on_as_well(tmp_path: Path) -> None:
    years = (date(2014, 1, 1), date(2015, 12, 31))

    async def search(url: str, log: PartLog | None, most: int = 10**9) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        async with source_at(f"portal:{url}") as source:
            await take(source.search(SearchQuery("98103", *years, log)), rows, most)
        return rows

    async def asked(url: str) -> int:
        return (await client_stats(url))["127.0.0.1"]["requests"]

    with portal(*CALM, "--result-limit", "100", "--page-size", "40") as url:
        whole = await search(url, None)
        at_once = await asked(url)
        rows: list[dict[str, Any]] = []
        for most in (100, 350, 10**9):
            log = PartLog(tmp_path / "98103.log")
            rows = await search(url, log, most)
            log.close()
        kept = len(PartLog(tmp_path / "98103.log"))
        again = await asked(url) - at_once
    assert (len(whole), kept) == (600, at_once)
    # A part of 100 has three pages: two were under way at each end.
    assert at_once <= again <= at_once + 2 * 2
    assert bare(rows) == bare(whole)


async def test_details_and_combined_searches_go_on(tmp_path: Path) -> None:
    ours = [zillow_home(n, "98101", 100_000 + n, TODAY) for n in range(1, 100)]
    theirs = [realtor_home(f"{n}", f"{n} Elm Ave", 100_000 + n, TODAY) for n in range(1, 100)]
    async with serving(zillow(ours, TODAY)) as one, serving(realtor(theirs)) as other:
        setting = f"combined:zillow:{one.url}#details+realtor:{other.url}#details"
        whole = await found(setting, None)
        at_once = requests(one, other)
        rows: list[dict[str, Any]] = []
        runs: list[list[tuple[str, bytes]]] = []
        for most in (1, 50, 120, 10**9):
            one.asked.clear()
            other.asked.clear()
            log = PartLog(tmp_path / "98101.log")
            rows = await found(setting, log, most)
            log.close()
            # Realtor.com comes second, and was asked to its end before the first row.
            runs.append(requests(other, one))
    assert_nothing_kept_was_asked_again(at_once, runs, PAGES_AT_ONCE)
    assert bare(rows) == bare(whole)
    left = remembered_rows(PartLog(tmp_path / "98101.log").entries(), "98101")
    # Those that only Zillow's own pages tell were filled from the log too.
    assert all(r["year_built"] for r in left if r["source"] == "zillow")


async def test_a_page_of_homes_elsewhere_is_asked_for_again(tmp_path: Path) -> None:
    """A portal that was out of its mind when it was asked may be right the next time."""
    mad = True
    right = zillow([zillow_home(1, "98101", 1_000_000, TODAY)], TODAY)
    wrong = zillow([zillow_home(2, "98101", 1_000_000, TODAY)], TODAY)

    def answer(asked: Asked) -> bytes:
        if not mad:
            return right(asked)
        return wrong(asked).replace(b'"98101"', b'"98188"')

    async with serving(answer) as site:
        log = PartLog(tmp_path / "98101.log")
        with pytest.raises(Exception, match="homes elsewhere"):
            await found(f"zillow:{site.url}", log)
        mad = False
        assert [row["listing_id"] for row in await found(f"zillow:{site.url}", log)] == ["zillow:1"]


values = st.dictionaries(
    st.text(max_size=8).filter(lambda name: not name.startswith("$")),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(max_size=30),
        st.dates(),
        st.datetimes(timezones=st.just(UTC)),
        st.lists(st.integers(), max_size=3),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(
    kept=st.lists(values, min_size=1, max_size=8),
    damage=st.one_of(
        st.tuples(st.just("cut"), st.integers(0, 5_000), st.just(b"")),
        st.tuples(st.just("garbage"), st.integers(0, 5_000), st.binary(min_size=1, max_size=40)),
        st.tuples(st.just("tail"), st.integers(0, 0), st.binary(min_size=1, max_size=40)),
    ),
    later=values,
)
def test_a_damaged_log_never_tells_anything_else(
    tmp_path_factory: pytest.TempPathFactory,
    kept: list[dict[str, Any]],
    damage: tuple[str, int, bytes],
    later: dict[str, Any],
) -> None:
    path = tmp_path_factory.mktemp("log") / "parts" / "98101.log"

    async def write(names: dict[str, Any]) -> None:
        log = PartLog(path)
        for name, value in names.items():
            await log.keep(name, value)
        log.close()

    async def read(names: dict[str, Any]) -> dict[str, Any]:
        log = PartLog(path)
        return {name: await log.recall(name) for name in names}

    names = {f"page {n}": value for n, value in enumerate(kept)}
    asyncio.run(write(names))
    assert asyncio.run(read(names)) == names
    body = path.read_bytes()
    at = damage[1] % len(body)
    match damage[0]:
        case "cut":
            path.write_bytes(body[:at])
        case "garbage":
            path.write_bytes(body[:at] + damage[2] + body[at + len(damage[2]) :])
        case _:
            path.write_bytes(body + damage[2])
    left = asyncio.run(read(names))
    assert all(value is None or value == names[name] for name, value in left.items())
    if damage[0] == "cut":
        whole_lines = body[:at].count(b"\n")
        assert [v is not None for v in left.values()] == [n < whole_lines for n in range(len(kept))]
    # Whatever was left, what is kept from now on is there, and nothing that was there is lost.
    asyncio.run(write({"later": later}))
    assert asyncio.run(read(names | {"later": later})) == left | {"later": later}


async def test_every_type_of_a_row_comes_back(tmp_path: Path) -> None:
    row = {
        "sale_date": date(2026, 2, 10),
        "scraped_at": datetime(2026, 3, 1, 12, 0, 0, 123_456, UTC),
        "latitude": 47.123456789,
        "address": '12 Ñandú St\n"#4"\ud800',
        "sale_price": 10**30,
        "bedrooms": None,
    }
    log = PartLog(tmp_path / "x.log")
    await log.keep("page", {"rows": [row]})
    log.close()
    assert await PartLog(tmp_path / "x.log").recall("page") == {"rows": [row]}
