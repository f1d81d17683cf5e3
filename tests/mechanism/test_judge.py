"""A whole epoch, from submissions and evidence to weights and the report (mechanism 6 to 10)."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.canonical import canonical_json, hash_json
from sn46.mechanism.evidence import Evidence, Merged, read_evidence
from sn46.mechanism.judge import (
    CheckPlan,
    LineUp,
    Outcome,
    conclude,
    is_vouched,
    line_up,
    plan_checks,
)
from sn46.mechanism.listings import listings_frame
from sn46.mechanism.names import PPM, Hotkey
from sn46.mechanism.quick import kept_listings
from sn46.mechanism.reasons import Code
from sn46.mechanism.report import (
    PUBLISHED_SCHEMA,
    build_report,
    common_part,
    published_rows,
    write_published,
)
from sn46.mechanism.rules import Rules
from sn46.mechanism.sampling import SampledRow
from sn46.mechanism.verdicts import Verdict

from .builders import (
    EPOCH,
    FULL_OPTIONAL,
    Submission,
    assigned_zip,
    chain_view,
    check,
    evidence_uploads,
    hotkey,
    key,
    listing,
    new_assignment,
)

VALIDATORS = {"v1": 300, "v2": 200, "v3": 100}
ALL_ROWS = Rules(spot_check_percentage=100)
Judge = Callable[[SampledRow], Verdict]


class Epoch20:
    """An epoch of one ZIP with 20 expected listings, three validators and these miners.

    Args:
        rows: each miner's rows.
        coldkeys: a miner's coldkey, where it is not its own.
        minutes: when a miner uploaded, in minutes after the grace; all at once if not told.
    """

    def __init__(
        self,
        rows: Mapping[str, Iterable[dict[str, Any]]],
        *,
        coldkeys: Mapping[str, str] | None = None,
        minutes: Mapping[str, int] | None = None,
        rules: Rules = ALL_ROWS,
    ) -> None:
        named = [hotkey(v) for v in VALIDATORS]
        self.assignment: Assignment = new_assignment(
            [assigned_zip("15213", 20)], rules=rules, validators=named
        )
        self.submissions = {
            name: Submission(
                self.assignment,
                key(name),
                {"15213": listings_frame(list(of_miner))},
                at=rules.grace_end(EPOCH) + timedelta(minutes=(minutes or {}).get(name, 0)),
            )
            for name, of_miner in rows.items()
        }
        self.view = chain_view(
            {hotkey(name): (coldkeys or {}).get(name, f"cold {name}") for name in rows},
            {hotkey(v): stake for v, stake in VALIDATORS.items()},
        )
        self.results = [made.examine(self.view) for made in self.submissions.values()]
        self.lined_up: LineUp = line_up(self.assignment, self.view, self.results)
        self.plan: CheckPlan = plan_checks(self.lined_up)

    def evidence(
        self, judge: Judge, *, by: Iterable[str] = VALIDATORS, shown: int = 16
    ) -> list[Evidence]:
        """What validators that all judge alike upload, read back. The source shows so many of
        the optional fields."""
        found: list[Evidence] = []
        for name in by:
            rows = self.plan.rows_of(hotkey(name))
            checks = [check(r.miner, r.listing_id, judge(r), "as seen", None, shown) for r in rows]
            uploads = evidence_uploads(key(name), checks)
            found.append(read_evidence(self.assignment, self.view, hotkey(name), *uploads))
        return found

    def conclude(self, judge: Judge) -> Outcome:
        return conclude(self.lined_up, self.plan, self.evidence(judge))


def honest(_: SampledRow) -> Verdict:
    return Verdict.CONFIRMED


def verdict_for(name: str, verdict: Verdict, count: int = 100) -> Judge:
    """Confirms all but the first ``count`` rows that are asked for of a miner."""
    judged: dict[str, Verdict] = {}

    def judge(row: SampledRow) -> Verdict:
        if row.miner != hotkey(name):
            return Verdict.CONFIRMED
        if row.listing_id not in judged:
            judged[row.listing_id] = verdict if len(judged) < count else Verdict.CONFIRMED
        return judged[row.listing_id]

    return judge


def homes(count: int = 20, start: int = 1, **changes: Any) -> list[dict[str, Any]]:
    return [listing(n, **changes) for n in range(start, start + count)]


def of(outcome: Outcome, name: str) -> Any:
    return outcome.miners[hotkey(name)]


def test_a_worked_epoch() -> None:
    full = homes(20, **FULL_OPTIONAL)
    half = homes(20, bedrooms=3, bathrooms=2.0, living_area_sqft=1_500, year_built=1_950,
                 latitude=40.44, longitude=-79.95, county="A", stories=1.0)  # fmt: skip
    epoch = Epoch20(
        {"a": full, "b": half, "c": full[:10], "d": half[:5]},
        minutes={"a": 2, "b": 0, "c": 1, "d": 3},
    )
    outcome = epoch.conclude(honest)
    # Speed: b 1,000,000, c 950,000, a 900,000, d 850,000.
    # a: (40 × 900,000 + 40 × 1,000,000 + 20 × 1,000,000) // 100 = 360,000 + 400,000 + 200,000
    # b: (40 × 1,000,000 + 40 × 500,000 + 20 × 1,000,000) // 100 = 400,000 + 200,000 + 200,000
    # c: (40 × 950,000 + 40 × 1,000,000 + 20 × 500,000) // 100 = 380,000 + 400,000 + 100,000
    # d: (40 × 850,000 + 40 × 500,000 + 20 × 250,000) // 100 = 340,000 + 200,000 + 50,000
    assert {n: of(outcome, n).final for n in "abcd"} == {
        "a": 960_000, "b": 800_000, "c": 880_000, "d": 590_000}  # fmt: skip
    assert outcome.winners == tuple(hotkey(n) for n in "acb")
    assert outcome.weights == {
        hotkey("a"): 500_000, hotkey("c"): 300_000, hotkey("b"): 150_000, hotkey("d"): 50_000,
    }  # fmt: skip
    assert [of(outcome, n).rank for n in "abcd"] == [1, 3, 2, 4]
    assert of(outcome, "a").checks.confirmed == 20
    assert outcome.voices == (20 + 20 + 10 + 5) * 3
    assert outcome.consensus_hash == hash_json(
        {
            "epoch_id": EPOCH.id,
            "scores": {hotkey(n): of(outcome, n).final for n in "abcd"},
            "weights": dict(outcome.weights),
        }
    )


def test_accuracy_lowers_quality() -> None:
    epoch = Epoch20({"a": homes(20, **FULL_OPTIONAL)})
    outcome = epoch.conclude(verdict_for("a", Verdict.CONTRADICTED, 5))
    # 15 of 20 conclusive checks confirm: 750,000. (40 + 40 × 0.75 + 20) / 100.
    assert (of(outcome, "a").checks.accuracy, of(outcome, "a").quality) == (750_000, 750_000)
    assert of(outcome, "a").final == 900_000
    assert not of(outcome, "a").disqualified


@pytest.mark.parametrize(("wrong", "out"), [(6, False), (7, True)])
def test_accuracy_under_70_percent_disqualifies(wrong: int, out: bool) -> None:
    # 14 of 20 are 70 %, 13 are 65 %.
    epoch = Epoch20({"a": homes(20), "b": homes(20)})
    outcome = epoch.conclude(verdict_for("a", Verdict.CONTRADICTED, wrong))
    assert of(outcome, "a").disqualified is out
    assert [r.code for r in of(outcome, "a").reasons] == ([Code.LOW_ACCURACY] if out else [])
    if out:
        assert (of(outcome, "a").final, of(outcome, "a").weight, of(outcome, "a").rank) == (
            0, 0, None)  # fmt: skip
        assert of(outcome, "a").reasons[0].count == 7
        assert outcome.winners == (hotkey("b"),)


@pytest.mark.parametrize(("rows", "out"), [(4, False), (5, True)])
def test_accuracy_needs_five_conclusive_checks(rows: int, out: bool) -> None:
    epoch = Epoch20({"a": homes(rows)})
    assert of(epoch.conclude(verdict_for("a", Verdict.CONTRADICTED)), "a").disqualified is out


@pytest.mark.parametrize("verdict", [Verdict.MISIDENTIFIED, Verdict.NOT_FOUND])
def test_one_fake_disqualifies(verdict: Verdict) -> None:
    epoch = Epoch20({"a": homes(20, **FULL_OPTIONAL), "b": homes(20)})
    outcome = epoch.conclude(verdict_for("a", verdict, 1))
    entry = of(outcome, "a")
    assert entry.disqualified
    assert (entry.final, entry.weight, entry.checks.fake) == (0, 0, 1)
    assert [(r.code, r.count) for r in entry.reasons] == [(Code.FAKE_LISTING, 1)]
    assert "as seen" in entry.reasons[0].detail
    assert outcome.winners == (hotkey("b"),)


def test_nothing_found_out_costs_nothing() -> None:
    epoch = Epoch20({"a": homes(20, **FULL_OPTIONAL)})
    outcome = epoch.conclude(lambda _: Verdict.INCONCLUSIVE)
    assert of(outcome, "a").final == PPM
    assert of(outcome, "a").checks.inconclusive == 20
    # Nor does silence.
    assert conclude(epoch.lined_up, epoch.plan, []).miners == outcome.miners


NINE = {f"m{n:02d}": homes(20) for n in range(15)}
AT = {name: n for n, name in enumerate(NINE)}  # earlier ones score more


@pytest.mark.parametrize(("told", "place"), [(20, 1), (5, 1), (4, 3), (0, 3)])
def test_what_could_not_be_checked_wins_no_place_before_what_was(told: int, place: int) -> None:
    """The one that is best by its score, and of whose rows only some can be told."""
    epoch = Epoch20(
        {"best": homes(**FULL_OPTIONAL), "bob": homes(start=101), "cid": homes(start=201)},
        minutes={"bob": 1, "cid": 2},
    )
    outcome = epoch.conclude(verdict_for("best", Verdict.INCONCLUSIVE, 20 - told))
    assert of(outcome, "best").final > of(outcome, "bob").final > of(outcome, "cid").final
    assert of(outcome, "best").rank == outcome.winners.index(hotkey("best")) + 1 == place
    codes = [reason.code for reason in of(outcome, "best").reasons]
    assert codes == ([] if place == 1 else [Code.TOO_FEW_CHECKS])
    assert not of(outcome, "best").disqualified
    assert all(not of(outcome, name).reasons for name in ("bob", "cid"))


def test_what_could_not_be_checked_is_not_paid_where_three_others_were() -> None:
    names = ("bob", "cid", "dan")
    rows = {name: homes(start=100 * n) for n, name in enumerate(names, start=1)}
    epoch = Epoch20({"best": homes(start=900, **FULL_OPTIONAL), **rows})
    outcome = epoch.conclude(verdict_for("best", Verdict.INCONCLUSIVE))
    assert set(outcome.winners) == {hotkey(name) for name in names}
    assert of(outcome, "best").rank == 4
    # Alone in what the others share, and nothing of it was confirmed: it is burnt.
    assert of(outcome, "best").weight == 0
    assert outcome.weights[hotkey("owner")] == 50_000
    assert [r.code for r in of(outcome, "best").reasons] == [
        Code.NOTHING_CONFIRMED, Code.TOO_FEW_CHECKS,
    ]  # fmt: skip
    assert "None of its 20 checked rows was confirmed: 20 could not be told, 0 are" in (
        of(outcome, "best").reasons[0].detail
    )
    # One row is enough for a part of that, and five for a place.
    outcome = epoch.conclude(verdict_for("best", Verdict.INCONCLUSIVE, 19))
    assert of(outcome, "best").weight == 50_000
    assert [r.code for r in of(outcome, "best").reasons] == [Code.TOO_FEW_CHECKS]


def test_all_of_a_small_sample_is_enough() -> None:
    rules = Rules(spot_check_percentage=10)  # 2 of 20 rows
    epoch = Epoch20({"ann": homes(**FULL_OPTIONAL), "bob": homes(start=101)}, rules=rules)
    outcome = epoch.conclude(honest)
    assert outcome.winners == (hotkey("ann"), hotkey("bob"))
    assert not of(outcome, "ann").reasons
    outcome = epoch.conclude(verdict_for("ann", Verdict.INCONCLUSIVE, 1))
    assert outcome.winners == (hotkey("bob"), hotkey("ann"))


def test_a_reserve_moves_up_and_a_random_check_can_disqualify() -> None:
    epoch = Epoch20(NINE, minutes=AT)
    chosen = epoch.plan.chosen
    assert chosen.candidates == tuple(hotkey(f"m{n:02d}") for n in range(6))
    assert len(chosen.reserves) == 3
    assert len(chosen.random) == 3
    names = {hotkey(name): name for name in NINE}
    fake_reserve, *reserves = (names[h] for h in chosen.reserves)

    def judge(row: SampledRow) -> Verdict:
        fakes = (hotkey("m00"), hotkey(fake_reserve), chosen.random[0])
        return Verdict.MISIDENTIFIED if row.miner in fakes else Verdict.CONFIRMED

    outcome = epoch.conclude(judge)
    for fake in ("m00", fake_reserve, names[chosen.random[0]]):
        assert of(outcome, fake).disqualified
        assert (of(outcome, fake).final, of(outcome, fake).weight) == (0, 0)
    # The reserves that stand compete, too.
    for name in reserves:
        assert of(outcome, name).candidate
        assert of(outcome, name).reserve
    assert outcome.winners == (hotkey("m01"), hotkey("m02"), hotkey("m03"))
    # In line stand 4 more; 6 coldkeys are below it, so 10 share 50,000: 5,000 each. 3 of the 6 were
    # drawn, so each of these is paid for two, and what the fake one would have had is burnt.
    drawn = chosen.random[1:]
    assert sorted(outcome.weights.values()) == [
        *[5_000] * 4, *[10_000] * 3, 150_000, 300_000, 500_000,
    ]  # fmt: skip
    assert [outcome.weights[h] for h in drawn] == [10_000, 10_000]
    assert outcome.weights[hotkey("owner")] == 10_000
    unseen = [name for name in NINE if hotkey(name) not in chosen.all]
    assert len(unseen) == 3
    for name in unseen:
        assert [r.code for r in of(outcome, name).reasons] == [Code.NOT_DRAWN]
        assert "6 coldkeys are below" in of(outcome, name).reasons[0].detail


FIFTEEN = Epoch20(NINE, minutes=AT)
"""Three winners, six more in line, three of six coldkeys drawn: 10 heads share 50,000."""


def each_as(verdicts: Mapping[Hotkey, Verdict]) -> Judge:
    return lambda row: verdicts.get(row.miner, Verdict.CONFIRMED)


def test_a_drawn_one_of_whom_nothing_was_confirmed_leaves_its_part_to_the_others() -> None:
    first, *rest = FIFTEEN.plan.chosen.random
    honest_one = FIFTEEN.conclude(honest)
    outcome = FIFTEEN.conclude(each_as({first: Verdict.INCONCLUSIVE}))
    # 50,000 // 12 = 4,166 each; 6 × 4,166 // 3 and // 2.
    assert [honest_one.weights[h] for h in (first, *rest)] == [8_332] * 3
    assert [outcome.weights.get(h, 0) for h in (first, *rest)] == [0, 12_498, 12_498]
    assert [r.code for r in outcome.miners[first].reasons] == [Code.NOTHING_CONFIRMED]
    line = FIFTEEN.plan.chosen.candidates + FIFTEEN.plan.chosen.reserves
    assert all(outcome.weights[h] == honest_one.weights[h] for h in line)
    # It costs the bonus and nothing else.
    for name in ("final", "earned", "rank", "disqualified"):
        assert getattr(outcome.miners[first], name) == getattr(honest_one.miners[first], name)


def test_where_nothing_of_any_drawn_one_was_confirmed_their_part_is_nobodys() -> None:
    drawn = FIFTEEN.plan.chosen.random
    outcome = FIFTEEN.conclude(each_as(dict.fromkeys(drawn, Verdict.INCONCLUSIVE)))
    assert not set(drawn) & set(outcome.weights)
    # 12 heads: 6 × 4,166 + 2 of floors.
    assert outcome.weights[hotkey("owner")] == 50_000 - 6 * 4_166


def test_a_candidate_of_whom_nothing_was_confirmed_has_no_part_of_what_is_shared() -> None:
    reserve, *reserves = FIFTEEN.plan.chosen.reserves
    untold = (hotkey("m04"), reserve)
    outcome = FIFTEEN.conclude(each_as(dict.fromkeys(untold, Verdict.INCONCLUSIVE)))
    for miner in untold:
        assert (outcome.miners[miner].weight, outcome.miners[miner].disqualified) == (0, False)
        assert outcome.miners[miner].reasons[0].code == Code.NOTHING_CONFIRMED
    # As where they were disqualified: 10 heads share, and nothing of it is lost.
    others = (hotkey("m03"), hotkey("m05"), *reserves)
    assert [outcome.miners[miner].weight for miner in others] == [5_000] * 4
    assert all(outcome.weights[h] == 10_000 for h in FIFTEEN.plan.chosen.random)


@pytest.mark.parametrize(("rows", "paid"), [(4, False), (5, True)])
def test_contradicted_is_not_confirmed(rows: int, paid: bool) -> None:
    """Four rows that are all contradicted do not disqualify, and are not paid for either."""
    names = ("ann", "bob", "cid")
    epoch = Epoch20(
        {name: homes(start=100 * n) for n, name in enumerate(names, start=1)}
        | {"dan": homes(rows, start=900)}
    )
    outcome = epoch.conclude(verdict_for("dan", Verdict.CONTRADICTED, 4 if not paid else 1))
    assert not of(outcome, "dan").disqualified
    assert of(outcome, "dan").weight == (50_000 if paid else 0)
    assert (Code.NOTHING_CONFIRMED in {r.code for r in of(outcome, "dan").reasons}) is not paid


def test_where_a_coldkey_may_win_twice_its_part_is_of_its_confirmed_hotkeys() -> None:
    rules = Rules(spot_check_percentage=100, max_winners_per_coldkey=2, deep_validation_top=5)
    names = ("ann", "bob", "cid", "dan1", "dan2", "eve")
    rows = {name: homes(start=100 * n) for n, name in enumerate(names, start=1)}
    minutes = {name: n for n, name in enumerate(names)}
    epoch = Epoch20(rows, minutes=minutes, coldkeys={"dan1": "D", "dan2": "D"}, rules=rules)
    outcome = epoch.conclude(honest)
    assert [of(outcome, n).weight for n in names[3:]] == [12_500, 12_500, 25_000]
    outcome = epoch.conclude(verdict_for("dan1", Verdict.INCONCLUSIVE))
    assert [of(outcome, n).weight for n in names[3:]] == [0, 25_000, 25_000]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(list(Verdict)), min_size=15, max_size=15), st.integers(0, 19))
def test_nobody_has_a_part_of_what_is_shared_unconfirmed(
    verdicts: list[Verdict], spared: int
) -> None:
    """Each miner's rows all come out alike, but for so many that are confirmed with some."""
    as_told = {hotkey(name): verdict for name, verdict in zip(NINE, verdicts, strict=True)}
    seen: dict[Hotkey, int] = {}

    def judge(row: SampledRow) -> Verdict:
        seen[row.miner] = seen.get(row.miner, 0) + 1
        lucky = hotkey("m03") == row.miner or row.miner in FIFTEEN.plan.chosen.random[:1]
        return Verdict.CONFIRMED if lucky and seen[row.miner] <= spared else as_told[row.miner]

    outcome = FIFTEEN.conclude(judge)
    assert sum(outcome.weights.values()) == PPM
    for name, miner in ((h, outcome.miners[h]) for h in FIFTEEN.plan.chosen.all):
        codes = {reason.code for reason in miner.reasons}
        assert miner.checks is not None
        if name in outcome.winners or miner.disqualified:
            assert Code.NOTHING_CONFIRMED not in codes
            continue
        assert (miner.weight > 0) is (miner.checks.confirmed > 0)
        assert (Code.NOTHING_CONFIRMED in codes) is (miner.checks.confirmed == 0)
    paid = set(outcome.weights) - set(outcome.winners) - {hotkey("owner")}
    assert paid <= set(FIFTEEN.plan.chosen.all)


