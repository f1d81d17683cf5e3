"""The draw (mechanism 2): within the tolerance or refused, under its quotas, repeatable."""

import hashlib
import hmac
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, getcontext, localcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn46.mechanism.assignment import AssignedZip
from sn46.mechanism.draw import (
    LARGE_ZIP,
    TIERS,
    Draw,
    DrawHistory,
    DrawRules,
    DrawTable,
    ZipRow,
    draw_order,
    draw_weight,
    draw_zipcodes,
    eligible_rows,
    market_tiers,
)
from sn46.mechanism.errors import DrawError
from sn46.mechanism.names import ZipCode
from sn46.mechanism.regions import CENSUS_REGIONS, region_of
from sn46.zipcodes import load_bundled_table

from .builders import EPOCH, zip_row

NO_HISTORY = DrawHistory()
SEED = "ab" * 32
FREE = DrawRules(  # no quota binds
    target_listings=1_000,
    min_zipcode_listings=1,
    max_state_share=200,
    max_region_share=200,
    tier_tolerance=100,
)


def made_up_table(number: int, size: int) -> list[ZipRow]:
    made = random.Random(number)
    states = made.sample(sorted(CENSUS_REGIONS), made.randint(1, 30))
    return [
        zip_row(
            10_000 + i,
            expected_listings=made.choice([None, made.randint(1, 4_000), made.randint(200, 900)]),
            state=made.choice(states),
            population=made.choice([0, made.randint(0, 60_000)]),
            property_count=made.choice([0, made.randint(0, 40_000)]),
            home_value=made.choice([None, made.randint(20_000, 2_000_000)]),
            updated_on=EPOCH.start.date() - timedelta(days=made.randint(0, 35)),
        )
        for i in range(size)
    ]


def check_draw(draw: Draw, rules: DrawRules) -> None:
    """What holds for every draw that is published."""
    target = rules.target_listings
    zips = draw.zipcodes
    assert draw.total == sum(z.expected_listings for z in zips)
    assert rules.least <= draw.total <= rules.most
    assert [z.zipcode for z in zips] == sorted({z.zipcode for z in zips})

    def holds(inside: list[AssignedZip], most: int) -> bool:
        """A quota in hundredths of a listing; one ZIP alone may be more, if the draw says so."""
        listings = sum(z.expected_listings for z in inside)
        return listings * 100 <= most or (len(inside) == 1 and LARGE_ZIP in draw.relaxed)

    if "states" not in draw.relaxed:
        for place_of, limit in (
            (lambda z: z.state, rules.max_state_share),
            (lambda z: region_of(z.state), rules.max_region_share),
        ):
            for place in {place_of(z) for z in zips}:
                assert holds([z for z in zips if place_of(z) == place], limit * target)
    if "tiers" not in draw.relaxed:
        for tier, share in zip(TIERS, rules.tier_shares, strict=True):
            inside = [z for z in zips if z.market_tier == tier]
            listings = sum(z.expected_listings for z in inside)
            assert (share - rules.tier_tolerance) * target <= listings * 100
            assert holds(inside, (share + rules.tier_tolerance) * target)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 400), st.integers(500, 20_000), st.integers(0, 20))
def test_a_draw_lands_within_the_tolerance_or_is_refused(
    number: int, size: int, target: int, tolerance: int
) -> None:
    rules = DrawRules(target_listings=target, tolerance_percent=tolerance)
    table = made_up_table(number, size)
    try:
        draw = draw_zipcodes(table, NO_HISTORY, rules, EPOCH, SEED)
    except DrawError:
        return
    check_draw(draw, rules)
    eligible = {r.zipcode: r for r in eligible_rows(table, NO_HISTORY, rules, EPOCH)}
    assert draw.eligible == len(eligible)
    tiers = market_tiers(list(eligible.values()))
    for z in draw.zipcodes:
        row = eligible[z.zipcode]
        assert (z.expected_listings, z.state) == (row.expected_listings, row.state)
        assert z.market_tier == tiers[z.zipcode]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 200), st.randoms(use_true_random=False))
