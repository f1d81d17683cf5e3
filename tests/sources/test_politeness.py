"""Pace, retries and Retry-After, on a clock that moves by sleeping."""

import asyncio
import random
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_doubles import ManualClock

from sn46.sources.politeness import Pace, PaceSettings, RetryPolicy, read_retry_after

EVEN = PaceSettings(start=10, minimum=1, maximum=20, increase=2, decrease=0.5, longest_hold=30)


async def test_turns_keep_their_distance(clock: ManualClock) -> None:
    pace = Pace(clock, EVEN)
    begun = clock.now()
    turns = [await pace.turn() for _ in range(51)]
    assert turns[-1] - begun == pytest.approx(timedelta(seconds=5), abs=timedelta(seconds=0.21))
    gaps = [(b - a).total_seconds() for a, b in pairwise(turns[1:])]
    assert min(gaps) > 0.0999


async def test_waiting_tasks_get_their_turns_in_the_order_they_came(clock: ManualClock) -> None:
    pace = Pace(clock, EVEN)
    order: list[int] = []

    async def wait(number: int) -> None:
        await pace.turn()
        order.append(number)

    await asyncio.gather(*(wait(n) for n in range(20)))
    assert order == list(range(20))


async def test_it_says_how_long_who_asks_now_would_wait(clock: ManualClock) -> None:
    pace = Pace(clock, EVEN)
    assert pace.expected_wait == 0
    turns = [asyncio.ensure_future(pace.turn()) for _ in range(6)]
    await asyncio.sleep(0)
    # One has its turn at once; five wait, a tenth of a second each.
    assert pace.expected_wait == pytest.approx(0.6, abs=0.11)
    await asyncio.gather(*turns)
    pace.refused(clock.now(), retry_after=12)
    assert pace.expected_wait == pytest.approx(12, abs=0.3)


async def test_it_slows_down_when_refused_and_speeds_up_again(clock: ManualClock) -> None:
    pace = Pace(clock, EVEN)
    pace.refused(await pace.turn())
    assert pace.rate == 5
    pace.refused(await pace.turn())
    assert pace.rate == 2.5
    begun = clock.now()
    while pace.rate < 4.5:
        await pace.turn()
        pace.succeeded()
    # 2 requests/s faster in a second of answers
    assert (clock.now() - begun).total_seconds() == pytest.approx(1, abs=0.5)


async def test_refusals_of_requests_under_way_together_count_once(clock: ManualClock) -> None:
    pace = Pace(clock, EVEN)
    together = [await pace.turn() for _ in range(5)]
    await clock.sleep(timedelta(seconds=1))
    for asked_at in together:
        pace.refused(asked_at)
    assert pace.rate == 5


async def test_the_source_is_left_alone_for_as_long_as_it_asks(clock: ManualClock) -> None:
    pace = Pace(clock, EVEN)
    asked_at = await pace.turn()
    pace.refused(asked_at, retry_after=12)
    assert await pace.turn() - asked_at >= timedelta(seconds=12)
    asked_at = await pace.turn()
    pace.refused(asked_at, retry_after=86_400)
    waited = await pace.turn() - asked_at
    assert timedelta(seconds=30) <= waited < timedelta(seconds=31)


async def test_a_clock_set_back_does_not_stall_it(clock: ManualClock) -> None:
    pace = Pace(clock, EVEN)
    pace.refused(await pace.turn(), retry_after=5)
    clock.moment -= timedelta(hours=1)
    before = clock.total
    await pace.turn()
    assert clock.total - before <= 30


@given(st.lists(st.booleans(), max_size=300))
def test_the_rate_stays_within_its_bounds(answers: list[bool]) -> None:
    async def play() -> None:
        pace = Pace(ManualClock(), EVEN)
        for answered in answers:
            asked_at = await pace.turn()
            if answered:
                pace.succeeded()
            else:
                pace.refused(asked_at)
            assert EVEN.minimum <= pace.rate <= EVEN.maximum

    asyncio.run(play())


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": 100.0},
        {"minimum": 0.0},
        {"decrease": 1.0},
        {"increase": 0.0},
        {"longest_hold": -1.0},
    ],
)
def test_a_pace_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="pace needs"):
        PaceSettings(**wrong)


def test_pauses_double_up_to_the_longest_and_are_jittered() -> None:
    policy = RetryPolicy(attempts=9, first_pause=1, longest_pause=10)
    chance = random.Random(1)
    for failures, full in enumerate([1, 2, 4, 8, 10, 10], 1):
        pauses = {policy.pause(failures, chance).total_seconds() for _ in range(200)}
        assert full / 2 <= min(pauses) < full * 0.55
        assert full * 0.95 < max(pauses) <= full
    assert policy.pause(100_000, chance).total_seconds() <= 10


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first_pause": -1.0}, {"longest_pause": 0.1}])
def test_retries_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="retries need"):
        RetryPolicy(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7),
        (" 0 ", 0),
        ("Sun, 01 Mar 2026 12:01:30 GMT", 90),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("9" * 400, 999_999_999),
        ("Sun, 01 Mar 2026 12:01:30 +99999999999999999999", None),
        ("Sun, 01 Mar 99999999999999999999 12:01:30 GMT", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    now = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
    assert read_retry_after(header, now) == seconds