def test_invented_optional_values_gain_nothing() -> None:
    """The source shows none of the fields that are not in every row; inventing them earned the
    best quality before."""
    invented = {name: FULL_OPTIONAL[name] for name in ("mls_id", "stories", "hoa_fee_monthly")}
    shown = {"bedrooms": 3, "year_built": 1950}
    rows = {"ann": homes(**shown), "bob": homes(start=101, **shown, **invented)}
    epoch = Epoch20(rows, minutes={"bob": 1})
    assert of(epoch.conclude(honest), "bob").standing is not None
    evidence = epoch.evidence(honest, shown=2)
    outcome = conclude(epoch.lined_up, epoch.plan, evidence)
    ann, bob = of(outcome, "ann"), of(outcome, "bob")
    assert (ann.quick.completeness, bob.quick.completeness) == (125_000, 312_500)
    assert (ann.quality, bob.quality) == (125_000, 0)  # 2 of 5 are shown
    assert [r.code for r in bob.reasons] == [Code.FIELDS_NOT_SHOWN]
    assert "Of 100 optional fields filled in the checked rows the source shows 40" in (
        bob.reasons[0].detail
    )
    assert outcome.winners == (hotkey("ann"), hotkey("bob"))
    assert ann.reasons == ()


def test_those_who_claim_most_do_not_keep_others_from_the_places() -> None:
    """Six that invent every optional value stand before the honest until they are checked."""
    cheats = {f"c{n}": homes(start=100 * n, **FULL_OPTIONAL) for n in range(1, 7)}
    honests = {f"h{n}": homes(start=1_000 + 100 * n, bedrooms=3, bathrooms=2.0) for n in range(3)}
    epoch = Epoch20({**cheats, **honests}, minutes={**dict.fromkeys(cheats, 1)})
    assert set(epoch.plan.chosen.candidates) == {hotkey(name) for name in cheats}
    outcome = conclude(epoch.lined_up, epoch.plan, epoch.evidence(honest, shown=2))
    assert set(outcome.winners) == {hotkey(name) for name in honests}