def test_the_order_of_rows_never_matters(number: int, size: int, shuffle: random.Random) -> None:
    table = made_up_table(number, size)
    shuffled = list(table)
    shuffle.shuffle(shuffled)
    assert draw_order(table_eligible(table), NO_HISTORY, EPOCH, SEED) == draw_order(
        table_eligible(shuffled), NO_HISTORY, EPOCH, SEED
    )
    rules = DrawRules(target_listings=2_000)
    try:
        draw = draw_zipcodes(table, NO_HISTORY, rules, EPOCH, SEED)
    except DrawError:
        with pytest.raises(DrawError):
            draw_zipcodes(shuffled, NO_HISTORY, rules, EPOCH, SEED)
    else:
        assert draw_zipcodes(shuffled, NO_HISTORY, rules, EPOCH, SEED) == draw


def table_eligible(table: list[ZipRow]) -> list[ZipRow]:
    return eligible_rows(table, NO_HISTORY, DrawRules(), EPOCH)


def test_other_seeds_draw_other_zips() -> None:
    table = [zip_row(n, state=s) for n, s in enumerate(sorted(CENSUS_REGIONS) * 8, 10_000)]
    rules = DrawRules(target_listings=10_000)
    first = draw_zipcodes(table, NO_HISTORY, rules, EPOCH, SEED)
    assert draw_zipcodes(table, NO_HISTORY, rules, EPOCH, SEED) == first
    assert draw_zipcodes(table, NO_HISTORY, rules, EPOCH, "cd" * 32).zipcodes != first.zipcodes


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"expected_listings": None}, False),
        ({"expected_listings": 199}, False),
        ({"expected_listings": 200}, True),
        ({"expected_listings": 3_000}, True),
        ({"expected_listings": 3_001}, False),
        ({"updated_on": None}, False),
        ({"updated_on": date(2024, 2, 14)}, True),  # 15 March 2024 less 30 days
        ({"updated_on": date(2024, 2, 13)}, False),
        ({"state": "NY"}, False),
        ({"state": "NJ"}, True),
    ],
)
def test_which_zips_are_eligible(changes: dict[str, object], fits: bool) -> None:
    rules = DrawRules(eligible_states=frozenset({"PA", "NJ"}))
    row = zip_row(15_213, **changes)
    assert eligible_rows([row], NO_HISTORY, rules, EPOCH) == ([row] if fits else [])


def test_cooldown() -> None:
    row = zip_row(15_213)
    drawn = [(EPOCH.start - timedelta(hours=hours), ["15213"]) for hours in (24, 20, 48)]
    # Drawn 24 h before, it may be drawn again; the later draw, 20 h before, holds it back.
    assert eligible_rows([row], DrawHistory.of(drawn[:1]), DrawRules(), EPOCH) == [row]
    assert eligible_rows([row], DrawHistory.of(drawn), DrawRules(), EPOCH) == []
    assert eligible_rows([row], DrawHistory.of(drawn[::-1]), DrawRules(), EPOCH) == []


def test_history_keeps_the_last_draw_of_each_zip_and_the_first_of_all() -> None:
    days = [datetime(2024, 3, day, tzinfo=UTC) for day in (1, 2, 3)]
    history = DrawHistory.of([(days[1], ["1", "2"]), (days[0], ["1"]), (days[2], ["2"])])
    assert history.first_draw == days[0]
    assert history.last_drawn == {"1": days[1], "2": days[2]}
    assert DrawHistory.of([]) == NO_HISTORY


