"""Alerts are pure functions of what is known: what raises each, and what does not."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshots import (
    ANN,
    BOB,
    CID,
    EPOCH,
    NOW,
    VALIDATORS,
    agreed,
    announced,
    before,
    busy,
    draw_record,
    row,
    snapshot,
    stats,
    usual,
    with_reports,
)

from sn46.dashboard.alerts import (
    Alert,
    Kind,
    Level,
    Thresholds,
    alerts_of,
    draw_faults,
    is_stale,
    silent_validators,
    taking_part,
)
from sn46.dashboard.snapshot import (
    Agreed,
    Announced,
    Look,
    Part,
    ReadyPart,
    Running,
    Snapshot,
    TableAge,
)
from sn46.mechanism.names import PPM, Hotkey

LIMITS = Thresholds()


def found(made: Snapshot, now: datetime = NOW, limits: Thresholds = LIMITS) -> list[Alert]:
    return list(alerts_of(made, now, limits))


def kinds(made: Snapshot, now: datetime = NOW, limits: Thresholds = LIMITS) -> set[Kind]:
    return {alert.kind for alert in found(made, now, limits)}


def only(made: Snapshot, kind: Kind, now: datetime = NOW) -> Alert:
    matching = [alert for alert in found(made, now) if alert.kind is kind]
    assert len(matching) == 1, found(made, now)
    return matching[0]


def looking(made: Snapshot, part: Part, look: Look) -> Snapshot:
    return replace(made, looks={**made.looks, part: look})


def test_where_all_is_well_there_is_none() -> None:
    assert found(busy()) == []


# The API -----------------------------------------------------------------------------------------


def test_an_api_that_was_never_reached() -> None:
    made = snapshot(stats=None, looks={Part.STATS: Look(None, NOW, "ConnectError")})
    alert = only(made, Kind.API_UNREACHABLE)
    assert alert.level is Level.URGENT
    assert alert.since == NOW
    assert "http://api.example" in alert.happened
    assert "Nothing was ever read" in alert.means
    assert kinds(made) == {Kind.API_UNREACHABLE}
    assert is_stale(made, NOW, LIMITS)


def test_a_dashboard_that_has_just_begun_says_nothing_yet() -> None:
    assert found(snapshot(stats=None, looks={}, ready=())) == []


def test_one_failure_is_no_alert_and_a_minute_of_them_is() -> None:
    failing = Look(NOW - timedelta(seconds=80), NOW - timedelta(seconds=59), "no answer")
    assert found(looking(busy(), Part.STATS, failing)) == []
    assert kinds(looking(busy(), Part.STATS, failing), NOW + timedelta(seconds=1)) == {
        Kind.API_UNREACHABLE
    }


def test_figures_grow_old_whether_or_not_somebody_knows_why() -> None:
    made = busy()
    late = NOW + timedelta(seconds=LIMITS.stale_seconds)
    assert not is_stale(made, late, LIMITS)
    assert is_stale(made, late + timedelta(seconds=1), LIMITS)
    assert only(made, Kind.STALE, late + timedelta(seconds=1)).since == NOW


def test_what_is_old_raises_no_alert_about_what_is_so_now() -> None:
    wrong = stats(draw_error="no ZIP is eligible", running=None)
    made = busy(stats=wrong, ready=(ReadyPart("store", False, "gone", NOW),))
    assert {Kind.DRAW_FAILED, Kind.DRAW_MISSING, Kind.NOT_READY} <= kinds(made)
    assert kinds(made, NOW + timedelta(hours=1)) == {Kind.STALE}


def test_a_part_that_cannot_be_read_is_named_after_a_while() -> None:
    failing = Look(None, NOW - timedelta(seconds=200), "it answers 403")
    made = looking(busy(), Part.REPORTS, failing)
    alert = only(made, Kind.PART_STALE)
    assert "the published reports fails: it answers 403" in alert.happened
    assert "VALIDATED_BUCKET" in alert.todo
    assert "not there" in alert.means
    early = replace(failing, failing_since=NOW - timedelta(seconds=5))
    assert found(looking(busy(), Part.REPORTS, early)) == []


@pytest.mark.parametrize(
    "part", ["database", "limits", "store", "chain", "epoch", "scheduler", "x"]
)
def test_a_part_that_is_not_ready(part: str) -> None:
    since = NOW - timedelta(minutes=9)
    made = busy(ready=(ReadyPart(part, False, "cannot be reached", since),))
    alert = only(made, Kind.NOT_READY)
    assert alert.happened == f"The API is not ready: {part}: cannot be reached."
    assert alert.since == since
    assert alert.todo


# Draws -------------------------------------------------------------------------------------------


def test_a_draw_that_failed_and_one_that_is_missing() -> None:
    made = busy(stats=stats(draw_error="Only 3 ZIPs are eligible.", running=None))
    assert "Only 3 ZIPs are eligible." in only(made, Kind.DRAW_FAILED).happened
    missing = only(made, Kind.DRAW_MISSING)
    assert EPOCH.id in missing.happened
    assert missing.level is Level.URGENT
    assert missing.since == EPOCH.start


def test_a_new_subnet_has_no_epoch_and_that_is_a_notice() -> None:
    alert = only(snapshot(stats=stats(running=None)), Kind.DRAW_MISSING)
    assert alert.level is Level.NOTICE


def test_a_relaxed_draw() -> None:
    relaxed = Running(EPOCH, 10_000, 9_000, 30, ("tiers", "states"))
    alert = only(busy(stats=stats(running=relaxed)), Kind.DRAW_RELAXED)
    assert "tiers, states" in alert.happened


def test_a_broken_chain_of_commitments() -> None:
    made = busy()
    good = {epoch.id: draw_record(epoch) for epoch in (before(3), before(2), before(1))}
    assert draw_faults(replace(made, draws=good)) == {}
    record = good[before(2).id]
    assert record.assignment is not None
    other = replace(record.assignment.selection, commitment="d" * 64)
    broken = replace(record, assignment=replace(record.assignment, selection=other))
    alert = only(replace(made, draws={**good, broken.epoch_id: broken}), Kind.DRAW_UNSOUND)
    assert f"sn46 audit {before(2).id}" in alert.todo


def test_a_draw_that_does_not_hold_and_one_of_another_time() -> None:
    made = busy(epochs=3)
    wrong = draw_record(before(1), fault="The seed is not the one that was committed to.")
    assert Kind.DRAW_UNSOUND in kinds(replace(made, draws={wrong.epoch_id: wrong}))
    old = draw_record(before(1), assignment=None, fault="It follows rules of version 2, …")
    assert Kind.DRAW_UNSOUND not in kinds(replace(made, draws={old.epoch_id: old}))


@pytest.mark.parametrize(
    ("newest", "level"),
    [
        (date(2026, 3, 15), None),
        # 30 days are allowed: figures of the 20th of February are too old from the 23rd of March.
        (date(2026, 2, 20), None),
        (date(2026, 2, 19), Level.NOTICE),
        (date(2026, 2, 13), Level.NOTICE),
        (date(2026, 2, 12), Level.URGENT),
        (date(1, 1, 1), Level.URGENT),
        (None, None),
    ],
)
def test_a_table_that_gets_old(newest: date | None, level: Level | None) -> None:
    made = busy(epochs=3)
    aged = replace(made, table=TableAge("c" * 64, 10, 10, newest, newest))
    now = NOW.replace(hour=0, minute=0)
    aged = replace(aged, looks=dict.fromkeys(Part, Look(now)))
    levels = [alert.level for alert in found(aged, now) if alert.kind is Kind.TABLE_OLD]
    assert levels == ([] if level is None else [level])


# Validators --------------------------------------------------------------------------------------


def test_agreement_below_nine_tenths() -> None:
    reports = usual()
    for n in (2, 3):
        reports[n] = announced(before(n), other=VALIDATORS[2:])
    alert = only(with_reports(reports), Kind.LOW_AGREEMENT)
    assert "66.67 % have the same result" in alert.happened
    assert "2 of the last 6" in alert.happened
    assert alert.since == before(3).end
    assert f"sn46 compare --epoch {before(2).id}" in alert.todo


def test_only_the_newest_epoch_with_reports_raises_it() -> None:
    reports = usual()
    reports[3] = announced(before(3), other=VALIDATORS[2:])
    assert found(with_reports(reports)) == []


@pytest.mark.parametrize(
    ("reports", "level"),
    [(0, Level.URGENT), (1, Level.NOTICE), (2, None), (3, None)],
)
def test_few_reports_by_their_time(reports: int, level: Level | None) -> None:
    made = usual()
    made[2] = announced(before(2), VALIDATORS[:reports])
    alerts = [a for a in found(with_reports(made, epochs=9)) if a.kind is Kind.FEW_REPORTS]
    assert [alert.level for alert in alerts] == ([] if level is None else [level])
    if alerts:
        assert "usually there are 3" in alerts[0].happened
        assert alerts[0].since == before(2).weights_by


def test_an_epoch_whose_reports_are_not_due_yet_is_waited_for() -> None:
    """An hour into an epoch, the one before it has until three hours in."""
    assert found(with_reports(usual(), epochs=9)) == []
    due = before(1).weights_by
    read = replace(with_reports(usual(), epochs=9), looks=dict.fromkeys(Part, Look(due)))
    assert kinds(read, due) == {Kind.FEW_REPORTS}
    # As long as the epochs were not read anew since, nobody knows.
    old = looking(read, Part.EPOCHS, Look(due - timedelta(seconds=1)))
    assert found(old, due) == []


def test_a_validator_that_stopped() -> None:
    reports = usual()
    for n in (2, 3):
        reports[n] = announced(before(n), VALIDATORS[:2])
    made = with_reports(reports)
    assert silent_validators(made, 2) == [(VALIDATORS[2], made.epochs[4])]
    alert = only(made, Kind.VALIDATOR_SILENT)
    assert before(4).id in alert.happened
    assert VALIDATORS[2] in alert.means
    assert silent_validators(made, 3) == []
    # One that is early for the epoch whose reports are not due is heard, too.
    reports[1] = announced(before(1), VALIDATORS[2:])
    assert silent_validators(with_reports(reports), 2) == []


# Miners ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("participants", "reached", "expected"),
    [
        (40, 30, set()),
        (28, 21, set()),
        (27, 20, {Kind.PARTICIPATION_FELL}),
        (0, 0, {Kind.PARTICIPATION_FELL}),
        (40, 21, set()),
        (40, 20, {Kind.VOLUME_FELL}),
        (10, 0, {Kind.PARTICIPATION_FELL, Kind.VOLUME_FELL}),
    ],
)
def test_participation_and_volume_that_fall(
    participants: int, reached: int, expected: set[Kind]
) -> None:
    reports = usual()
    reports[2] = announced(before(2), participants=participants, reached=reached)
    assert kinds(with_reports(reports)) == expected


def test_the_figures_are_those_of_who_agree() -> None:
    lying = announced(before(2), VALIDATORS[2:], other=VALIDATORS[2:], participants=999, reached=0)
    made = with_reports({2: (*announced(before(2), VALIDATORS[:2]), *lying)})
    assert [(p.participants, p.reached) for p in taking_part(made)] == [(40, 30)]


@pytest.mark.parametrize(("wins", "alarming"), [(12, True), (11, True), (10, False)])
def test_one_who_wins_nearly_always(wins: int, alarming: bool) -> None:
    reports = {
        n: announced(before(n), top=(ANN, BOB, CID) if n - 2 < wins else (BOB, ANN, CID))
        for n in range(2, 14)
    }
    made = with_reports(reports)
    assert (Kind.ONE_WINNER in kinds(made)) == alarming
    if alarming:
        alert = only(made, Kind.ONE_WINNER)
        assert f"{wins} of the last 12" in alert.happened
        assert ANN in alert.means
    short = with_reports({n: reports[n] for n in range(2, 13)})
    assert Kind.ONE_WINNER not in kinds(short)


# Properties --------------------------------------------------------------------------------------

PEOPLE = tuple(Hotkey(f"validator-{n}") for n in range(4))
TIMES = st.timedeltas(timedelta(days=-2), timedelta(days=2)).map(lambda by: NOW + by)


@st.composite
def some_reports(draw: st.DrawFn, number: int) -> tuple[Announced, ...]:
    who = draw(st.lists(st.sampled_from(PEOPLE), unique=True, max_size=4))
    return announced(
        before(number),
        sorted(who),
        other=draw(st.lists(st.sampled_from(PEOPLE), unique=True, max_size=4)),
        top=draw(st.sampled_from([(), (ANN,), (BOB, ANN), (CID, BOB, ANN)])),
        participants=draw(st.integers(0, 60)),
        reached=draw(st.integers(0, 60)),
    )


@st.composite
def some_snapshots(draw: st.DrawFn) -> Snapshot:
    count = draw(st.integers(0, 16))
    reports = {n: draw(some_reports(n)) for n in range(count)}
    looks = {
        part: Look(draw(st.none() | TIMES), draw(st.none() | TIMES), "why")
        for part in draw(st.sets(st.sampled_from(list(Part))))
    }
    made = with_reports(reports)
    return replace(
        made,
        looks=looks,
        clock_ahead=draw(st.timedeltas(timedelta(days=-1), timedelta(days=1))),
        stats=draw(st.none() | st.builds(lambda e: stats(draw_error=e), st.none() | st.text())),
        ready=tuple(
            ReadyPart(name, ok, "", NOW)
            for name, ok in draw(st.dictionaries(st.text(), st.booleans(), max_size=3)).items()
        ),
        table=draw(
            st.none() | st.builds(lambda d: TableAge("v", 1, 1, d, d), st.none() | st.dates())
        ),
        draws={before(1).id: draw_record(before(1))} if draw(st.booleans()) else {},
    )


@given(some_snapshots(), TIMES)
def test_any_snapshot_has_alerts_that_say_everything(made: Snapshot, now: datetime) -> None:
    alerts = alerts_of(made, now, LIMITS)
    assert alerts == alerts_of(made, now, LIMITS)
    for alert in alerts:
        assert alert.happened
        assert alert.means
        assert alert.todo
        assert alert.since is None or alert.since.tzinfo is not None
    levels = [alert.level is Level.URGENT for alert in alerts]
    assert levels == sorted(levels, reverse=True)


@given(some_snapshots(), TIMES, st.integers(0, 100), st.integers(0, 100))
def test_a_stricter_threshold_never_takes_an_alert_away(
    made: Snapshot, now: datetime, one: int, other: int
) -> None:
    low, high = sorted((one, other))

    def of(kind: Kind, limits: Thresholds) -> bool:
        return kind in kinds(made, now, limits)

    assert of(Kind.FEW_REPORTS, Thresholds(reports_percent=low)) <= of(
        Kind.FEW_REPORTS, Thresholds(reports_percent=high)
    )
    assert of(Kind.STALE, Thresholds(stale_seconds=high)) <= of(
        Kind.STALE, Thresholds(stale_seconds=low)
    )
    assert of(Kind.ONE_WINNER, Thresholds(winner_percent=high)) <= of(
        Kind.ONE_WINNER, Thresholds(winner_percent=low)
    )
    assert of(Kind.PARTICIPATION_FELL, Thresholds(fall_percent=high)) <= of(
        Kind.PARTICIPATION_FELL, Thresholds(fall_percent=low)
    )


@given(some_snapshots(), TIMES)
def test_figures_are_live_or_there_is_an_alert_or_nothing_was_asked(
    made: Snapshot, now: datetime
) -> None:
    if is_stale(made, now, LIMITS) and made.look(Part.STATS).fetched_at is not None:
        assert Kind.STALE in kinds(made, now)


@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_agreement_is_low_exactly_below_nine_tenths(same: Sequence[bool]) -> None:
    people = [Hotkey(f"v{n}") for n in range(len(same))]
    other = [key for key, is_same in zip(people, same, strict=True) if not is_same]
    share = agreed(announced(before(2), people, other=other))
    assert share.is_low == (share.hash_share < PPM * 9 // 10)
    assert not Agreed().is_low
    assert row(before(2)).agreed == Agreed()