def test_as_many_as_are_in_line_do_not_keep_all_others_out() -> None:
    """Nine claim more than all others; of the twelve after the candidates nine are honest."""
    cheats = {f"c{n}": homes(start=100 * n, **FULL_OPTIONAL) for n in range(1, 10)}
    shown = {"bedrooms": 3, "bathrooms": 2.0}
    honests = {f"h{n}": homes(start=1_000 + 100 * n, **shown) for n in range(9)}
    epoch = Epoch20({**cheats, **honests})
    assert set(epoch.plan.chosen.candidates) < {hotkey(name) for name in cheats}
    of_honest = {hotkey(name) for name in honests}
    asked = of_honest & set(epoch.plan.chosen.reserves)
    assert asked
    outcome = conclude(epoch.lined_up, epoch.plan, epoch.evidence(honest, shown=2))
    assert set(outcome.winners[: len(asked)]) == asked


def test_a_fake_leaves_its_place_to_the_next_and_its_coldkey_nothing() -> None:
    epoch = Epoch20(NINE, minutes=AT, coldkeys={"m00": "X", "m01": "X", "m14": "X"})
    outcome = epoch.conclude(honest)
    assert outcome.winners == (hotkey("m00"), hotkey("m02"), hotkey("m03"))
    for name in ("m01", "m14"):
        assert of(outcome, name).weight == 0
        assert [r.code for r in of(outcome, name).reasons] == [Code.COLDKEY_LIMIT]
        assert hotkey("m00") in of(outcome, name).reasons[0].detail
    assert of(outcome, "m00").reasons == ()