def test_weight_of_a_zip() -> None:
    # 600 expected × ln(10,000 + 4,000) = 9.546813 × 1 (500–2000 are preferred) × coverage 1.
    row = zip_row(1, expected_listings=600)
    assert draw_weight(row, NO_HISTORY, EPOCH) == pytest.approx(5_728.0876, abs=1e-3)
    # 20 days since it was drawn: 1 + (20 / 10)² = 5 times that.
    drawn = DrawHistory.of([(EPOCH.start - timedelta(days=20), ["00001"])])
    assert draw_weight(row, drawn, EPOCH) == pytest.approx(5 * 5_728.0876, abs=1e-2)
    # Never drawn, and the first draw on record is 10 days old: 1 + 1² = 2 times.
    other = DrawHistory.of([(EPOCH.start - timedelta(days=10), ["00002"])])
    assert draw_weight(row, other, EPOCH) == pytest.approx(2 * 5_728.0876, abs=1e-2)
    # Outside 500–2000 half as much an expected listing.
    for expected, preference in ((499, 0.5), (500, 1), (2_000, 1), (2_001, 0.5)):
        weight = draw_weight(zip_row(1, expected_listings=expected), NO_HISTORY, EPOCH)
        assert weight == pytest.approx(expected * 9.546813 * preference, rel=1e-6)
    # A ZIP where the census knows nobody keeps a small weight: 600 × ln 3.
    nobody = zip_row(1, expected_listings=600, population=0, property_count=0)
    assert draw_weight(nobody, NO_HISTORY, EPOCH) == pytest.approx(600 * 1.0986123, rel=1e-6)


def exact_keys(rows: list[ZipRow], seed: str) -> dict[ZipCode, Decimal]:
    """ln(u) / weight written down anew, to 80 digits, without any history."""
    keys: dict[ZipCode, Decimal] = {}
    with localcontext() as context:
        context.prec = 80
        for row in rows:
            drawn = int(
                hmac.new(seed.encode(), row.zipcode.encode(), hashlib.sha256).hexdigest(), 16
            )
            u = Decimal(drawn + 1) / Decimal(2**256 + 1)
            expected = row.expected_listings or 0
            preference = Decimal(1) if 500 <= expected <= 2_000 else Decimal("0.5")
            people = Decimal(max(3, row.population + row.property_count))
            keys[row.zipcode] = u.ln() / (expected * people.ln() * preference)
    return keys


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 150))
def test_the_order_is_that_of_the_keys(number: int, size: int) -> None:
    rows = table_eligible(made_up_table(number, size))
    keys = exact_keys(rows, SEED)
    expected = sorted(rows, key=lambda r: (-keys[r.zipcode], r.zipcode))
    assert draw_order(rows, NO_HISTORY, EPOCH, SEED) == expected


def near_tie(larger: bool) -> tuple[ZipRow, ZipRow, str]:
    """Two rows and a seed whose keys are the same floating-point number but not the same number.

    The second row's people are chosen so that ln(people) puts its key beside the first one's;
    one person more or less then decides.
    """
    first, second = zip_row(1, expected_listings=600), zip_row(2, expected_listings=600)
    with localcontext() as context:
        context.prec = 80
        for number in range(10_000):
            seed = f"{number:064x}"
            keys = exact_keys([first, second], seed)
            # key2 = ln(u2) / (600 × ln p): for key2 = key1, ln p = ln(14,000) × key2 / key1.
            logarithm = Decimal(14_000).ln() * keys[second.zipcode] / keys[first.zipcode]
            if 39 < logarithm < 42:
                people = int(logarithm.exp()) + (1 if larger else 0)
                return first, zip_row(2, expected_listings=600, population=people - 4_000), seed
    raise AssertionError("no seed gives a near tie")


@pytest.mark.parametrize("larger", [True, False])
def test_near_ties_are_settled_exactly(larger: bool) -> None:
    first, second, seed = near_tie(larger)
    keys = exact_keys([first, second], seed)
    with localcontext(getcontext()) as context:
        context.prec = 80
        apart = abs(keys[first.zipcode] / keys[second.zipcode] - 1)
    assert 0 < apart < Decimal("1e-17")  # less than a floating-point number can show
    # A larger weight makes a higher key, so one more person puts the second before the first.
    expected = [second, first] if larger else [first, second]
    assert draw_order([first, second], NO_HISTORY, EPOCH, seed) == expected
    assert draw_order([second, first], NO_HISTORY, EPOCH, seed) == expected


