"""A plan: what a goal needs, found by drawing, and what is impossible."""

from dataclasses import replace

import pytest

from sn46.mechanism.draw import DrawRules, DrawTable
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.planning import (
    Part,
    Plan,
    make_plan,
    most_target,
    proxies_for,
    reach,
    supply,
)
from sn46.mechanism.regions import CENSUS_REGIONS

from .builders import EPOCH, zip_row

STATES = sorted(CENSUS_REGIONS)
RULES = DrawRules(target_listings=5_000, max_data_age_days=400)
HOURLY = Epoch(EPOCH.start, 3_600)


def table() -> DrawTable:
    """600 ZIPs of 200 to 499 listings, 209,700 together, and 600 of 50 to 199, 74,700."""
    return DrawTable(
        zip_row(n, expected_listings=200 + n % 300 if n < 600 else 50 + n % 150,
                state=STATES[n % len(STATES)], home_value=100_000 + 7_919 * n % 900_000)
        for n in range(1_200)
    )  # fmt: skip


def plan(goal: int, days: int, rules: DrawRules = RULES) -> Plan:
    return make_plan(table(), rules, EPOCH, goal=goal, days=days)


def test_supply_says_why_the_rest_is_not_drawn() -> None:
    rows = [
        zip_row(1, expected_listings=500),
        zip_row(2, expected_listings=199),
        zip_row(3, expected_listings=3_001),
        zip_row(4, expected_listings=300, state="NY"),
        zip_row(5, expected_listings=None),
        zip_row(6, expected_listings=300, updated_on=None),
        zip_row(7, expected_listings=199, state="NY"),
    ]
    rules = replace(RULES, eligible_states=frozenset({"PA"}))
    found = supply(DrawTable(rows), rules, EPOCH)
    assert found.eligible == Part(1, 500)
    assert found.too_small == Part(1, 199)
    assert found.too_large == Part(1, 3_001)
    assert found.elsewhere == Part(2, 499)
    assert found.unknown == Part(2, 300)


def test_a_goal_within_reach_gets_a_target_that_reaches_it_and_little_more() -> None:
    goal, days = 150_000, 6
    found = plan(goal, days)
    assert [way.min_zipcode_listings for way in found.ways] == [200, 200]
    assert [way.cooldown_hours for way in found.ways] == [24, 120]
    assert found.without_redraws == -(-150_000 // 36)  # 4,167
    assert found.notes == ()
    for way in found.ways:
        needed = way.in_time
        assert needed is not None
        rules = replace(RULES, cooldown_hours=way.cooldown_hours)
        again = reach(
            table(), replace(rules, target_listings=needed.target), EPOCH, epochs=36, goal=goal
        )
        assert again == needed
        assert needed.listings >= goal
        assert needed.days <= days
        assert needed.drawn >= needed.listings
        assert not needed.misses
        fewer = replace(rules, target_listings=needed.target * 9 // 10)
        assert reach(table(), fewer, EPOCH, epochs=36).listings < goal
    # The long cooldown leaves fewer re-draws, so less does.
    short, long = (way.in_time for way in found.ways)
    assert short is not None
    assert long is not None
    assert long.target < short.target
    assert long.drawn_again < short.drawn_again
    assert found.best == found.ways[1]


def test_a_goal_out_of_reach_names_the_minimum_that_reaches_it() -> None:
    found = plan(230_000, 10)
    assert "out of reach with MIN_ZIPCODE_LISTINGS=200" in found.notes[0]
    assert "209,700" in found.notes[0]
    assert (found.ways[0].in_time, found.ways[0].at_present_target) == (None, None)
    # From 150 on: 50 of each 150 small ones, 150 … 199, four times: 34,900, and 209,700.
    assert [way.min_zipcode_listings for way in found.ways] == [200, 150, 150, 125, 125]
    assert found.ways[1].supply.listings == 209_700 + 34_900
    assert found.best is not None
    assert found.best.in_time is not None
    assert found.best.in_time.listings >= 230_000
    assert found.best.in_time.days <= 10
    assert found.soonest is not None
    assert found.soonest.at_present_target is not None
    assert found.soonest.at_present_target.listings >= 230_000


def test_a_goal_that_the_table_does_not_hold() -> None:
    found = plan(1_000_000, 30)
    assert [way.min_zipcode_listings for way in found.ways] == [200]
    assert found.best is None
    assert found.soonest is None


def test_the_cooldown_limits_the_target() -> None:
    # 24 hours are six epochs of 4 hours, which draw from one supply, and 24 of one hour.
    assert most_target(table(), RULES, EPOCH) == 209_700 // 6
    assert most_target(table(), RULES, HOURLY) == 209_700 // 24
    assert most_target(table(), replace(RULES, cooldown_hours=0), EPOCH) == 209_700
    over = replace(RULES, target_listings=209_700 // 6 * 13 // 10)
    assert reach(table(), over, EPOCH, epochs=20).misses > 0


def test_present_settings_that_have_no_draws_are_said() -> None:
    found = plan(100_000, 5, replace(RULES, target_listings=60_000))
    assert found.present.misses > 0
    assert any(f"{found.present.misses} of the 30 epochs" in note for note in found.notes)


def test_two_states_cannot_hold_the_quotas_of_states() -> None:
    few = replace(
        RULES, eligible_states=frozenset({"PA", "NJ"}), target_listings=2_000, cooldown_hours=4
    )
    assert any("MAX_STATE_SHARE=25" in note for note in plan(5_000, 2, few).notes)
    wide = replace(few, max_state_share=100, max_region_share=100)
    assert plan(5_000, 2, wide).notes == ()


def test_zips_that_the_target_is_too_small_for_are_said() -> None:
    # 1,000 + 10 % less 20 % and 40 % for the other tiers leave 500 for an emerging ZIP, and
    # less the 20 % and 10 % leave 800 for a standard one.
    rows = [
        zip_row(n, expected_listings=900 if n < 3 else 200, state=STATES[n % len(STATES)],
                home_value=100_000 + n)
        for n in range(300)
    ]  # fmt: skip
    small = replace(RULES, target_listings=1_000)
    found = make_plan(DrawTable(rows), small, EPOCH, goal=5_000, days=1)
    assert any("3 ZIPs are too large" in note and "500" in note for note in found.notes)


def test_rates() -> None:
    found = reach(table(), RULES, EPOCH, epochs=6)
    # 5,000 in 240 minutes are 20.8 a minute; three proxies at 10.
    assert found.per_minute == pytest.approx(5_000 / 240)
    assert proxies_for(found.per_minute, 10) == 3
    assert proxies_for(0.1, 10) == 1


def test_progress_is_told() -> None:
    told: list[str] = []
    make_plan(table(), RULES, EPOCH, goal=50_000, days=3, progress=told.append)
    assert told[0] == "3 days with the present settings"
    assert any("target" in text for text in told[1:])


@pytest.mark.parametrize(("goal", "days"), [(0, 1), (1, 0)])
def test_nothing_is_no_goal(goal: int, days: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        plan(goal, days)