def test_an_invalid_submission_is_judged_alone() -> None:
    epoch = Epoch20({"a": homes(20), "b": homes(20), "c": homes(1)})
    broken = replace(epoch.submissions["b"], bodies={"15213": b"junk"})
    results = [*(r for r in epoch.results if r.hotkey != broken.hotkey), broken.examine(epoch.view)]
    lined_up = line_up(epoch.assignment, epoch.view, results)
    outcome = conclude(lined_up, plan_checks(lined_up), [])
    assert outcome.winners == (hotkey("a"),)
    assert of(outcome, "b").quick.valid is False
    assert (of(outcome, "b").final, of(outcome, "b").checks, of(outcome, "b").rank) == (
        0, None, None)  # fmt: skip
    # c has 1 of 20: 5 % of the volume; valid, but takes no part and has no share.
    assert of(outcome, "c").quick.valid
    assert (of(outcome, "c").final, of(outcome, "c").weight) == (0, 0)


def test_texts_without_end_do_not_spoil_the_evidence() -> None:
    """A check repeats the row's id: two miners' long ones made all evidence too large to count."""
    long = [listing(n, listing_id=f"portal:{n:040000d}") for n in range(100, 120)]
    epoch = Epoch20({"honest": homes(), "fakes": long, "friend": long})
    outcome = epoch.conclude(honest)
    assert not outcome.ignored_evidence
    assert of(outcome, "honest").checks.confirmed == 20
    assert [r.code for r in of(outcome, "fakes").reasons] == [Code.OUT_OF_RANGE_OVER_LIMIT]
    assert set(outcome.weights) == {hotkey("honest"), hotkey("owner")}