@pytest.mark.parametrize(
    ("expected", "count", "taken"),
    [
        # Target 1,000 ± 10 %: 500 + 500 = 1,000.
        (500, 5, 2),
        # 300 × 3 = 900 is within; a fourth would make 1,200, over 1,100.
        (300, 5, 3),
        # 100 × 9 = 900 is within, the tenth is closer to the target, the eleventh is not.
        (100, 30, 10),
        # 180 × 5 = 900; a sixth would make 1,080, which is closer (80 off, not 100).
        (180, 30, 6),
        # 95 × 10 = 950; an eleventh would make 1,045, closer by 5.
        (95, 30, 11),
    ],
)
def test_where_the_walk_stops(expected: int, count: int, taken: int) -> None:
    rows = [zip_row(n, expected_listings=expected) for n in range(1, count + 1)]
    draw = draw_zipcodes(rows, NO_HISTORY, FREE, EPOCH, SEED)
    first = draw_order(rows, NO_HISTORY, EPOCH, SEED)[:taken]
    assert [z.zipcode for z in draw.zipcodes] == sorted(r.zipcode for r in first)
    assert draw.total == expected * taken
    assert draw.relaxed == ()


def test_tiers_are_shares_of_the_eligible_zips() -> None:
    # 10 valued ZIPs: the lowest 3 (30 %) are emerging, the highest 2 (20 %) premium.
    rows = [zip_row(n, home_value=100_000 * n) for n in range(1, 11)]
    rows.append(zip_row(11, home_value=None))
    tiers = market_tiers(rows[::-1])
    assert [tiers[r.zipcode] for r in rows] == (
        ["emerging"] * 3 + ["standard"] * 5 + ["premium"] * 2 + ["standard"]
    )


def test_equal_home_values_are_parted_by_zip() -> None:
    rows = [zip_row(n, home_value=100_000) for n in range(1, 11)]
    tiers = market_tiers(rows[::-1])
    assert [tiers[r.zipcode] for r in rows] == (
        ["emerging"] * 3 + ["standard"] * 5 + ["premium"] * 2
    )


def test_one_state_alone_is_drawn_with_its_quotas_relaxed_and_says_so() -> None:
    # All in PA: 25 % of 10,000 are 2,500 listings, so the walk under quotas ends there.
    rows = [zip_row(n) for n in range(1, 101)]
    draw = draw_zipcodes(rows, NO_HISTORY, DrawRules(), EPOCH, SEED)
    assert draw.relaxed == ("tiers", "regions", "states")
    check_draw(draw, DrawRules())


def test_a_table_without_tiers_gives_up_the_tiers_only() -> None:
    # Without home values all are standard; at most 50 + 10 % of the target may be.
    states = sorted(CENSUS_REGIONS)
    rows = [zip_row(n, home_value=None, state=states[n % len(states)]) for n in range(1, 401)]
    draw = draw_zipcodes(rows, NO_HISTORY, DrawRules(), EPOCH, SEED)
    assert draw.relaxed == ("tiers",)
    check_draw(draw, DrawRules())


def test_a_zip_larger_than_its_quota_is_drawn_alone_of_its_kind_and_the_draw_says_so() -> None:
    # 25 % of 10,000 are 2,500: Vermont's one ZIP of 2,800 is more, and Vermont's other ZIPs have
    # to wait for a draw without it.
    large = zip_row(1, expected_listings=2_800, state="VT", population=10**9)
    states = sorted(set(CENSUS_REGIONS) - {"VT"})
    rows = [zip_row(n, state=states[n % len(states)]) for n in range(2, 300)]
    rows += [zip_row(n, state="VT") for n in range(300, 306)]
    seen: set[bool] = set()
    for number in range(60):
        draw = draw_zipcodes([large, *rows], NO_HISTORY, DrawRules(), EPOCH, f"{number:064x}")
        check_draw(draw, DrawRules())
        drawn = large.zipcode in {z.zipcode for z in draw.zipcodes}
        assert draw.relaxed == ((LARGE_ZIP,) if drawn else ())
        if drawn:
            assert sum(z.state == "VT" for z in draw.zipcodes) == 1
        seen.add(drawn)
    assert seen == {True, False}


