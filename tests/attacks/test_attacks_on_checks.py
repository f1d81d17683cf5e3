"""Attacks with rows, accounts and validators: each is played, and what it is paid is asserted."""

from collections.abc import Iterable
from itertools import pairwise

import polars as pl
import pytest
from attackfield import (
    CHEAT,
    codes,
    epoch,
    judged,
    of,
    others,
    played,
    strategy,
    turn,
    uploaded,
    whole,
)

from sn46.arena import cheating
from sn46.arena.accounts import hotkey_of
from sn46.arena.heats import Heat, Past
from sn46.arena.rounds import VALIDATORS
from sn46.arena.running import submitted
from sn46.arena.strategies import MEMBERS, SIBLINGS, Move
from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.judge import Outcome, line_up, plan_checks
from sn46.mechanism.names import Hotkey
from sn46.mechanism.reasons import Code
from sn46.mechanism.sampling import sample_rows


def earned(outcome: Outcome, names: Iterable[str] = MEMBERS) -> int:
    return sum(outcome.weights.get(hotkey_of(name), 0) for name in names)


def test_fakes_behind_good_rows_are_found() -> None:
    """good rows first, fakes behind"""
    behind = {
        z: pl.concat([f, cheating.invented(f, 20, epoch().chance(f"behind:{z}"))])
        for z, f in whole().items()
    }
    outcome = uploaded(behind)
    assert Code.FAKE_LISTING in codes(of(outcome))
    assert CHEAT not in outcome.weights


def test_the_sample_is_another_with_every_block() -> None:
    """sample known or grindable while uploading"""
    [result] = [s.result for s in others()[:1]]
    marks = pl.DataFrame({"suspicion": [0] * result.kept.height, "as_full": 1})
    samples = [
        {
            listing_id
            for _, listing_id, _ in sample_rows(
                kept=result.kept,
                marks=marks,
                percentage=5,
                seed=sha256_hex(f"block {number}"),
            )
        }
        for number in range(8)
    ]
    assert all(a != b for a, b in pairwise(samples))
    # Over some blocks no row of it can be sure not to be looked at.
    assert len(set().union(*samples)) > 3 * len(samples[0])


def test_bait_does_not_hide_fakes() -> None:
    """real rows as bait around many fakes"""
    outcome = strategy("invented-many")
    assert Code.FAKE_LISTING in codes(of(outcome))
    assert CHEAT not in outcome.weights


def test_one_fake_in_a_hundred_does_not_pay() -> None:
    """real rows as bait around many fakes (one in a hundred; now and then none is looked at)"""
    cheats = [strategy("invented-few", number) for number in range(4)]
    plain = [strategy("honest", number) for number in range(4)]
    assert sum(of(outcome).disqualified for outcome in cheats) >= 2
    assert sum(map(earned, cheats)) <= sum(map(earned, plain))


@pytest.mark.parametrize("name", ["price-10", "made-up"])
def test_fabricated_fields_on_real_ids(name: str) -> None:
    """fabricated price, rooms, ZIP on a real id"""
    outcome = strategy(name)
    assert Code.LOW_ACCURACY in codes(of(outcome))
    assert CHEAT not in outcome.weights


def test_a_few_prices_that_are_three_percent_off_cost_quality() -> None:
    """fabricated price, rooms, ZIP on a real id (a quarter of the prices, 3 % off)"""
    cheat, honest = of(strategy("price-3")), of(strategy("honest"))
    assert cheat.disqualified or cheat.quality < honest.quality
    assert cheat.weight <= honest.weight


def test_a_home_of_another_zip_is_a_fake() -> None:
    """fabricated price, rooms, ZIP on a real id (real homes, said to be in the assigned ZIP)"""
    market, today = epoch().market, epoch().today
    elsewhere = next(z for z in market.zipcodes if z not in epoch().zipcodes)
    moved = epoch().stamped(market.shown(elsewhere, today).head(60))
    target = epoch().zipcodes[0]
    rows = moved.with_columns(zipcode=pl.lit(str(target)), latitude=None, longitude=None)
    frame = rows.cast({"latitude": pl.Float64, "longitude": pl.Float64})
    outcome = uploaded(whole() | {target: pl.concat([whole()[target].head(60), frame])})
    assert Code.FAKE_LISTING in codes(of(outcome))
    assert CHEAT not in outcome.weights