def test_nobody_takes_part() -> None:
    epoch = Epoch20({})
    outcome = epoch.conclude(honest)
    assert outcome.weights == {hotkey("owner"): PPM}
    assert outcome.winners == ()


# ------------------------------------------------------------------ vouching


def vouched_for(coldkeys: str, covering: str = "") -> bool:
    """Whether miner ``x``'s home counts as delisted where the miners of these coldkeys report it
    too, and those of ``covering`` have other rows in the ZIP."""
    rows = {"x": homes(3)}
    owners = {"x": "X"}
    for n, coldkey in enumerate(coldkeys):
        rows[f"r{n}"] = homes(3)
        owners[f"r{n}"] = coldkey
    for n, coldkey in enumerate(covering):
        rows[f"o{n}"] = homes(3, start=50)
        owners[f"o{n}"] = coldkey
    epoch = Epoch20(rows, coldkeys=owners)
    listing_id = epoch.lined_up.results[hotkey("x")].kept["listing_id"][0]
    return is_vouched(epoch.lined_up, SampledRow(hotkey("x"), listing_id, 0, 0, (), 0))


@pytest.mark.parametrize(
    ("reporting", "covering", "vouched"),
    [
        ("", "", False),
        ("A", "", False),  # one other account may be a friend
        ("AA", "", False),  # two hotkeys of one coldkey are one
        ("XX", "", False),  # one's own hotkeys vouch for nothing
        ("AB", "", True),
        ("AB", "CD", True),  # 2 of 4
        ("AB", "CDE", False),  # 2 of 5: two colluding accounts among honest ones
        ("ABC", "DEF", True),
        ("AB", "XXX", True),  # one's own other hotkeys do not count as others
    ],
)
def test_who_vouches(reporting: str, covering: str, vouched: bool) -> None:
    assert vouched_for(reporting, covering) is vouched