def test_room_is_kept_for_a_whole_zip_of_a_tier_that_misses_little() -> None:
    """With ZIPs of every size in each tier, no draw has to relax. Without that room some end with
    a tier just short of its least share, and no ZIP is small enough for what is left."""
    states = sorted(CENSUS_REGIONS)
    made = random.Random(1)
    table = DrawTable(
        zip_row(n, expected_listings=made.randint(200, 1_000), state=states[n % len(states)],
                home_value=made.randint(50_000, 900_000))
        for n in range(5_000)
    )  # fmt: skip
    for number in range(150):
        draw = draw_zipcodes(table, NO_HISTORY, DrawRules(), EPOCH, f"{number:064x}")
        check_draw(draw, DrawRules())
        assert draw.relaxed == ()


def test_a_shortfall_is_named() -> None:
    # 3 × 500 = 1,500 of at least 9,000: 7,500 short.
    rows = [zip_row(n) for n in range(1, 4)]
    with pytest.raises(DrawError, match=r"3 ZIPs are eligible.*7500\s+short"):
        draw_zipcodes(rows, NO_HISTORY, DrawRules(), EPOCH, SEED)


def test_a_gap_that_no_zip_fits_is_refused() -> None:
    # Target 1,000 ± 1 %: 990 to 1,010. Nothing that 400 and 300 add up to lies there but 1,000.
    rules = DrawRules(target_listings=1_000, tolerance_percent=1, min_zipcode_listings=1)
    with pytest.raises(DrawError):
        draw_zipcodes([zip_row(n, expected_listings=400) for n in range(9)], NO_HISTORY, rules,
                      EPOCH, SEED)  # fmt: skip


def test_the_census_bureaus_regions() -> None:
    assert [region_of(s) for s in ("PA", "OH", "TX", "WA")] == [
        "Northeast", "Midwest", "South", "West"]  # fmt: skip
    assert region_of("PR") == "PR"
    # 50 states and the District of Columbia: 9 + 12 + 17 + 13.
    counts = {r: list(CENSUS_REGIONS.values()).count(r) for r in set(CENSUS_REGIONS.values())}
    assert counts == {"Northeast": 9, "Midwest": 12, "South": 17, "West": 13}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"target_listings": 0}, "TARGET_LISTINGS"),
        ({"tolerance_percent": 100}, "TOLERANCE_PERCENT"),
        ({"tolerance_percent": -1}, "TOLERANCE_PERCENT"),
        ({"min_zipcode_listings": 0}, "MIN_ZIPCODE_LISTINGS"),
        ({"max_zipcode_listings": 199}, "MAX_ZIPCODE_LISTINGS"),
        ({"tier_shares": (30, 50, 21)}, "TIER_SHARES"),
        ({"tier_shares": (-10, 90, 20)}, "TIER_SHARES"),
    ],
)
def test_rules_that_cannot_be(changes: dict[str, object], names: str) -> None:
    with pytest.raises(DrawError, match=names):
        DrawRules(**changes)  # type: ignore[arg-type]


def test_the_whole_country() -> None:
    """The bundled table with made-up figures: twelve draws in a row, each from the ones before."""

    def figure(row: ZipRow) -> int:
        return 100 + int(hashlib.sha256(row.zipcode.encode()).hexdigest(), 16) % 3_500

    table = [
        zip_row(
            int(row.zipcode),
            expected_listings=figure(row),
            state=row.state,
            population=row.population,
            property_count=row.property_count,
            home_value=row.home_value,
            updated_on=EPOCH.start.date(),
        )
        for row in load_bundled_table().rows[::8]
    ]
    drawn: list[tuple[datetime, list[str]]] = []
    epoch, rules = EPOCH, DrawRules()
    for number in range(12):
        draw = draw_zipcodes(table, DrawHistory.of(drawn), rules, epoch, f"{number:064x}")
        check_draw(draw, rules)
        assert set(draw.relaxed) <= {LARGE_ZIP}
        zips = [str(z.zipcode) for z in draw.zipcodes]
        for start, before in drawn:
            if epoch.start - start < timedelta(hours=24):
                assert not set(before) & set(zips)
        drawn.append((epoch.start, zips))
        epoch = epoch.next()