def test_a_record_under_another_id_is_a_fake() -> None:
    """a real record stapled to another id or URL"""
    outcome = strategy("stapled")
    assert Code.FAKE_LISTING in codes(of(outcome))
    assert CHEAT not in outcome.weights


def test_copies_win_no_second_place() -> None:
    """copies from another miner"""
    # Whose rows leaked is no worse off than by an honest miner of that speed, and of two hotkeys of
    # one coldkey with the same rows one is paid.
    leaked = played([turn().leak, Move("op-1b", turn().leak.frames, turn().leak.minutes + 1)])
    assert earned(leaked, ("op-1", "op-1b")) == max(
        leaked.weights.get(hotkey_of(name), 0) for name in ("op-1", "op-1b")
    )


def test_five_hotkeys_of_one_coldkey_win_one_place() -> None:
    """one operator with many hotkeys takes all three places, or soaks up the shared 5 %"""
    outcome = strategy("five-hotkeys")
    own = [hotkey_of(name) for name in SIBLINGS]
    assert sum(hotkey in outcome.winners for hotkey in own) <= 1
    low = [Move(name, turn().fetch("op-1", share=0.11).frames, 230.0) for name in SIBLINGS]
    one, five = played(low[:1]), played(low)
    assert earned(five, SIBLINGS) <= earned(one, SIBLINGS)


def test_who_stays_below_the_candidates_is_looked_at_by_chance() -> None:
    """staying below the candidates, unchecked, for the shared 5 %"""
    found: set[Code] = set()
    for number in range(4):
        outcome = strategy("unseen", number)
        miner = of(outcome)
        assert not miner.candidate
        assert not miner.reserve
        assert CHEAT not in outcome.weights
        found |= codes(miner)
    # Drawn and caught, drawn with a sample of which nothing could be told, and not drawn.
    assert found == {Code.FAKE_LISTING, Code.NOTHING_CONFIRMED, Code.NOT_DRAWN}


def test_what_is_paid_to_an_honest_miner_drawn_is_not_paid_to_an_invented_one() -> None:
    """staying below the candidates, unchecked, for the shared 5 % (and luck with the checks)"""
    # In this epoch nothing of what is invented could be told, and it was paid for that before.
    outcome = strategy("unseen", 1)
    miner = of(outcome)
    assert miner.checks is not None
    assert (miner.checks.confirmed, miner.checks.fake, miner.disqualified) == (0, 0, False)
    assert miner.checks.inconclusive > 0
    drawn = [
        m
        for m in outcome.miners.values()
        if m.checks and not m.candidate and not m.reserve and m is not miner
    ]
    assert drawn
    assert all(m.weight > 0 for m in drawn)
    assert codes(miner) == {Code.NOTHING_CONFIRMED}


@pytest.mark.parametrize("name", ["vouch-2", "vouch-3", "vouch-4", "vouch-5"])
def test_accounts_that_vouch_for_each_other_are_paid_nothing(name: str) -> None:
    """two accounts vouch for each other's invented homes"""
    outcome = strategy(name)
    assert earned(outcome) == 0
    assert Code.FAKE_LISTING in codes(of(outcome))


@pytest.mark.parametrize("name", ["league", "league-3"])
def test_a_validator_in_league_does_not_acquit(name: str) -> None:
    """two accounts vouch for each other's invented homes (and a validator confirms them)"""
    assert earned(strategy(name)) == 0


@pytest.mark.parametrize(
    ("cheat", "honest"), [("filled", "honest"), ("filled-pages", "honest-pages")]
)
def test_invented_optional_values_make_no_better_score(cheat: str, honest: str) -> None:
    """optional fields filled with invented values for completeness"""
    filled, plain = of(strategy(cheat)), of(strategy(honest))
    assert filled.quick.completeness > plain.quick.completeness
    # What the portal does not show counts for nothing; a guess counts where it happens to agree.
    assert filled.quality is not None
    assert plain.quality is not None
    assert filled.quality < plain.quality