def test_a_home_that_the_source_no_longer_knows_costs_nothing_where_others_have_it() -> None:
    epoch = Epoch20({"a": homes(20), "b": homes(20), "c": homes(20)})
    outcome = epoch.conclude(verdict_for("a", Verdict.NOT_FOUND, 1))
    assert not of(outcome, "a").disqualified
    assert of(outcome, "a").checks.inconclusive == 1
    # Another home under its id is a fake all the same.
    outcome = epoch.conclude(verdict_for("a", Verdict.MISIDENTIFIED, 1))
    assert of(outcome, "a").disqualified


# ------------------------------------------------------------------ agreement to the bit


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_no_order_ever_matters(data: st.DataObject) -> None:
    epoch = SHUFFLED
    verdicts = list(Verdict)

    def judge(row: SampledRow) -> Verdict:
        return verdicts[int(row.listing_id.split(":")[1]) % len(verdicts)]

    evidence = epoch.evidence(judge)
    reference = conclude(epoch.lined_up, epoch.plan, evidence)
    lined_up = line_up(epoch.assignment, epoch.view, data.draw(st.permutations(epoch.results)))
    plan = plan_checks(lined_up)
    assert plan == epoch.plan
    outcome = conclude(lined_up, plan, data.draw(st.permutations(evidence)))
    assert report(outcome, "v1") == report(reference, "v1")
    assert outcome.consensus_hash == reference.consensus_hash


