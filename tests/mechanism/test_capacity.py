"""The adaptive target over time: it settles to what miners can do, and stays there."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from sn46.mechanism.capacity import (
    EPOCHS_TO_SETTLE,
    AdaptiveTargets,
    Miners,
    settling,
)
from sn46.mechanism.target import EpochVolume

LEAST, MOST = 5_000, 15_000


@dataclass(frozen=True)
class Asked:
    target: int
    total: int


def epochs(
    miners: Miners, middle: Callable[[int], int], count: int, *, beside: float, first: int = 10_000
) -> list[Asked]:
    """Targets epoch by epoch, with draws up to ``beside`` (a share) off them."""
    made = random.Random(46)
    targets = AdaptiveTargets(miners, middle, first=first, least=LEAST, most=MOST)
    drawn: list[Asked] = []
    for _ in range(count):
        target = targets(drawn)
        drawn.append(Asked(target, round(target * (1 + made.uniform(-beside, beside)))))
    return drawn


@pytest.mark.parametrize("spread", [0, 0.02, 0.05, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("jitter", [0, 0.02, 0.05])
@pytest.mark.parametrize("beside", [0, 0.02])
@pytest.mark.parametrize("middle", [8_000, 12_000])
def test_it_settles_within_two_days_and_does_not_swing(
    spread: float, jitter: float, beside: float, middle: int
) -> None:
    miners = Miners(32, spread, jitter)
    drawn = epochs(miners, lambda _: middle, 180, beside=beside)
    found = settling(drawn, miners, middle, least=LEAST, most=MOST)
    assert found.epochs is not None
    assert found.epochs <= EPOCHS_TO_SETTLE
    assert found.steady
    assert found.holds


@pytest.mark.parametrize("spread", [0, 0.05, 0.2])
@pytest.mark.parametrize("count", [3, 32])
def test_it_follows_miners_who_fall_from_12000_to_8000(spread: float, count: int) -> None:
    miners = Miners(count, spread)
    drawn = epochs(miners, lambda k: 12_000 if k < 90 else 8_000, 180, beside=0.01)
    for part, middle in ((drawn[:90], 12_000), (drawn[90:], 8_000)):
        assert settling(part, miners, middle, least=LEAST, most=MOST).holds


def test_it_follows_miners_who_learn_more_within_a_week() -> None:
    miners = Miners()
    drawn = epochs(miners, lambda k: 8_000 if k < 60 else 12_000, 180, beside=0.01)
    found = settling(drawn[60:], miners, 12_000, least=LEAST, most=MOST)
    assert found.epochs is not None
    assert found.epochs <= 42


@pytest.mark.parametrize(("middle", "end"), [(1_000, LEAST), (100_000, MOST)])
def test_what_miners_can_do_beyond_the_limits_ends_at_the_limits(middle: int, end: int) -> None:
    miners = Miners()
    drawn = epochs(miners, lambda _: middle, 60, beside=0)
    assert drawn[-1].target == end
    assert settling(drawn, miners, middle, least=LEAST, most=MOST).epochs is not None


def test_a_draw_knows_the_reports_up_to_the_last_but_one_epoch() -> None:
    """All reach the first target: the third epoch is the first that can ask for more."""
    drawn = epochs(Miners(5, 0, 0), lambda _: 100_000, 7, beside=0)
    assert [d.target for d in drawn] == [10_000, 10_000, 10_500, 10_500, 11_025, 11_025, 11_576]


def test_a_swing_is_not_called_steady() -> None:
    miners = Miners(32, 0, 0)
    swinging = [Asked(target, target) for target in [7_000, 9_000] * 20]
    found = settling(swinging, miners, 8_000, least=LEAST, most=MOST)
    assert not found.steady
    assert not found.holds
    # In the band only from the last on: too late.
    late = [Asked(12_000, 12_000)] * 20 + [Asked(8_000, 8_000)] * 20
    assert settling(late, miners, 8_000, least=LEAST, most=MOST).epochs == 20
    never = [Asked(12_000, 12_000)] * 20
    assert settling(never, miners, 8_000, least=LEAST, most=MOST).epochs is None


def test_miners_differ_as_they_are_said_to() -> None:
    # 95 % of 10,000 are 9,500; alike, all or none have them.
    alike = Miners(10, 0, 0)
    assert alike.volume(9_500, Asked(10_000, 10_000), 1) == EpochVolume(10, 10, 10_000)
    assert alike.volume(9_499, Asked(10_000, 10_000), 1) == EpochVolume(10, 0, 10_000)
    apart = Miners(100, 0.1, 0)
    assert apart.volume(9_500, Asked(10_000, 10_000), 1).reached == 50
    level = apart.level(9_500, 0.9)
    assert apart.volume(9_500, Asked(0, int(level)), 1).reached == 90


@pytest.mark.parametrize("wrong", [{"count": 0}, {"spread": 1.1}, {"jitter": -0.1}])
def test_miners_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least 1 miner"):
        Miners(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no target"):
        settling([], Miners(), 8_000, least=LEAST, most=MOST)
