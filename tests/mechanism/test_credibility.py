"""A miner's record over 42 epochs: read from reports, agreed by stake, averaged, applied."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn46.mechanism.agreement import MAX_REPORT_BYTES
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.credibility import (
    MOST_MINERS,
    NEAR,
    UNKNOWN,
    WINDOW,
    Credibility,
    Published,
    Record,
    agreed_records,
    credibilities,
    history_of,
    read_record,
)
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.judge import conclude
from sn46.mechanism.names import PPM, EpochId, Hotkey, Ppm
from sn46.mechanism.report import build_report
from sn46.mechanism.rules import Rules
from sn46.mechanism.verdicts import Verdict

from .builders import EPOCH, FULL_OPTIONAL, chain_view, hotkey
from .test_judge import Epoch20, homes, honest, verdict_for

PAST = history_of(EPOCH)
A, B, C = hotkey("a"), hotkey("b"), hotkey("c")
V, W, X = hotkey("v"), hotkey("w"), hotkey("x")
VIEW = chain_view({A: "a", B: "b", C: "c"}, {V: 50, W: 30, X: 20})


def record_of(**said: bool) -> Record:
    return {hotkey(name): good for name, good in said.items()}


def after(*outcomes: bool) -> Credibility:
    found = UNKNOWN
    for number, good in enumerate(outcomes):
        found = found.after(EpochId(str(number)), good=good)
    return found


# ------------------------------------------------------------------ the average


@pytest.mark.parametrize(
    ("outcomes", "value"),
    [
        ((), PPM),
        ((True,) * WINDOW, PPM),
        ((False,), 953_488),  # 41,000,000 // 43
        ((False, True), 955_651),  # (41 × 953,488 + 2,000,000) // 43
        ((True, False), 953_488),
        ((False, False), 909_139),  # 41 × 953,488 // 43
        ((False,) * WINDOW, 135_277),
    ],
)
def test_worked_averages(outcomes: tuple[bool, ...], value: int) -> None:
    found = after(*outcomes)
    assert found.value == value
    assert found.epochs == len(outcomes)
    assert len(found.failed) == outcomes.count(False)


OUTCOMES = st.lists(st.booleans(), max_size=WINDOW)


@settings(deadline=None)
@given(OUTCOMES)
def test_it_stays_between_0_and_1(outcomes: list[bool]) -> None:
    value = after(*outcomes).value
    assert 0 <= value <= PPM
    assert (value == PPM) == all(outcomes)


@settings(deadline=None)
@given(OUTCOMES, st.data())
def test_a_better_epoch_is_never_worth_less(outcomes: list[bool], data: st.DataObject) -> None:
    bad = [place for place, good in enumerate(outcomes) if not good]
    if bad:
        place = data.draw(st.sampled_from(bad))
        better = [*outcomes[:place], True, *outcomes[place + 1 :]]
        assert after(*better).value >= after(*outcomes).value


@settings(deadline=None)
@given(st.integers(0, WINDOW - 2), st.integers(2, WINDOW))
def test_an_older_failure_weighs_less(older: int, count: int) -> None:
    older = min(older, count - 2)
    one = [place != older for place in range(count)]
    newer = [place != older + 1 for place in range(count)]
    assert after(*one).value >= after(*newer).value


@settings(deadline=None)
@given(st.integers(0, PPM), st.integers(0, PPM), st.integers(0, 8))
def test_it_never_raises_a_score(score: int, value: int, exponent: int) -> None:
    credibility = Credibility(Ppm(value))
    final = credibility.applied_to(Ppm(score), exponent)
    assert 0 <= final <= score
    assert UNKNOWN.applied_to(Ppm(score), exponent) == score
    assert credibility.applied_to(Ppm(score), 0) == score
    if exponent:
        assert final <= credibility.applied_to(Ppm(score), exponent - 1)


def test_an_exponent_multiplies_again() -> None:
    once = after(False)
    assert once.applied_to(Ppm(800_000), 1) == 762_790  # 800,000 × 953,488 // 10^6
    assert once.applied_to(Ppm(800_000), 2) == 727_311  # 762,790 × 953,488 // 10^6


# ------------------------------------------------------------------ what a report says


def body_of(miners: Any, **changes: Any) -> bytes:
    past = PAST[-1]
    report = {"epoch_id": past.id, "epoch_seconds": past.seconds, "miners": miners}
    return json.dumps(report | changes).encode()


ENTRY: Mapping[str, Any] = {
    "valid": True,
    "participant": True,
    "disqualified": False,
    "submission_time": "2024-03-15T13:00:00Z",
    "reasons": [],
}


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"reasons": [{"code": "coldkey_limit"}]}, True),
        ({"disqualified": True}, False),
        ({"valid": False, "participant": False}, False),
        # Absent: no manifest, below the least volume, not registered.
        ({"valid": False, "participant": False, "submission_time": None}, None),
        ({"participant": False, "reasons": [{"code": "below_min_volume"}]}, None),
        ({"valid": False, "participant": False,
          "reasons": [{"code": "hotkey_not_registered"}]}, None),
    ],
)  # fmt: skip
def test_what_an_entry_says(changes: dict[str, Any], good: bool | None) -> None:
    expected = {} if good is None else {A: good}
    assert read_record(body_of({A: {**ENTRY, **changes}}), PAST[-1]) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b" " * (MAX_REPORT_BYTES + 1),
        body_of(None),
        body_of([]),
        body_of({A: None}),
        body_of({A: []}),
        body_of({A: "abc"}),
        body_of({A: {**ENTRY, "valid": 1}}),
        body_of({A: {**ENTRY, "disqualified": None}}),
        body_of({A: {k: v for k, v in ENTRY.items() if k != "submission_time"}}),
        body_of({A: {**ENTRY, "reasons": None}}),
        body_of({A: {**ENTRY, "reasons": ["fake_listing"]}}),
        body_of({A: {**ENTRY, "reasons": [{}]}}),
        body_of({str(n): ENTRY for n in range(MOST_MINERS + 1)}),
        body_of({A: ENTRY}, epoch_id=EPOCH.id),
        body_of({A: ENTRY}, epoch_id=None),
        body_of({A: ENTRY}, epoch_seconds=7_200),
    ],
)
def test_what_is_no_report_says_nothing(body: bytes) -> None:
    assert read_record(body, PAST[-1]) is None


def test_names_that_are_no_hotkeys_are_left_out() -> None:
    odd = {"": ENTRY, "x" * 500: ENTRY, "\ud800": ENTRY, A: ENTRY}
    assert read_record(body_of(odd), PAST[-1]) == {A: True}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("code"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*ENTRY, "code", A, "x"]), inner, max_size=6)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(JSON)
def test_no_report_raises(miners: Any) -> None:
    found = read_record(body_of(miners), PAST[-1])
    assert found is None or all(type(good) is bool for good in found.values())


def test_a_validators_own_report_says_what_happened() -> None:
    rows = {"a": homes(20), "b": homes(15), "c": homes(1)}
    epoch = Epoch20(rows)
    outcome = epoch.conclude(verdict_for("b", Verdict.NOT_FOUND, 1))
    report = build_report(
        outcome,
        validator=V,
        finished_at=EPOCH.weights_by,
        duration_seconds=1,
        listings_validated=20,
    )
    # b's one home is vouched for by nobody else; c has under 10 % of the volume.
    assert read_record(json.dumps(report).encode(), EPOCH) == {A: True, B: False}


# ------------------------------------------------------------------ what reports agree on


def judged(published: Published, view: ChainView = VIEW) -> dict[EpochId, Record]:
    return {
        epoch_id: record for epoch_id, record in agreed_records(published, EPOCH, view) if record
    }


def test_the_window_is_the_42_epochs_before() -> None:
    assert len(PAST) == WINDOW
    assert PAST[-1].end == EPOCH.start
    assert PAST[0].start == EPOCH.start - WINDOW * EPOCH.length
    # The reports on the newest are final when this epoch ends.
    assert PAST[-1].results_deadline == EPOCH.end
    short = Epoch(datetime(2024, 3, 15, tzinfo=UTC), 60)
    assert history_of(short)[0].start == short.start - timedelta(minutes=WINDOW)


def test_more_than_half_of_the_stake_decides_for_each_miner() -> None:
    last = PAST[-1].id
    told = {
        V: record_of(a=True, b=True, c=False),
        W: record_of(a=False, b=False),
        X: record_of(a=True, b=False, c=False),
    }
    # a: 70 of 100; b: 50 against 50 is no majority; c: 70, and W is silent.
    assert judged({last: told}) == {last: record_of(a=True, c=False)}


def test_one_voice_decides_nothing_whatever_its_stake() -> None:
    last = PAST[-1].id
    view = chain_view({A: "a"}, {V: 90, W: 6, X: 4})
    false, true = record_of(a=False), record_of(a=True)
    assert judged({last: {V: false, W: true, X: true}}, view) == {}
    assert judged({last: {V: false, W: false, X: true}}, view) == {last: false}
    assert judged({last: {V: false, W: record_of(b=True)}}, view) == {}
    # Where it is the only one that reports at all, it is all there is.
    assert judged({last: {V: false}}, view) == {last: false}
    assert judged({PAST[-2].id: {W: true}, last: {V: false}}, view) == {}


def test_a_liar_changes_nothing() -> None:
    last = PAST[-1].id
    truth = {V: record_of(a=True, b=False), W: record_of(a=True, b=False)}
    lie = record_of(a=False, b=True, c=False)
    assert judged({last: {**truth, X: lie}}) == judged({last: truth})


def test_who_holds_no_permit_has_no_voice() -> None:
    last = PAST[-1].id
    told = {A: record_of(a=True, b=False), hotkey("stranger"): record_of(b=False)}
    assert judged({last: told}) == {}
    neurons = [replace(n, validator_permit=False) if n.hotkey == V else n for n in VIEW.neurons]
    without = ChainView(VIEW.netuid, VIEW.owner_hotkey, VIEW.block, tuple(neurons))
    said = {V: record_of(a=True), W: record_of(a=False), X: record_of(a=False)}
    assert judged({last: said}) == {}
    assert judged({last: said}, without) == {last: record_of(a=False)}


def test_what_a_liar_says_alone_while_the_others_are_down_does_not_count() -> None:
    everyone = {v: record_of(a=True) for v in (V, W, X)}
    published = {past.id: everyone for past in PAST}
    down = PAST[20].id
    published[down] = {X: record_of(a=False)}
    assert down not in judged(published)
    found = credibilities(agreed_records(published, EPOCH, VIEW))
    assert found == {A: Credibility(Ppm(PPM), WINDOW - 1)}


def test_who_reported_long_ago_or_later_is_not_waited_for() -> None:
    few = {v: record_of(a=False) for v in (W, X)}
    everyone = {v: record_of(a=True) for v in (V, W, X)}
    published = {PAST[5].id: everyone, PAST[5 + NEAR].id: few, PAST[6 + NEAR].id: few}
    assert set(judged(published)) == {PAST[5].id, PAST[6 + NEAR].id}
    published = {PAST[20].id: everyone, PAST[20 - NEAR].id: few, PAST[19 - NEAR].id: few}
    assert set(judged(published)) == {PAST[20].id, PAST[19 - NEAR].id}


def test_epochs_outside_the_window_do_not_count() -> None:
    told = {v: record_of(a=False) for v in (V, W, X)}
    before = Epoch(PAST[0].start - EPOCH.length)
    assert judged({before.id: told, EPOCH.id: told}) == {}


RECORDS = st.dictionaries(st.sampled_from([A, B, C]), st.booleans())
PUBLISHED = st.dictionaries(
    st.sampled_from([past.id for past in PAST]),
    st.dictionaries(st.sampled_from([V, W, X]), RECORDS),
    max_size=8,
)


@settings(deadline=None)
@given(PUBLISHED, st.data())
def test_the_order_of_reports_never_matters(published: Published, data: st.DataObject) -> None:
    shuffled = {
        epoch_id: dict(data.draw(st.permutations(list(told.items()))))
        for epoch_id, told in data.draw(st.permutations(list(published.items())))
    }
    one = credibilities(agreed_records(published, EPOCH, VIEW))
    assert credibilities(agreed_records(shuffled, EPOCH, VIEW)) == one


@settings(deadline=None)
@given(PUBLISHED, RECORDS)
def test_a_minority_settles_nothing(published: Published, lie: Record) -> None:
    """X has a fifth of the stake: whatever it says, it makes no miner that the others call good a
    failed one, nor the other way round."""
    honest_ones = {
        past.id: {v: r for v, r in published.get(past.id, {}).items() if v != X} for past in PAST
    }
    with_liar = {epoch_id: {**told, X: lie} for epoch_id, told in honest_ones.items()}
    agreed = judged(honest_ones)
    for epoch_id, record in judged(with_liar).items():
        for miner, good in record.items():
            assert agreed.get(epoch_id, {}).get(miner, good) == good


# ------------------------------------------------------------------ what it does to a score


def test_a_failure_lowers_the_score_and_the_report_says_so() -> None:
    full = homes(20, **FULL_OPTIONAL)
    epoch = Epoch20({"a": full, "b": homes(20), "c": homes(10)}, minutes={"b": 0, "a": 30})
    past = credibilities(
        [(PAST[-2].id, record_of(a=False, c=True)), (PAST[-1].id, record_of(a=False, c=True))]
    )
    plain = epoch.conclude(honest)
    outcome = conclude(epoch.lined_up, epoch.plan, epoch.evidence(honest), past)
    a = outcome.miners[A]
    assert a.earned == plain.miners[A].final == plain.miners[A].earned
    assert a.final == a.earned * 909_139 // PPM
    (reason,) = a.reasons
    assert (reason.code, reason.count) == ("low_credibility", 2)
    assert f"{PAST[-2].id}, {PAST[-1].id}." in reason.detail
    assert "2 count for it, and in 2 it was invalid" in reason.detail
    for name in ("b", "c"):
        assert outcome.miners[hotkey(name)].final == plain.miners[hotkey(name)].final
        assert outcome.miners[hotkey(name)].reasons == plain.miners[hotkey(name)].reasons
    assert outcome.miners[C].credibility == Credibility(Ppm(PPM), 2)
    assert outcome.miners[B].credibility == UNKNOWN
    assert outcome.consensus_hash != plain.consensus_hash


def test_it_may_cost_a_place() -> None:
    rows = homes(20, **FULL_OPTIONAL)
    epoch = Epoch20({"a": rows, "b": rows}, minutes={"b": 1})
    assert epoch.conclude(honest).winners == (A, B)
    past = credibilities([(past.id, record_of(a=past is not PAST[-1])) for past in PAST])
    outcome = conclude(epoch.lined_up, epoch.plan, epoch.evidence(honest), past)
    assert outcome.winners == (B, A)
    assert outcome.weights[B] == 500_000


@pytest.mark.parametrize(("exponent", "final"), [(0, 1_000_000), (1, 953_488), (2, 909_139)])
def test_the_owner_sets_how_much_it_counts(exponent: int, final: int) -> None:
    rules = Rules(spot_check_percentage=100, credibility_exponent=exponent)
    epoch = Epoch20({"a": homes(20, **FULL_OPTIONAL)}, rules=rules)
    past = credibilities([(PAST[-1].id, record_of(a=False))])
    outcome = conclude(epoch.lined_up, epoch.plan, epoch.evidence(honest), past)
    assert outcome.miners[A].final == final
    assert bool(outcome.miners[A].reasons) == (exponent > 0)


def test_nothing_stays_nothing() -> None:
    epoch = Epoch20({"a": homes(20), "b": homes(1)})
    past: dict[Hotkey, Credibility] = {hotkey(n): after(False) for n in ("a", "b")}
    judge = verdict_for("a", Verdict.NOT_FOUND, 1)
    outcome = conclude(epoch.lined_up, epoch.plan, epoch.evidence(judge), past)
    assert [outcome.miners[h].final for h in (A, B)] == [0, 0]
    codes = {reason.code for h in (A, B) for reason in outcome.miners[h].reasons}
    assert "low_credibility" not in codes