SHUFFLED = Epoch20(
    {f"s{n}": homes(10 + n, start=n) for n in range(6)},
    minutes={"s1": 3, "s2": 3, "s5": 1},
    coldkeys={"s0": "S", "s4": "S"},
)


def report(outcome: Outcome, validator: str, *, seconds: int = 7, rows: int = 20) -> dict[str, Any]:
    return build_report(
        outcome,
        validator=hotkey(validator),
        finished_at=EPOCH.weights_by - timedelta(seconds=seconds),
        duration_seconds=seconds,
        listings_validated=rows,
    )


def test_honest_validators_publish_the_same_but_for_their_own_fields() -> None:
    epoch = Epoch20({"a": homes(20), "b": homes(15)})
    evidence = epoch.evidence(honest)
    one = report(conclude(epoch.lined_up, epoch.plan, evidence), "v1", seconds=7)
    other = report(conclude(epoch.lined_up, epoch.plan, evidence[::-1]), "v2", seconds=90)
    assert one != other
    assert common_part(one) == common_part(other)
    assert canonical_json(common_part(one)) == canonical_json(common_part(other))


def test_the_report_says_all_there_is() -> None:
    epoch = Epoch20({"a": homes(20, **FULL_OPTIONAL), "b": homes(1)})
    evidence = [*epoch.evidence(honest), Evidence(hotkey("m"), (), "It holds no permit.")]
    outcome = conclude(epoch.lined_up, epoch.plan, evidence)
    document = json.loads(canonical_json(report(outcome, "v1")))
    assert document["top_3_winners"] == [
        {
            "rank": 1,
            "miner_hotkey": hotkey("a"),
            "score": PPM,
            "listings_submitted": 20,
            "zipcodes_completed": 1,
            "validation_issues": [],
        }
    ]
    assert document["validation_summary"] == {
        "total_listings_validated": 20,
        "spot_checks_performed": 60,
        "validation_duration_seconds": 7,
        "quality_score_average": PPM,
    }
    assert document["total_miners_evaluated"] == 2
    assert document["ignored_evidence"] == {hotkey("m"): "It holds no permit."}
    assert document["assignment_hash"] == epoch.assignment.hash
    assert document["consensus_hash"] == outcome.consensus_hash
    assert document["weights"] == {hotkey("a"): 500_000, hotkey("owner"): 500_000}
    assert document["miners"][hotkey("a")] == {
        "valid": True,
        "participant": True,
        "candidate": True,
        "reserve": False,
        "disqualified": False,
        "submission_time": "2024-03-15T18:00:00Z",
        "rows": 20,
        "rows_kept": 20,
        "duplicates": 0,
        "out_of_range": 0,
        "zipcodes": 1,
        "speed": PPM,
        "completeness": PPM,
        "volume": PPM,
        "preliminary": PPM,
        "accuracy": PPM,
        "quality": PPM,
        "credibility": PPM,
        "credibility_epochs": 0,
        "final": PPM,
        "rank": 1,
        "weight": 500_000,
        "checks": {
            "confirmed": 20,
            "contradicted": 0,
            "fake": 0,
            "inconclusive": 0,
            "fields_filled": 320,
            "fields_shown": 320,
        },
        "reasons": [],
    }
    entry = document["miners"][hotkey("b")]
    assert (entry["valid"], entry["participant"], entry["volume"]) == (True, False, 50_000)
    assert [r["code"] for r in entry["reasons"]] == ["below_min_volume"]
    assert {k for k, v in entry.items() if v is None} == {
        "speed", "preliminary", "accuracy", "quality", "rank", "checks"}  # fmt: skip


