"""How many ZIPs are scraped at a time, in which order, and what a deadline costs."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minernet import FAST
from portal_process import CALM, portal
from site_doubles import Asked, serving

from sn46.certificates import trusted
from sn46.clock import SystemClock
from sn46.localnet.portal import expected_counts
from sn46.mechanism.assignment import AssignedZip, Assignment
from sn46.mechanism.draw import ALGORITHM
from sn46.mechanism.drawinputs import DrawRules
from sn46.mechanism.epochs import epoch_at
from sn46.mechanism.names import Hotkey, ZipCode
from sn46.mechanism.rules import Rules
from sn46.mechanism.selection import FixedTarget, Selection
from sn46.mechanism.times import parse_time
from sn46.miner.collecting import Collector, Manners
from sn46.miner.metrics import serving_metrics
from sn46.miner.pipeline import largest_first
from sn46.miner.progress import MinerStatus, Phase, Progress
from sn46.miner.spool import Spool
from sn46.miner.words import progress_line, status_lines
from sn46.miner.working import Crew, Reading, work_through
from sn46.sources.base import Blocked, SearchQuery
from sn46.sources.options import SourceOptions
from sn46.sources.politeness import PaceSettings
from sn46.sources.portal import PortalSource
from sn46.sources.proxies import parse_proxy
from sn46.zipcodes import load_bundled_table

HOTKEY = Hotkey("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY")


@cache
def places() -> Any:
    return load_bundled_table().by_zipcode


@cache
def homes_by_zip() -> dict[ZipCode, int]:
    return expected_counts()


def assignment(zipcodes: list[str], limit: int = 1000) -> Assignment:
    """ZIPs of the county in an epoch of now, with a result limit of one's own."""
    now = datetime.now(UTC)
    epoch = max((epoch_at(now, hours * 3600) for hours in (4, 6, 8, 12)), key=lambda e: e.end)
    table, counts = places(), homes_by_zip()
    zips = tuple(
        AssignedZip(
            ZipCode(z), counts[ZipCode(z)], "WA", table[ZipCode(z)].city, "King", "standard",
            table[ZipCode(z)].latitude, table[ZipCode(z)].longitude,
        )
        for z in sorted(zipcodes)
    )  # fmt: skip
    return Assignment(
        epoch=epoch,
        nonce="0" * 64,
        rules=Rules(lookback_days=20_000, source_result_limit=limit),
        validators=(),
        zipcodes=zips,
        selection=Selection(
            algorithm=ALGORITHM, commitment="0" * 64, next_commitment="0" * 64, seed=None,
            table_version="0" * 64, draw_rules=DrawRules(), target_basis=FixedTarget(),
        ),
        api_hotkey=HOTKEY,
    )  # fmt: skip


@asynccontextmanager
async def collecting(
    url: str, folder: Path, manners: Manners, options: SourceOptions
) -> AsyncIterator[tuple[Collector, Spool, Progress]]:
    clock = SystemClock()
    source = PortalSource(url, clock=clock, options=options)
    spool = Spool(folder, HOTKEY)
    progress = Progress(HOTKEY, clock, folder / "status.json")
    try:
        yield Collector([source], clock=clock, progress=progress, manners=manners), spool, progress
    finally:
        spool.close()
        await source.close()


def reading(answered: float, refused: float = 0, latency: float = 0.1) -> Reading:
    return Reading(1.0, round(answered), round(refused), latency)


def test_a_crew_grows_while_answers_rise_and_goes_back_when_they_do_not() -> None:
    crew = Crew.up_to(20)
    sizes: list[int] = []
    for _ in range(6):
        crew.learn(reading(100 * min(crew.size, 12)))
        sizes.append(crew.size)
    # 5, then half more each time; the answers of 15 are as many as those of 12, so 15 stays, and
    # those of 20 brought nothing.
    assert sizes == [7, 10, 15, 20, 15, 15]


