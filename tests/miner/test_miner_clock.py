"""A machine whose clock is wrong: it is said, and the miner goes by the API's time."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from minernet import Competition, read_status
from source_doubles import ManualClock

from sn46.clock import SystemClock
from sn46.mechanism.names import PPM
from sn46.miner.apiclock import LONGEST_ANSWER, TRUSTED_SKEW, ApiClock
from sn46.miner.pipeline import Pipeline
from sn46.miner.process import opened
from sn46.miner.settings import load_settings
from sn46.miner.trial import try_once
from sn46.miner.watching import read_status as status_of
from sn46.miner.watching import why_not_running
from sn46.miner.words import status_lines


class WrongClock(SystemClock):
    """The machine's clock, set wrongly."""

    def __init__(self, ahead: timedelta) -> None:
        self._ahead = ahead

    def now(self) -> datetime:
        return super().now() + self._ahead


@pytest.mark.parametrize(
    "ahead", [timedelta(hours=5), timedelta(minutes=-20)], ids=["ahead", "behind"]
)
async def test_a_wrong_clock_costs_nothing(
    competition: Competition, tmp_path: Path, ahead: timedelta
) -> None:
    """Hours ahead, each request would be of the future and the deadline past; behind, the epoch
    would not have begun."""
    assignment, data = await competition.assignment(), tmp_path / "data"
    names = competition.environment("ann", data)
    wanted = {k.lower(): v for k, v in names.items() if k not in ("PATH", "HOME")}
    settings = load_settings(_env_file=None, **wanted)
    machine = WrongClock(ahead)
    async with opened(settings, Pipeline(), machine) as miner:
        running = asyncio.create_task(miner.run())

        async def done() -> bool:
            return read_status(data).get("last_result") is not None

        await competition.net.until(done, seconds=60)
        status = status_of(data / "status.json")
        assert status is not None
        lines = "\n".join(status_lines(status, machine.now()))
        fault = why_not_running(status, machine.now())
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    judged = await competition.judged(assignment)
    assert (judged.reasons, judged.participant, judged.volume) == ((), True, PPM)
    assert (status.last_result, fault) == ("submitted", None)
    direction = "ahead of" if ahead > timedelta(0) else "behind"
    assert f"s {direction} the API's: set it right" in lines
    assert abs(status.clock_ahead_seconds - ahead.total_seconds()) <= TRUSTED_SKEW.total_seconds()
    # A trial on the same machine is judged by the same time.
    found = await try_once(settings, machine, zips=1)
    assert found.valid


def date(moment: datetime) -> str:
    return moment.strftime("%a, %d %b %Y %H:%M:%S GMT")


def test_what_is_learnt_of_the_time() -> None:
    machine, told = ManualClock(), list[float]()
    clock = ApiClock(machine, lambda ahead: told.append(ahead.total_seconds()))
    true = machine.now()
    quick = timedelta(seconds=0.2)
    odd = ("yesterday", "Sun, 01 Mar 2026 12:01:30 +99999999999999999999")
    for said in (None, *odd, date(true), date(true + timedelta(seconds=2))):
        clock.heard(said, quick)
    clock.heard(date(true - timedelta(hours=1)), LONGEST_ANSWER * 2)
    assert (clock.now(), told) == (true, [])
    clock.heard(date(true - timedelta(hours=1)), quick)
    assert abs(clock.now() - (true - timedelta(hours=1))) < timedelta(seconds=1)
    # An answer a little later or earlier is no other time.
    clock.heard(date(true - timedelta(hours=1, seconds=2)), quick)
    assert len(told) == 1
    # Set right, it is trusted again.
    clock.heard(date(true), quick)
    assert (clock.now(), told[1:]) == (true, [0.0])
    assert clock.now().tzinfo is UTC