# ------------------------------------------------------------------ published rows


def published(epoch: Epoch20, outcome: Outcome) -> pl.DataFrame:
    rows: dict[Hotkey, pl.DataFrame] = {}
    for made in epoch.submissions.values():
        rows[made.hotkey] = kept_listings(
            epoch.assignment, made.hotkey, made.manifest_upload(), made.files()
        )
    return published_rows(epoch.lined_up, outcome, rows)


def test_each_home_is_published_once_from_the_best_rank() -> None:
    variant = [listing(n, listing_id=f"portal:z{n}", address=f"{n} FORBES AVE") for n in (1, 2)]
    epoch = Epoch20(
        {"a": homes(5), "b": homes(6, start=3), "c": [*variant, *homes(2, start=20)]},
        minutes={"a": 1, "c": 2},
    )
    outcome = epoch.conclude(honest)
    assert outcome.winners == tuple(hotkey(n) for n in "bac")
    frame = published(epoch, outcome)
    assert frame.schema == pl.Schema(PUBLISHED_SCHEMA)
    found = {
        (row["listing_id"], row["rank"], row["confirmations"])
        for row in frame.select("listing_id", "rank", "confirmations").to_dicts()
    }
    assert found == {
        *((f"portal:{n}", 1, 2) for n in (3, 4, 5)),  # b's, which a has too
        *((f"portal:{n}", 1, 1) for n in (6, 7, 8)),
        *((f"portal:{n}", 2, 2) for n in (1, 2)),  # a's; c has their addresses under other ids
        *((f"portal:{n}", 3, 1) for n in (20, 21)),
    }
    assert set(frame["epoch_id"]) == {EPOCH.id}
    assert pl.read_parquet(write_published(frame)).equals(frame)


def test_nothing_is_published_where_nobody_won() -> None:
    epoch = Epoch20({})
    frame = published(epoch, epoch.conclude(honest))
    assert frame.schema == pl.Schema(PUBLISHED_SCHEMA)
    assert frame.height == 0


def test_every_validator_checks_its_own_rows_only() -> None:
    epoch = Epoch20({"a": homes(20)}, rules=Rules(spot_check_percentage=100, spot_check_replicas=2))
    shares = [epoch.plan.rows_of(hotkey(v)) for v in VALIDATORS]
    assert sum(len(share) for share in shares) == 40
    assert all(len(row.validators) == 2 for row in epoch.plan.rows)
    stranger = [check(r.miner, r.listing_id, Verdict.NOT_FOUND) for r in epoch.plan.rows]
    forged = [Evidence(hotkey("m"), tuple(stranger), None)]
    outcome = conclude(epoch.lined_up, epoch.plan, [*epoch.evidence(honest), *forged])
    assert all(row.verdict == Merged.CONFIRMED for row in outcome.merged)