def test_a_crew_tries_one_more_now_and_then() -> None:
    crew = Crew.up_to(20)
    for _ in range(4):
        crew.learn(reading(100))
    settled = crew.size
    sizes: set[int] = set()
    for _ in range(12):
        crew.learn(reading(100))
        sizes.add(crew.size)
    assert sizes == {settled, settled + 1}


def test_a_crew_shrinks_where_many_are_refused_and_grows_again() -> None:
    crew = Crew.up_to(20)
    while crew.size < 20:
        crew.learn(reading(100 * crew.size))
    crew.learn(reading(60, refused=40))
    assert crew.size == 14
    for _ in range(3):
        crew.learn(reading(60, refused=40))
    assert crew.size == 5
    for _ in range(60):
        crew.learn(reading(100 * crew.size))
    assert crew.size > 10


def test_a_crew_shrinks_where_answers_become_slow() -> None:
    crew = Crew.up_to(10)
    crew.learn(reading(500))
    assert crew.size == 7
    crew.learn(reading(900, latency=0.3))  # a busy machine's delay
    assert crew.size == 10
    crew.learn(reading(950, latency=2.0))
    assert crew.size == 7


def test_a_crew_does_not_grow_where_some_are_refused() -> None:
    crew = Crew.up_to(10)
    for _ in range(10):
        crew.learn(reading(85, refused=15))
    assert crew.size == 5


@pytest.mark.parametrize("most", [1, 3, 5])
def test_a_small_limit_fixes_the_crew(most: int) -> None:
    crew = Crew.up_to(most)
    crew.learn(reading(100))
    crew.learn(reading(1, refused=99))
    assert crew.size == most


@given(
    st.integers(1, 64),
    st.lists(
        st.builds(
            Reading,
            st.floats(0.1, 60),
            st.integers(0, 1000),
            st.integers(0, 1000),
            st.none() | st.floats(0, 100),
        ),
        max_size=100,
    ),
)
def test_a_crew_keeps_its_bounds(most: int, readings: list[Reading]) -> None:
    crew = Crew.up_to(most)
    for one in readings:
        crew.learn(one)
        assert min(5, most) <= crew.size <= most


async def test_as_many_work_as_the_crew_has_at_the_moment() -> None:
    crew, working, doors = Crew.up_to(8), set[int](), [asyncio.Event() for _ in range(30)]

    async def work(number: int) -> None:
        working.add(number)
        await doors[number].wait()
        working.discard(number)

    async def until(*wanted: int) -> None:
        for _ in range(1_000):
            if working == set(wanted):
                return
            await asyncio.sleep(0)
        assert working == set(wanted)

    doing = asyncio.ensure_future(work_through(range(30), work, workers=crew))
    await until(0, 1, 2, 3, 4)
    crew.learn(reading(100))
    await until(0, 1, 2, 3, 4, 5, 6)
    crew.learn(reading(50, refused=50))
    assert crew.size == 5
    for door in doors[:2]:
        door.set()
    await until(2, 3, 4, 5, 6)
    doors[2].set()
    await until(3, 4, 5, 6, 7)
    for door in doors:
        door.set()
    await doing
    assert not working


async def test_an_error_ends_all_workers() -> None:
    working: set[int] = set()

    async def work(number: int) -> None:
        working.add(number)
        try:
            await asyncio.sleep(0 if number == 2 else 60)
            raise OSError("the disk is full")
        finally:
            working.discard(number)

    with pytest.raises(OSError, match="the disk is full"):
        await work_through(range(9), work, workers=Crew.up_to(5))
    assert not working


