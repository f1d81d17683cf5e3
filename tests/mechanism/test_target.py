"""The adaptive target (mechanism 2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn46.mechanism.target import (
    EPOCHS_LOOKED_AT,
    EPOCHS_TOGETHER,
    EpochVolume,
    adaptive_target,
)

epochs = st.tuples(
    st.integers(0, 256), st.integers(0, 256), st.sampled_from([None, 8_000, 10_000, 12_000])
).map(lambda drawn: EpochVolume(max(drawn[:2]), min(drawn[:2]), drawn[2]))


@pytest.mark.parametrize(
    ("current", "reached", "expected"),
    [
        (10_000, 9, 10_500),  # 9 of 10 are 90 %: × 1.05
        (10_000, 8, 10_000),
        (10_000, 5, 10_000),  # half is not fewer than half
        (10_000, 4, 9_000),  # × 0.9
        (10_001, 10, 10_501),  # 10,501.05, floored
        (10_001, 0, 9_000),  # 9,000.9, floored
        (14_900, 10, 15_000),  # 15,645, but at most 15,000
        (5_200, 0, 5_000),  # 4,680, but at least 5,000
    ],
)
def test_thresholds_and_limits(current: int, reached: int, expected: int) -> None:
    assert adaptive_target(current, [EpochVolume(10, reached)]) == expected


def test_the_last_six_epochs_are_taken_together() -> None:
    # 5 + 5 × 4 = 25 of 60 participants are fewer than half; the seventh back is not looked at.
    window = [EpochVolume(10, 5)] + [EpochVolume(10, 4)] * 5
    assert adaptive_target(10_000, [EpochVolume(1_000, 1_000), *window]) == 9_000
    half = [EpochVolume(10, 5)] * 6
    assert adaptive_target(10_000, [EpochVolume(1_000, 1_000), *half]) == 10_000
    assert adaptive_target(10_000, [EpochVolume(1_000, 1_000), *half[1:]]) == 10_500


def test_only_epochs_since_the_last_move_are_judged() -> None:
    all_reached = EpochVolume(10, 10, 10_000)
    none_reached = EpochVolume(10, 0, 12_000)
    # The target has just moved to 10,500, and no epoch that asked for it is validated: wait.
    assert adaptive_target(10_500, [all_reached] * 6) == 10_500
    # One is, and all reached it: up, whatever was before.
    reached = EpochVolume(10, 10, 10_500)
    assert adaptive_target(10_500, [*[none_reached] * 5, reached]) == 11_025
    # None reached it: down, though all reached what was asked before.
    missed = EpochVolume(10, 0, 10_500)
    assert adaptive_target(10_500, [*[all_reached] * 5, missed]) == 9_450
    # A run that asked for the same target earlier is not this one.
    assert adaptive_target(10_000, [all_reached, missed]) == 10_000


def test_it_does_not_rise_to_what_was_just_too_much() -> None:
    too_much = EpochVolume(10, 4, 10_500)
    reached = EpochVolume(10, 10, 9_975)
    # 95 % of 10,500 are 9,975. From 9,450 it rises to 9,922, from 9,975 not to 10,473.
    assert adaptive_target(9_450, [too_much, EpochVolume(10, 10, 9_450)]) == 9_922
    assert adaptive_target(9_975, [too_much, *[reached] * 11]) == 9_975
    # Two days later that is forgotten.
    assert adaptive_target(9_975, [too_much, *[reached] * 12]) == 10_473
    # Half is not too much.
    assert adaptive_target(9_975, [EpochVolume(10, 5, 10_500), reached]) == 10_473


def test_more_epochs_are_remembered_than_are_judged() -> None:
    assert (EPOCHS_TOGETHER, EPOCHS_LOOKED_AT) == (6, 12)


def test_without_participants_nothing_moves_but_into_the_limits() -> None:
    assert adaptive_target(10_000, []) == 10_000
    assert adaptive_target(10_000, [EpochVolume(0, 0)] * 6) == 10_000
    assert adaptive_target(1, []) == 5_000


@given(st.integers(1, 100_000), st.lists(epochs, max_size=12))
def test_the_target_stays_within_its_limits(current: int, recent: list[EpochVolume]) -> None:
    target = adaptive_target(current, recent, least=5_000, most=15_000)
    assert 5_000 <= target <= 15_000
    assert target == adaptive_target(current, recent[-EPOCHS_LOOKED_AT:])


@pytest.mark.parametrize(("participants", "reached"), [(1, 2), (1, -1)])
def test_volumes_that_cannot_be(participants: int, reached: int) -> None:
    with pytest.raises(ValueError, match="participants"):
        EpochVolume(participants, reached)
