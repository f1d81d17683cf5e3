"""The adaptive target (mechanism 2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn46.mechanism.target import EPOCHS_LOOKED_AT, EpochVolume, adaptive_target

epochs = st.tuples(st.integers(0, 256), st.integers(0, 256)).map(
    lambda pair: EpochVolume(max(pair), min(pair))
)


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
    assert adaptive_target(10_000, [EpochVolume(1_000, 1_000), *window[1:]]) == 10_500


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
