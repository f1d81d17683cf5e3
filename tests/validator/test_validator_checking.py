"""Spot checks against the real portal: verdicts, what is kept for a day, and the deadline."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from apinet import MovedClock
from mechanism.builders import key
from portal_process import CALM, portal
from valinet import quick_source

from sn46.certificates import trusted
from sn46.localnet.portal import read_homes
from sn46.mechanism.evidence import EVIDENCE_SCHEMA, Check, write_evidence
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.parquetfile import decode
from sn46.mechanism.sampling import SampledRow
from sn46.mechanism.times import format_time
from sn46.mechanism.verdicts import Verdict
from sn46.sources.base import Detail, Lookup, SearchQuery, SourceError
from sn46.validator.checking import FRESH, RecordCache, SpotChecker

Row = tuple[SampledRow, dict[str, Any]]
Checker = Callable[..., Awaitable[list[Check]]]
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
_addresses = count(50)


def row_of(row: dict[str, Any], **changes: Any) -> Row:
    row = row | changes
    return SampledRow(Hotkey("miner"), row["listing_id"], 0, 0, (), 0), row


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock(datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.fixture
def address() -> str:
    """A client address that no other test uses."""
    return f"127.0.1.{next(_addresses)}"


@pytest.fixture
async def homes(portal_url: str, clock: MovedClock) -> list[dict[str, Any]]:
    """Some homes as the portal shows them."""
    source = quick_source(portal_url, clock, "127.0.0.1")
    query = SearchQuery(read_homes()[0].zipcode, date(2014, 1, 1), date(2015, 12, 31))
    try:
        async for batch in source.search(query):
            return batch[:10]
    finally:
        await source.close()
    raise AssertionError("the portal shows no home")


@pytest.fixture
async def check(
    portal_url: str, clock: MovedClock, address: str, tmp_path: Path
) -> AsyncIterator[Checker]:
    """Checks rows as a validator does that has just been started."""
    async with AsyncExitStack() as stack:

        async def run(
            *rows: Row, url: str = portal_url, until: timedelta = HOUR, concurrency: int = 4
        ) -> list[Check]:
            source = quick_source(url, clock, address)
            stack.push_async_callback(source.close)
            cache = RecordCache(tmp_path / "records.sqlite", clock)
            stack.callback(cache.close)
            checker = SpotChecker([source], cache, clock, concurrency=concurrency)
            told: list[tuple[int, int]] = []
            found = await checker.check(
                rows, until=clock.now() + until, report=lambda done, of: told.append((done, of))
            )
            assert told == [(n, len(rows)) for n in range(1, len(found) + 1)]
            return found

        yield run


async def asked(url: str, address: str) -> int:
    async with httpx.AsyncClient(verify=trusted()) as http:
        clients = (await http.get(f"{url}/stats")).json()["clients"]
    return clients.get(address, {}).get("requests", 0)


@pytest.fixture(scope="module")
def refusing_portal() -> Iterator[str]:
    with portal("--p429", "0", "--p403", "1", "--slow", "0", *CALM[-4:]) as url:
        yield url


@pytest.fixture(scope="module")
def slow_portal() -> Iterator[str]:
    with portal("--p429", "0", "--p403", "0", "--slow", "1", *CALM[-4:]) as url:
        yield url


async def test_verdicts(check: Checker, homes: list[dict[str, Any]]) -> None:
    given = [
        row_of(homes[0]),
        row_of(homes[1], sale_price=homes[1]["sale_price"] * 2),
        row_of(homes[2], address="1 Invented Street"),
        row_of(homes[3], listing_id="portal:0000000001"),
        row_of(homes[4], listing_id="nowhere:1", source="nowhere"),
    ]
    found = {c.listing_id: c for c in await check(*given)}
    assert [found[sampled.listing_id].verdict for sampled, _ in given] == [
        Verdict.CONFIRMED,
        Verdict.CONTRADICTED,
        Verdict.MISIDENTIFIED,
        Verdict.NOT_FOUND,
        Verdict.INCONCLUSIVE,
    ]
    assert "sale_price" in found[homes[1]["listing_id"]].detail
    assert "No adapter for the source 'nowhere'" in found["nowhere:1"].detail


async def test_a_listing_is_asked_for_once_for_all_miners(
    check: Checker, homes: list[dict[str, Any]], portal_url: str, address: str
) -> None:
    def rows(miner: str, **changes: Any) -> list[Row]:
        found = [row_of(home, **changes) for home in homes[:3]]
        return [(replace(sampled, miner=Hotkey(miner)), row) for sampled, row in found]

    honest, other, wrong = rows("a"), rows("b"), rows("c", sale_price=1)
    found = await check(*(row for three in zip(honest, other, wrong, strict=True) for row in three))
    assert await asked(portal_url, address) == 3
    assert len(found) == 9
    verdicts = {(c.miner, c.listing_id): c.verdict for c in found}
    for home in homes[:3]:
        assert verdicts["a", home["listing_id"]] == Verdict.CONFIRMED
        assert verdicts["b", home["listing_id"]] == Verdict.CONFIRMED
        assert verdicts["c", home["listing_id"]] == Verdict.CONTRADICTED


async def test_what_the_source_refuses_is_refused_to_all_alike(
    check: Checker, homes: list[dict[str, Any]], refusing_portal: str
) -> None:
    sampled, row = row_of(homes[0])
    twice = [(replace(sampled, miner=Hotkey(miner)), row) for miner in "ab"]
    found = await check(*twice, url=refusing_portal)
    assert [(c.miner, c.verdict) for c in found] == [
        ("a", Verdict.INCONCLUSIVE),
        ("b", Verdict.INCONCLUSIVE),
    ]
    assert found[0].detail == found[1].detail


async def test_what_was_fetched_is_used_for_a_day(
    check: Checker, homes: list[dict[str, Any]], clock: MovedClock, portal_url: str, address: str
) -> None:
    given = [row_of(homes[0]), row_of(homes[3], listing_id="portal:0000000001")]
    first = await check(*given)
    assert await asked(portal_url, address) == 2
    clock.advance(FRESH - 60 * SECOND)
    again = await check(*given)
    key = lambda c: c.listing_id  # noqa: E731
    assert sorted(again, key=key) == sorted(first, key=key)
    assert await asked(portal_url, address) == 2
    clock.advance(61 * SECOND)
    later = await check(*given)
    assert await asked(portal_url, address) == 4
    assert min(c.checked_at for c in later) > max(c.checked_at for c in first) + FRESH
    assert {c.verdict for c in later} == {Verdict.CONFIRMED, Verdict.NOT_FOUND}


async def test_a_refusal_is_inconclusive_and_not_kept(
    check: Checker, homes: list[dict[str, Any]], refusing_portal: str
) -> None:
    given = [row_of(homes[0]), row_of(homes[3], listing_id="portal:0000000001")]
    refused = await check(*given, url=refusing_portal)
    assert {c.verdict for c in refused} == {Verdict.INCONCLUSIVE}
    assert all(c.detail.startswith("The source gave no answer") for c in refused)
    assert {c.verdict for c in await check(*given)} == {Verdict.CONFIRMED, Verdict.NOT_FOUND}


async def test_a_portal_that_is_not_there_is_inconclusive(
    check: Checker, homes: list[dict[str, Any]]
) -> None:
    [found] = await check(row_of(homes[0]), url="http://127.0.0.1:9")
    assert found.verdict == Verdict.INCONCLUSIVE


async def test_the_deadline_cuts_short_and_what_is_done_is_returned(
    check: Checker, homes: list[dict[str, Any]], slow_portal: str
) -> None:
    given = [row_of(home) for home in homes]
    found = await check(*given, url=slow_portal, until=2 * SECOND, concurrency=1)
    assert 0 < len(found) < len(given)
    assert [c.listing_id for c in found] == [s.listing_id for s, _ in given[: len(found)]]
    assert {c.verdict for c in found} == {Verdict.CONFIRMED}
    assert await check(*given, url=slow_portal, until=-SECOND) == []
    assert await check() == []


class HalfSigns:
    """A source whose record has half of a sign of two, or whose refusal does."""

    name = "odd"

    async def detail(self, listing_id: str) -> Detail:
        if listing_id == "odd:2":
            raise SourceError("no \ud83c")
        row = {"listing_id": listing_id, "zipcode": "98101", "address": "1 Pike St \ud83c"}
        return Detail(Lookup.FOUND, row)

    def search(self, query: SearchQuery) -> AsyncIterator[list[dict[str, Any]]]:
        raise NotImplementedError

    async def close(self) -> None:
        pass


class Mistaken(HalfSigns):
    """An adapter with a mistake, which its own packages raise as they like."""

    async def detail(self, listing_id: str) -> Detail:
        raise ZeroDivisionError("of http://ann:s3cret@proxy")


async def test_a_mistake_of_a_source_tells_nothing_of_a_row(
    tmp_path: Path, clock: MovedClock
) -> None:
    cache = RecordCache(tmp_path / "records.sqlite", clock)
    checker = SpotChecker([Mistaken()], cache, clock, concurrency=1)
    row = row_of({"listing_id": "odd:1", "zipcode": "98101", "address": "2 Pike St"})
    (check,) = await checker.check([row], until=clock.now() + HOUR, report=lambda done, of: None)
    cache.close()
    assert check.verdict is Verdict.INCONCLUSIVE
    assert "ZeroDivisionError at test_validator_checking.py" in check.detail
    assert "s3cret" not in check.detail


async def test_half_a_sign_is_compared_and_written_down(tmp_path: Path, clock: MovedClock) -> None:
    """One such text of a portal ended the validator, at each new start again."""
    for _ in range(2):  # as the source says it, and as it was kept
        cache = RecordCache(tmp_path / "records.sqlite", clock)
        checker = SpotChecker([HalfSigns()], cache, clock, concurrency=1)
        rows = [
            row_of({"listing_id": f"odd:{n}", "zipcode": "98101", "address": "2 Pike St"})
            for n in (1, 2)
        ]
        checks = await checker.check(rows, until=clock.now() + HOUR, report=lambda done, of: None)
        cache.close()
        assert [c.verdict for c in checks] == [Verdict.MISIDENTIFIED, Verdict.INCONCLUSIVE]
        body, _ = write_evidence(checks, epoch_id=EpochId("2026-03-01-08:00"), signer=key("v"))
        told = decode(body, most_rows=2, schema=EVIDENCE_SCHEMA)["detail"].to_list()
        assert told == [
            "The source shows '1 Pike St ?' under this id, the row '2 Pike St'.",
            "The source gave no answer: no ?",
        ]


def test_records_survive_a_restart_in_all_their_types(tmp_path: Path, clock: MovedClock) -> None:
    row = {"listing_id": "portal:1", "sale_date": date(2015, 1, 2), "bathrooms": 2.5, "city": None}
    cache = RecordCache(tmp_path / "deep" / "records.sqlite", clock)
    cache.put("portal:1", Detail(Lookup.FOUND, row), clock.now())
    cache.put("portal:2", Detail(Lookup.NOT_FOUND, None), clock.now())
    at = cache.get("portal:2")
    cache.close()
    cache = RecordCache(tmp_path / "deep" / "records.sqlite", clock)
    found = cache.get("portal:1")
    assert found is not None
    assert found[0].row is not None
    assert {key: found[0].row[key] for key in row} == row
    assert cache.get("portal:2") == at
    assert cache.get("portal:3") is None
    clock.advance(FRESH + SECOND)
    assert cache.get("portal:1") is None
    cache.close()


def test_a_disk_that_refuses_costs_a_question_and_nothing_else(
    tmp_path: Path, clock: MovedClock
) -> None:
    cache = RecordCache(tmp_path / "records.sqlite", clock)
    cache.put("portal:1", Detail(Lookup.NOT_FOUND, None), clock.now())
    with sqlite3.connect(tmp_path / "records.sqlite") as other:
        other.execute("DROP TABLE records")
    assert cache.get("portal:1") is None
    cache.put("portal:1", Detail(Lookup.NOT_FOUND, None), clock.now())
    cache.close()


def test_records_that_were_damaged_cost_a_question_and_nothing_else(
    tmp_path: Path, clock: MovedClock
) -> None:
    path = tmp_path / "records.sqlite"
    path.write_bytes(b"no database " * 1_000)
    cache = RecordCache(path, clock)
    cache.put("portal:1", Detail(Lookup.NOT_FOUND, None), clock.now())
    assert cache.get("portal:1") is not None
    with sqlite3.connect(path) as other:
        for number, odd in enumerate(["{", "[]", "{}", '{"sale_date": 5}', '{"sale_date": "x"}']):
            row = (f"odd:{number}", format_time(clock.now()), odd)
            other.execute("INSERT INTO records VALUES (?, ?, ?)", row)
        other.execute("INSERT INTO records VALUES ('odd:when', 'yesterday', NULL)")
    assert [cache.get(f"odd:{n}") for n in (0, 1, 2, 3, 4, "when")] == [None] * 6
    cache.close()