async def test_zips_are_scraped_five_to_ten_at_a_time(tmp_path: Path) -> None:
    given = assignment(sorted(homes_by_zip())[:16])
    with portal(*CALM) as url:
        options = SourceOptions(pace=FAST)
        async with collecting(url, tmp_path, Manners(), options) as (collector, spool, progress):
            seen: list[int] = []

            async def watch() -> None:
                while True:
                    seen.append(len(progress.status.under_way))
                    await asyncio.sleep(0.005)

            watching = asyncio.ensure_future(watch())
            until = datetime.now(UTC) + timedelta(minutes=2)
            await collector.collect(given, largest_first(given), spool.epoch(given), until)
            watching.cancel()
            records = spool.epoch(given).scraped().values()
    assert 5 <= max(seen) <= 10
    assert sum(record.rows for record in records) == given.total_expected_listings
    assert all(record.complete for record in records)


def test_the_order_is_the_largest_first() -> None:
    given = assignment(["98103", "98039", "98105", "98023"])
    assert [z.zipcode for z in largest_first(given)] == ["98103", "98023", "98105", "98039"]


async def test_when_time_is_short_every_zip_gets_the_rows_that_count(tmp_path: Path) -> None:
    """Eight requests a second for 14 seconds are 112 of the 176 that there are, one ZIP at a time:
    in their order the last ones would get nothing. Only the first 80 rows of each count."""
    counts = homes_by_zip()
    large = sorted(counts, key=lambda z: -counts[z])[:12]
    given = assignment([*large], limit=80)
    slow = SourceOptions(pace=PaceSettings(start=8, minimum=1, maximum=8))
    with portal(*CALM) as url:
        async with collecting(url, tmp_path, Manners(1, 2), slow) as (collector, spool, progress):
            until = datetime.now(UTC) + timedelta(seconds=14)
            work = spool.epoch(given)
            doing = asyncio.ensure_future(
                collector.collect(given, largest_first(given), work, until)
            )
            while not _is_at_the_last(progress) and not doing.done():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)
            records = {record.zipcode: record for record in work.scraped().values()}
        assert set(records) == set(large)
        assert all(record.rows >= 80 for record in records.values())
        assert not any(record.complete for record in records.values())

        # There is time after all: what was left is gone on with.
        fast = SourceOptions(pace=FAST)
        async with collecting(url, tmp_path, Manners(), fast) as (collector, spool, _):
            until = datetime.now(UTC) + timedelta(minutes=1)
            work = spool.epoch(given)
            await collector.collect(given, largest_first(given), work, until)
            records = {record.zipcode: record for record in work.scraped().values()}
        async with httpx.AsyncClient(verify=trusted()) as http:
            stats = (await http.get(f"{url}/stats")).json()["clients"]["127.0.0.1"]
    assert {z: (r.rows, r.complete) for z, r in records.items()} == {
        z: (counts[z], True) for z in large
    }
    pages = sum(-(-counts[z] // 40) for z in large)
    # The requests that were under way when a ZIP was left are made again, and no others.
    assert pages <= stats["requests"] <= pages + 2 * len(large)


def _is_at_the_last(progress: Progress) -> bool:
    status = progress.status
    return status.zips_failed == 11 and any(way.found >= 80 for way in status.under_way)


async def test_scraping_stops_in_time(tmp_path: Path) -> None:
    given = assignment(sorted(homes_by_zip())[:8])
    slow = SourceOptions(pace=PaceSettings(start=4, minimum=1, maximum=4))
    with portal(*CALM) as url:
        async with collecting(url, tmp_path, Manners(), slow) as (collector, spool, _):
            until = datetime.now(UTC) + timedelta(seconds=3)
            work = spool.epoch(given)
            async with asyncio.timeout(60):
                await collector.collect(given, largest_first(given), work, until)
            rows = sum(record.rows for record in work.scraped().values())
    assert 0 < rows < given.total_expected_listings


class Refusing(PortalSource):
    """The portal, which refuses one ZIP's first searches."""

    refuses = "98039"
    left = 0
    searches = 0
    retry_after: float | None = None

    async def search(self, query: SearchQuery) -> AsyncGenerator[list[dict[str, Any]]]:
        if query.zipcode == self.refuses:
            self.searches += 1
            if self.left:
                self.left -= 1
                raise Blocked("403", self.retry_after)
        async for rows in super().search(query):
            yield rows


class StandingClock:
    """Time goes on where the test says so and nowhere else, however slow the machine is."""

    def __init__(self, start: datetime) -> None:
        self._time = start
        self._moved = asyncio.Event()

    def now(self) -> datetime:
        return self._time

    async def sleep(self, duration: timedelta) -> None:
        wake = self._time + duration
        while self._time < wake:
            await self._moved.wait()

    def advance_to(self, moment: datetime) -> None:
        self._time = moment
        self._moved.set()
        self._moved = asyncio.Event()


async def collect_refused(
    tmp_path: Path,
    refusals: int,
    attempts: int | None,
    patient: bool,
    retry_after: float | None = None,
) -> tuple[int, bool, list[float], list[str]]:
    """Of a ZIP that is refused so often while there are two hours: (its searches, whether it is
    complete, the pauses in seconds, what a person saw in them)."""
    given = assignment(["98103", "98039"])
    clock, began = StandingClock(given.epoch.start), given.epoch.start
    until = began + timedelta(hours=2)
    spool, progress = Spool(tmp_path, HOTKEY), Progress(HOTKEY, clock)
    pauses, seen = list[float](), list[str]()
    with portal(*CALM) as url:
        source = Refusing(url, clock=SystemClock(), options=SourceOptions(pace=FAST))
        source.left, source.retry_after = refusals, retry_after
        collector = Collector(
            [source], clock=clock, progress=progress, manners=Manners(5, attempts)
        )
        work = spool.epoch(given)
        progress.update(phase=Phase.SCRAPING)
        doing = asyncio.ensure_future(
            collector.collect(given, largest_first(given), work, until, patient=patient)
        )
        while not doing.done():
            if (again := progress.status.again_at) is not None:
                seen.append(progress_line(progress.status, clock.now()))
                pauses.append((parse_time(again) - clock.now()).total_seconds())
                clock.advance_to(parse_time(again))
                while progress.status.again_at == again:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            await asyncio.sleep(0.001)
        await doing
        await source.close()
    record = work.scraped()[ZipCode("98039")]
    spool.close()
    return source.searches, record.complete, pauses, seen


async def test_what_is_refused_is_tried_again_while_waiting_costs_nothing(tmp_path: Path) -> None:
    searches, complete, pauses, seen = await collect_refused(tmp_path, 9, None, patient=True)
    assert (searches, complete) == (10, True)
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert "1 incomplete" in seen[-1]
    assert "the incomplete ones are tried again in 0:0" in seen[-1]


@pytest.mark.parametrize(
    ("retry_after", "searches", "pauses"),
    [(900, 3, [900, 900]), (1, 3, [2, 4]), (1e9, 2, [3600, 3600])],
)
async def test_a_source_is_left_alone_for_as_long_as_it_asks(
    tmp_path: Path, retry_after: float, searches: int, pauses: list[int]
) -> None:
    done, _, paused, _ = await collect_refused(tmp_path, 2, None, True, retry_after)
    assert done == searches
    assert paused == pauses


async def test_what_stays_refused_is_given_up_when_time_is_up(tmp_path: Path) -> None:
    searches, complete, pauses, _ = await collect_refused(tmp_path, 10_000, None, patient=True)
    assert not complete
    assert 15 < searches < 25
    assert max(pauses) <= 600


@pytest.mark.parametrize(
    ("attempts", "patient", "searches"), [(None, False, 2), (3, True, 3), (3, False, 3)]
)
async def test_what_is_refused_is_given_up_where_it_is_to_be(
    tmp_path: Path, attempts: int | None, patient: bool, searches: int
) -> None:
    done, complete, _, _ = await collect_refused(tmp_path, 10_000, attempts, patient)
    assert (done, complete) == (searches, False)


class Broken(PortalSource):
    """The portal, whose adapter breaks its word in one ZIP, and writes very much in another."""

    wrote = False

    async def search(self, query: SearchQuery) -> AsyncGenerator[list[dict[str, Any]]]:
        async for rows in super().search(query):
            if query.zipcode == "98103" and not self.wrote:
                self.wrote = True
                rows[0]["address"] = "1 A ST " + "X" * 5_000_000
            yield rows
            if query.zipcode == "98039":
                raise RuntimeError("s3cret")


async def test_a_source_that_breaks_its_word_costs_its_own_rows(tmp_path: Path) -> None:
    given, clock = assignment(["98103", "98039"]), SystemClock()
    spool, progress = Spool(tmp_path, HOTKEY), Progress(HOTKEY, clock)
    with portal(*CALM) as url:
        source = Broken(url, clock=clock, options=SourceOptions(pace=FAST))
        work = spool.epoch(given)
        collector = Collector([source], clock=clock, progress=progress, manners=Manners(5, 1))
        until = clock.now() + timedelta(minutes=5)
        await collector.collect(given, largest_first(given), work, until)
        await source.close()
    broken, long = (work.scraped()[ZipCode(z)] for z in ("98039", "98103"))
    assert broken.rows > 0
    assert not broken.complete
    assert "mistake: RuntimeError at test_miner_pace.py, line" in broken.note
    assert "s3cret" not in broken.note
    assert long.complete
    assert [(f.what, f.count) for f in long.dropped] == [
        ("a value is not of its column's type, or too long", 1)
    ]
    assert len(work.rows_of(ZipCode("98103")).write_csv()) < 1_000_000
    spool.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_each_proxy_is_seen_without_its_credentials(tmp_path: Path) -> None:
    """One proxy answers as a portal without homes would, the other one refuses."""
    empty = b'{"totalResults": 0, "resultLimit": 1000, "pageSize": 40, "homes": []}'

    def answer(asked: Asked) -> bytes:
        kind = b"application/json\r\nContent-Length: %d\r\n" % len(empty)
        return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: " + kind + b"\r\n" + empty

    def refuse(asked: Asked) -> bytes:
        return b"HTTP/1.1 403 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

    given = assignment(["98103", "98039", "98105", "98023"])
    async with serving(answer) as good, serving(refuse) as bad:
        proxies = tuple(
            parse_proxy(site.url.replace("//", "//ann:s3cret@")) for site in (good, bad)
        )
        options = SourceOptions(pace=FAST, proxies=proxies)
        where = "http://portal.example:80"
        async with collecting(where, tmp_path, Manners(), options) as (collector, spool, progress):
            until = datetime.now(UTC) + timedelta(seconds=30)
            await collector.collect(given, largest_first(given), spool.epoch(given), until)
            port = _free_port()
            with serving_metrics(progress, "127.0.0.1", port):
                async with httpx.AsyncClient(verify=trusted()) as http:
                    metrics = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
            progress.beat()
            kept: Any = (tmp_path / "status.json").read_text()
            lines = list(status_lines(progress.status, datetime.now(UTC)))
    names = [site.url.removeprefix("http://") for site in (good, bad)]
    way = f'proxy="{names[0]}",result="answered",source="portal"'
    assert f"sn46_miner_proxy_requests_total{{{way}}} 4.0" in metrics
    way = f'proxy="{names[1]}",result="refused",source="portal"'
    assert f"sn46_miner_proxy_requests_total{{{way}}} {float(len(bad.asked))}" in metrics
    assert f'sn46_miner_proxy_latency_seconds{{proxy="{names[0]}",source="portal"}}' in metrics
    (line,) = [line for line in lines if names[0] in line]
    assert "portal over" in line
    assert "4 answered, 0 refused, 0 lost" in line
    assert MinerStatus.from_json(json.loads(kept)).routes == progress.status.routes
    for text in (metrics, kept, "\n".join(lines)):
        assert "s3cret" not in text
        assert "ann" not in text.replace("cannot", "")
