"""Attacks with times, manifests and files: each is played, and what it is paid is asserted."""

from datetime import timedelta

import polars as pl
import pytest
from attackfield import (
    CHEAT,
    codes,
    epoch,
    examined,
    forged,
    judged,
    of,
    others,
    played,
    strategy,
    uploaded,
    whole,
)

from sn46.arena import cheating
from sn46.arena.strategies import Move
from sn46.mechanism.quick import most_rows, submission_limits
from sn46.mechanism.reasons import Code
from sn46.mechanism.times import format_time


def test_a_back_dated_submission_gets_the_stores_time() -> None:
    """back-dated `submission_timestamp` wins the speed rank"""
    at = epoch().epoch.start + timedelta(hours=3)
    claimed = format_time(epoch().epoch.start)
    honest = judged(examined(forged(at=at)))
    cheat = judged(examined(forged(at=at, fields={"submission_timestamp": claimed})))
    assert of(cheat).standing == of(honest).standing
    assert cheat.weights == honest.weights


def test_work_of_another_epoch_is_worth_nothing() -> None:
    """data prepared before the epoch, nonce ignored"""
    stale = examined(forged(fields={"nonce": "0" * 64}))
    assert [r.code for r in stale.reasons] == [Code.NONCE_MISMATCH]
    before = epoch().epoch.start - timedelta(minutes=1)
    old = {z: f.with_columns(scraped_at=pl.lit(before)) for z, f in whole().items()}
    types = {"scraped_at": pl.Datetime("us", "UTC")}
    prepared = examined(forged({z: f.cast(types) for z, f in old.items()}))
    assert [r.code for r in prepared.reasons] == [Code.OUT_OF_RANGE_OVER_LIMIT]
    for result in (stale, prepared):
        assert CHEAT not in judged(result).weights


def test_files_that_are_not_those_that_were_signed() -> None:
    """files changed after the manifest, or after the deadline"""
    upload = forged()
    zipcode = epoch().zipcodes[0]
    body = next(iter(forged({zipcode: whole()[zipcode].head(50)}).files().values())).body
    changed = examined(forged(bodies={zipcode: body}))
    assert [r.code for r in changed.reasons] == [Code.FILE_HASH_MISMATCH]
    late = epoch().epoch.end + timedelta(seconds=1)
    after = examined(forged(times={zipcode: late}))
    assert [r.code for r in after.reasons] == [Code.LATE]
    assert examined(upload).valid
    for result in (changed, after):
        assert CHEAT not in judged(result).weights


def test_one_fast_listing_is_paid_nothing() -> None:
    """one fast listing to get into the top"""
    outcome = strategy("one-listing")
    assert CHEAT not in outcome.weights
    assert codes(of(outcome)) == {Code.BELOW_MIN_VOLUME}
    # Nor does the least volume that takes part make a candidate, however fast it is.
    assert not of(strategy("honest-tenth")).quick.reasons
    assert of(strategy("honest-tenth")).standing.volume < 200_000


@pytest.mark.parametrize("name", ["padding", "units"])
def test_padding_is_paid_nothing(name: str) -> None:
    """padding: duplicates, cosmetic variants of an address or URL"""
    assert CHEAT not in strategy(name).weights


def test_the_padding_that_passes_counts_for_nothing() -> None:
    """padding: duplicates, cosmetic variants of an address or URL (as many as are let pass)"""
    honest, padded = of(strategy("honest")), of(strategy("padding-1-percent"))
    assert padded.quick.duplicates > 0
    assert padded.final <= honest.final
    assert padded.weight <= honest.weight


def test_counts_that_lie_are_worth_nothing() -> None:
    """lying row counts, tiny or huge files, decompression bombs, deep row groups, corrupt pages
    behind a valid footer"""
    zipcode = epoch().zipcodes[0]
    lying = examined(forged(entries={zipcode: {"rows": 10_000}}))
    assert [r.code for r in lying.reasons] == [Code.FILE_ROWS]
    body = next(iter(forged().files().values())).body
    corrupt = body[:4] + bytes(60) + body[64:]
    broken = examined(forged().with_body(zipcode, corrupt, whole()[zipcode].height))
    assert not broken.valid
    huge = pl.concat([whole()[zipcode]] * 100)
    assert huge.height > most_rows(epoch().assignment.zipcodes[0])
    many = examined(forged({zipcode: huge}))
    assert [r.code for r in many.reasons] == [Code.FILE_TOO_LARGE]
    for result in (lying, broken, many):
        assert CHEAT not in judged(result).weights


def test_no_row_is_lost() -> None:
    """rows that crash the parser vanish from the count"""
    zipcode = epoch().zipcodes[0]
    frame = whole()[zipcode]
    odd = frame.head(4).with_columns(
        address=pl.Series(["", "\x00", "½ ".join("ab"), "𝕏" * 200]),
        bathrooms=pl.Series([float("nan"), float("inf"), -1.0, 1e308]),
    )
    result = examined(forged({zipcode: pl.concat([odd, frame.slice(4)])}))
    assert result.rows == frame.height
    assert result.rows_kept + result.duplicates + result.out_of_range == result.rows


def test_a_malformed_submission_is_its_senders_loss_alone() -> None:
    """one malformed submission stops the whole epoch's validation"""
    zipcode = epoch().zipcodes[0]
    broken = examined(forged().with_body(zipcode, b"PAR1 and no more PAR1", 3))
    assert not broken.valid
    with_it = judged(broken)
    absent = judged(others()[0].result)
    assert CHEAT not in with_it.weights
    assert {h: w for h, w in with_it.weights.items() if h != CHEAT} == absent.weights


def test_a_zip_that_was_not_assigned() -> None:
    """unassigned ZIPs submitted for weight"""
    elsewhere = next(z for z in epoch().market.zipcodes if z not in epoch().zipcodes)
    rows = epoch().stamped(epoch().market.shown(elsewhere, epoch().today))
    result = examined(forged({**whole(), elsewhere: rows}))
    assert [r.code for r in result.reasons] == [Code.WRONG_ZIPCODE]
    assert CHEAT not in judged(result).weights


def test_the_limits_of_a_submission_grow_with_the_assignment() -> None:
    """a big honest miner fails by time-out"""
    assignment = epoch().assignment
    limits = submission_limits(assignment)
    assert limits.rows >= 10 * assignment.total_expected_listings
    # All that the portal shows, and as much again: no limit is near, and the time is no part of it.
    doubled = {
        z: pl.concat([f, cheating.invented(f, f.height, epoch().chance("big"))])
        for z, f in whole().items()
    }
    assert of(uploaded(doubled)).quick.valid


def test_who_is_last_is_not_out() -> None:
    """a big honest miner fails by time-out (it uploads in the last minute)"""
    late = played([Move("op-1", whole(), 239.0)])
    assert of(late).quick.participant
    assert late.weights[CHEAT] > 0
