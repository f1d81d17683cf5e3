"""Epochs: every moment lies in one, and every id names one (mechanism 1)."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn46.mechanism.epochs import Epoch, check_epoch_seconds, epoch_at, parse_epoch_id
from sn46.mechanism.errors import EpochError

DAY = 86_400
NAIVE = datetime(2024, 3, 15, 16, tzinfo=UTC).replace(tzinfo=None)
LENGTHS = [seconds for seconds in range(60, DAY + 1) if DAY % seconds == 0]

lengths = st.sampled_from(LENGTHS)
moments = st.floats(0, 7e9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


def test_the_table_of_moments() -> None:
    epoch = Epoch(datetime(2024, 3, 15, 16, tzinfo=UTC))

    def at(hour: int, minute: int = 0, day: int = 15) -> datetime:
        return datetime(2024, 3, day, hour, minute, tzinfo=UTC)

    assert epoch.id == "2024-03-15-16:00"
    assert epoch.draw_at == at(15, 30)  # S − 4 h / 8
    assert epoch.end == at(20)  # S + 4 h
    assert epoch.candidates_by == at(20, 30)  # E + 4 h / 8
    assert epoch.evidence_deadline == at(22)  # E + 4 h / 2
    assert epoch.weights_by == at(23)  # E + 3 × 4 h / 4
    assert epoch.results_deadline == at(0, day=16)  # E + 4 h


def test_a_day_has_six_epochs() -> None:
    first = epoch_at(datetime(2024, 3, 15, 0, tzinfo=UTC))
    starts = [first.start.hour]
    while (first := first.next()).start.day == 15:
        starts.append(first.start.hour)
    assert starts == [0, 4, 8, 12, 16, 20]


@given(moments, lengths)
def test_every_moment_lies_in_exactly_one_epoch(moment: datetime, seconds: int) -> None:
    epoch = epoch_at(moment, seconds)
    assert epoch.contains(moment)
    assert not epoch.next().contains(moment)
    assert not epoch.previous().contains(moment)
    assert epoch.next().previous() == epoch
    assert epoch_at(epoch.start, seconds) == epoch
    assert epoch_at(epoch.end - timedelta(microseconds=1), seconds) == epoch
    assert epoch_at(epoch.end, seconds) == epoch.next()


@given(moments, lengths)
def test_an_id_names_its_epoch_in_both_forms(moment: datetime, seconds: int) -> None:
    epoch = epoch_at(moment, seconds)
    assert parse_epoch_id(epoch.id, seconds) == epoch
    day, minute = epoch.id[:10], epoch.id[11:].replace(":", "-")
    assert parse_epoch_id(f"{day}T{minute}-00", seconds) == epoch
    assert parse_epoch_id(f"{day}T{minute}-{epoch.start.second:02d}", seconds) == epoch


@given(moments, lengths)
def test_epochs_that_follow_one_another_have_other_ids(moment: datetime, seconds: int) -> None:
    epoch = epoch_at(moment, seconds)
    assert epoch.id < epoch.next().id


@pytest.mark.parametrize(
    ("text", "seconds", "start"),
    [
        ("2024-03-15-16:00", 14_400, (16, 0, 0)),
        ("2024-03-15T16-00-00", 14_400, (16, 0, 0)),
        # Epochs of 90 s start at 00:00:00, 00:01:30, 00:03:00: the second is named 00:01.
        ("2024-03-15-00:01", 90, (0, 1, 30)),
        ("2024-03-15T00-01-00", 90, (0, 1, 30)),
        ("2024-03-15T00-01-30", 90, (0, 1, 30)),
        ("2024-03-15-00:03", 90, (0, 3, 0)),
        # Epochs of 64 s: 15 × 64 = 960 s = 16:00 min, 14 × 64 = 896 s = 14:56 min.
        ("2024-03-15-00:14", 64, (0, 14, 56)),
        ("2024-03-15T00-14-56", 64, (0, 14, 56)),
    ],
)
def test_worked_ids(text: str, seconds: int, start: tuple[int, int, int]) -> None:
    assert parse_epoch_id(text, seconds).start == datetime(2024, 3, 15, *start, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 14_400),
        ("current", 14_400),
        ("2024-03-15", 14_400),
        ("2024-03-15-16:00\n", 14_400),
        (" 2024-03-15-16:00", 14_400),
        ("2024-03-15 16:00", 14_400),
        ("2024-03-15T16:00:00", 14_400),
        ("2024-03-15-16:01", 14_400),  # not a start
        ("2024-03-15-17:00", 14_400),
        ("2024-03-15T16-00-01", 14_400),
        ("2024-03-15T16-00-60", 14_400),
        ("2024-03-15-00:02", 90),  # none starts in 00:02
        ("2024-03-15T00-01-29", 90),
        ("2024-03-15T00-01-31", 90),
        ("2024-03-15T00-02-00", 90),
        ("2023-02-29-16:00", 14_400),  # no leap year
        ("2024-13-15-16:00", 14_400),
        ("2024-03-32-16:00", 14_400),
        ("2024-03-15-24:00", 14_400),
        ("2024-03-15-16:60", 14_400),
        ("0000-01-01-00:00", 14_400),
        ("0000-01-01T00-00-00", 14_400),
        ("0001-01-01-00:00", 14_400),  # its draw would lie before all dates
        ("9999-12-31-20:00", 14_400),  # its end would lie after all dates
        ("２０２４-03-15-16:00", 14_400),  # digits, but not ASCII
        ("٢٠٢٤-٠٣-١٥-١٦:٠٠", 14_400),
    ],
)
def test_what_is_no_id(text: str, seconds: int) -> None:
    with pytest.raises(EpochError):
        parse_epoch_id(text, seconds)


@given(st.text(max_size=30) | st.from_regex(r"\d{4}-\d\d-\d\d[-T]\d\d[:-]\d\d(-\d\d)?"), lengths)
def test_any_text_is_an_epoch_or_an_epoch_error(text: str, seconds: int) -> None:
    try:
        epoch = parse_epoch_id(text, seconds)
    except EpochError:
        return
    for moment in (epoch.draw_at, epoch.results_deadline, epoch.previous().start):
        assert moment.tzinfo is not None  # all of its moments exist


@pytest.mark.parametrize("seconds", [-14_400, 0, 1, 59, 61, 7 * 60, 25 * 3600, 2 * DAY])
def test_lengths_that_are_refused(seconds: int) -> None:
    with pytest.raises(EpochError, match="divide a day"):
        check_epoch_seconds(seconds)
    with pytest.raises(EpochError):
        epoch_at(datetime(2024, 1, 1, tzinfo=UTC), seconds)


def test_a_moment_needs_a_zone_and_any_zone_will_do() -> None:
    with pytest.raises(EpochError, match="time zone"):
        epoch_at(NAIVE)
    there = datetime(2024, 3, 16, 1, 30, tzinfo=timezone(timedelta(hours=9)))  # 16:30 UTC
    assert epoch_at(there).id == "2024-03-15-16:00"


def test_an_epoch_starts_in_utc_and_at_a_multiple_of_its_length() -> None:
    with pytest.raises(EpochError, match="UTC"):
        Epoch(NAIVE)
    with pytest.raises(EpochError, match="UTC"):
        Epoch(datetime(2024, 3, 15, 16, tzinfo=timezone(timedelta(hours=1))))
    with pytest.raises(EpochError, match="whole multiples"):
        Epoch(datetime(2024, 3, 15, 16, 0, 0, 1, tzinfo=UTC))