@pytest.mark.parametrize("cheat", ["filled-some", "filled-few"])
def test_a_few_guesses_do_not_pay(cheat: str) -> None:
    """the same in so few homes that the sample seldom meets one"""
    filled, plain = of(strategy(cheat)), of(strategy("honest"))
    assert filled.quick.completeness > plain.quick.completeness
    assert filled.quality < plain.quality * 9 // 10


def test_an_archive_earns_no_more_than_a_scrape() -> None:
    """what was scraped before the epoch, uploaded as it begins"""
    archive, honest = of(strategy("archive")), of(strategy("honest"))
    assert archive.standing.time < honest.standing.time
    assert archive.standing.speed == honest.standing.speed
    assert archive.final < honest.final


def test_what_cannot_be_checked_costs_nothing() -> None:
    """validators punish miners for their own faults (blocked page, 5xx, time-out)"""
    # No validator publishes anything, as where the portal refuses all of them: everybody is paid
    # as the preliminary scores have it, and nobody is disqualified.
    outcome = judged(submitted(epoch(), Move("op-1", whole(), 15.0)).result)
    assert not any(miner.disqualified for miner in outcome.miners.values())
    assert CHEAT in outcome.winners
    assert {500_000, 300_000, 150_000} <= set(outcome.weights.values())


def test_a_home_that_is_gone_costs_an_honest_miner_nothing() -> None:
    """a home that sold again or was delisted between scrape and check"""
    # Over some epochs the portal forgets and changes homes, as it does in life.
    for number in range(4):
        for submission in others(number)[:4]:
            outcome = of(played([], number), submission.hotkey)
            assert not outcome.disqualified


def test_honest_validators_agree_to_the_bit() -> None:
    """validators sample at random and disagree; "consensus" that compares with nobody"""
    moves = [Move("op-1", whole(), 60.0)]
    there = [*others(), submitted(epoch(), moves[0])]
    one = Heat(epoch(), {s.hotkey: s for s in there}).play(Past())
    two = Heat(epoch(), {s.hotkey: s for s in reversed(there)}).play(Past())
    assert one.consensus_hash == two.consensus_hash
    lined_up = line_up(epoch().assignment, epoch().view, [s.result for s in there])
    assert plan_checks(lined_up) == plan_checks(lined_up)


def test_a_validator_that_lies_changes_nobodys_place() -> None:
    """validators copy one another's weights (nor does one that publishes lies change any)"""
    liars: set[Hotkey] = {v.hotkey for v in VALIDATORS if v.lies}
    assert liars
    for number in range(3):
        outcome = played([], number)
        assert not any(miner.disqualified for miner in outcome.miners.values())
        assert len(outcome.winners) == 3


def test_friends_are_no_majority_in_a_small_field() -> None:
    """two accounts vouch for each other's invented homes (five, among four honest ones)"""
    outcome = strategy("vouch-5-few")
    assert earned(outcome) == 0
    assert Code.FAKE_LISTING in codes(of(outcome))


def test_hotkeys_of_one_coldkey_keep_nobody_from_being_a_candidate() -> None:
    """one operator with many hotkeys takes all three places, or soaks up the shared 5 % (or fills
    the candidates' places with its own)"""
    fast = [Move(name, turn().fetch("op-1").frames, 15.0) for name in SIBLINGS]
    five, one = played(fast), played(fast[:1])

    own = {hotkey_of(name) for name in SIBLINGS}

    def in_line(outcome: Outcome) -> set[Hotkey]:
        return {h for h, m in outcome.miners.items() if m.candidate or m.reserve}

    assert len(in_line(five) & own) == 1
    assert in_line(five) - own == in_line(one) - own
    assert earned(five, SIBLINGS) <= earned(one, SIBLINGS)


def test_cheap_accounts_do_not_take_an_honest_miners_vouchers_away() -> None:
    """a home that sold again or was delisted between scrape and check (and five coldkeys with a
    tenth of each ZIP, who do not have it, so that those who have are fewer than half)"""
    # In each of these epochs an honest miner is asked for a home that the portal has lost.
    for number in (0, 8, 24):
        diluted = played(
            [Move(name, turn(number).fetch(name, share=0.11).frames, 200.0) for name in MEMBERS],
            number,
        )
        fakes = [h for h, m in diluted.miners.items() if Code.FAKE_LISTING in codes(m)]
        assert not fakes
