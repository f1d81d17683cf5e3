"""Counters of one process: they count as the library's own do, and do not grow for ever."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from limits.aio.storage import MemoryStorage

from sn46.api.limiting import IN_MEMORY, Limiter, MemoryCounters
from sn46.api.problems import Problem

START = datetime(2026, 1, 1, tzinfo=UTC)
steps = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([1, 5, 60]), st.integers(0, 7)), max_size=60
)


@pytest.fixture
def machine() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(START, tick=False) as coordinates:
        yield coordinates


@given(steps)
def test_it_counts_as_the_library_does(taken: list[tuple[str, int, int]]) -> None:
    async def compare() -> None:
        ours, theirs = MemoryCounters(), MemoryStorage()
        with time_machine.travel(START, tick=False) as coordinates:
            for key, window, pause in taken:
                assert await ours.incr(key, window) == await theirs.incr(key, window)
                assert await ours.get_expiry(key) == await theirs.get_expiry(key)
                coordinates.shift(pause)
                assert await ours.get(key) == await theirs.get(key)

    asyncio.run(compare())


async def test_what_has_ended_is_dropped(machine: time_machine.Traveller) -> None:
    counters = MemoryCounters()
    for n in range(5_000):
        await counters.incr(f"nonce/{n}", 70)
    assert counters.size == 5_000
    machine.shift(72)
    await counters.incr("nonce/new", 70)
    assert counters.size == 1


async def test_a_clock_set_back_neither_frees_nor_locks(machine: time_machine.Traveller) -> None:
    counters = MemoryCounters()
    await counters.incr("ann", 60)
    machine.shift(-3_600)
    assert await counters.incr("ann", 60) == 2
    machine.shift(3_600 + 61)
    assert await counters.incr("ann", 60) == 1


async def test_a_window_begins_with_its_first_request(machine: time_machine.Traveller) -> None:
    limiter = Limiter(IN_MEMORY)
    left: list[tuple[int, int]] = []
    for _ in range(2):
        allowance = await limiter.count("2/minute", "current", "ann")
        left.append((allowance.remaining, allowance.reset_seconds))
        machine.shift(20)
    assert left == [(1, 60), (0, 40)]
    with pytest.raises(Problem) as refused:
        await limiter.count("2/minute", "current", "ann")
    assert refused.value.headers["Retry-After"] == "20"
    assert (await limiter.count("2/minute", "current", "bob")).remaining == 1
    machine.move_to(START + timedelta(seconds=61))
    assert (await limiter.count("2/minute", "current", "ann")).remaining == 1
