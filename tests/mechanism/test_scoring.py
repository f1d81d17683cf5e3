"""Speed, blend, quality and accuracy in ppm (mechanism 6 and 8)."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn46.mechanism.names import PPM, Hotkey, Ppm
from sn46.mechanism.rules import Rules
from sn46.mechanism.scoring import CheckCounts, blend, quality_score, speed_scores

from .builders import EPOCH

GRACE = Rules().grace_end(EPOCH)  # 18:00
minutes = st.integers(0, 240).map(lambda m: EPOCH.start + timedelta(minutes=m))
times = st.dictionaries(st.integers(0, 300).map(lambda n: Hotkey(f"m{n}")), minutes, max_size=40)
ppm = st.integers(0, PPM).map(Ppm)


def ranks(**at: timedelta) -> dict[str, int]:
    found = speed_scores({Hotkey(k): GRACE + v for k, v in at.items()}, GRACE)
    return {str(k): int(v) for k, v in found.items()}


def test_equal_times_share_a_rank_and_the_next_counts_them_all() -> None:
    later = timedelta(minutes=1)
    assert ranks(a=later, b=2 * later, c=2 * later, d=3 * later) == {
        "a": 1_000_000,  # rank 1
        "b": 950_000,  # rank 2: 1,000,000 − 50,000 × 1
        "c": 950_000,
        "d": 850_000,  # rank 4: 1,000,000 − 50,000 × 3
    }


def test_the_grace_makes_all_of_its_uploads_simultaneous() -> None:
    half = timedelta(hours=2)
    assert ranks(first=-half, last=timedelta(0), after=timedelta(microseconds=1)) == {
        "first": 1_000_000,
        "last": 1_000_000,
        "after": 900_000,  # rank 3
    }


def test_from_the_21st_rank_on_speed_is_nothing() -> None:
    at = {f"m{n:02d}": timedelta(minutes=n) for n in range(23)}
    found = ranks(**at)
    assert found["m19"] == 50_000  # rank 20: 1,000,000 − 50,000 × 19
    assert found["m20"] == found["m22"] == 0


@given(times)
def test_speed_falls_with_time_only(at: dict[Hotkey, datetime]) -> None:
    found = speed_scores(at, GRACE)
    assert found.keys() == at.keys()
    for one, time in at.items():
        faster = sum(max(other, GRACE) < max(time, GRACE) for other in at.values())
        assert found[one] == max(0, PPM - 50_000 * faster)
    assert speed_scores(dict(reversed(at.items())), GRACE) == found


@pytest.mark.parametrize(
    ("parts", "score"),
    [
        ((PPM, PPM, PPM), PPM),
        ((0, 0, 0), 0),
        # (40 × 950,000 + 40 × 500,000 + 20 × 250,000) // 100 = 380,000 + 200,000 + 50,000
        ((950_000, 500_000, 250_000), 630_000),
        # (40 × 1 + 40 × 1 + 20 × 1) // 100 = 1, and (40 + 40 + 0) // 100 = 0
        ((1, 1, 1), 1),
        ((1, 1, 0), 0),
    ],
)
def test_the_blend(parts: tuple[int, int, int], score: int) -> None:
    speed, quality, volume = (Ppm(part) for part in parts)
    assert blend(speed, quality, volume) == score


@given(ppm, ppm, ppm)
def test_the_blend_is_a_whole_number_within_its_parts(s: Ppm, q: Ppm, v: Ppm) -> None:
    score = blend(s, q, v)
    assert type(score) is int
    assert min(s, q, v) <= score <= max(s, q, v)


def test_quality() -> None:
    # 437,500 × 800,000 // 10^6 = 350,000; 999,999 × 999,999 // 10^6 = 999,998.
    assert quality_score(Ppm(437_500), Ppm(800_000), Ppm(PPM)) == 350_000
    assert quality_score(Ppm(999_999), Ppm(999_999), Ppm(PPM)) == 999_998
    # Of 16 fields of 16 the source shows 10, and each of the other 6 takes one of these away:
    # 10^6 × (2 × 625,000 − 10^6) // 10^6 × 800,000 // 10^6.
    assert quality_score(Ppm(PPM), Ppm(800_000), Ppm(625_000)) == 200_000
    assert quality_score(Ppm(PPM), Ppm(PPM), Ppm(500_000)) == 0
    assert quality_score(Ppm(PPM), Ppm(PPM), Ppm(0)) == 0


@given(st.integers(1, 16), st.integers(0, 16), ppm)
def test_what_the_source_does_not_show_is_better_left_out(
    shown: int, guessed: int, accuracy: Ppm
) -> None:
    """Where so many fields are shown, filling any of the others is worth nothing more."""
    filled = min(shown + guessed, 16)
    share = CheckCounts(fields_filled=filled, fields_shown=shown).shown
    honest = quality_score(Ppm(shown * PPM // 16), accuracy, Ppm(PPM))
    assert quality_score(Ppm(filled * PPM // 16), accuracy, share) <= honest


def test_the_share_of_filled_fields_that_the_source_shows() -> None:
    assert CheckCounts(fields_filled=160, fields_shown=100).shown == 625_000
    assert CheckCounts(fields_filled=3, fields_shown=2).shown == 666_666
    assert CheckCounts(fields_filled=3).shown == 0
    assert CheckCounts(inconclusive=9).shown == PPM  # nothing was told


@pytest.mark.parametrize(
    ("counts", "accuracy"),
    [
        (CheckCounts(), PPM),
        (CheckCounts(inconclusive=9), PPM),  # nothing was conclusive
        (CheckCounts(confirmed=2, contradicted=1), 666_666),  # 2 × 10^6 // 3
        (CheckCounts(confirmed=3, contradicted=1, fake=1, inconclusive=5), 600_000),  # 3 of 5
        (CheckCounts(contradicted=1), 0),
    ],
)
def test_accuracy(counts: CheckCounts, accuracy: int) -> None:
    assert counts.accuracy == accuracy
