"""Who is checked, which rows, and by whom (mechanism 7)."""

from collections import Counter
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.names import Coldkey, EpochId, Hotkey, Ppm
from sn46.mechanism.quick import no_kept_rows
from sn46.mechanism.rules import Rules
from sn46.mechanism.sampling import (
    Market,
    Standing,
    assign_checks,
    checking_validators,
    choose,
    sample_rows,
    sample_size,
    validation_seed,
)

from .builders import EPOCH, chain_view, hotkey, listing, new_assignment, submission

SEED = validation_seed("0x" + "5a" * 32, EpochId("2024-03-15-16:00"))


def test_the_seed_is_the_blocks_and_the_epochs() -> None:
    # SHA-256 of 0x5a…5a:2024-03-15-16:00, computed with sha256sum.
    assert sha256_hex("0x" + "5a" * 32 + ":2024-03-15-16:00") == SEED
    assert validation_seed("0x" + "5b" * 32, EPOCH.id) != SEED
    assert validation_seed("0x" + "5a" * 32, EPOCH.next().id) != SEED


def standing(name: str, preliminary: int) -> Standing:
    return Standing(
        hotkey=Hotkey(name),
        coldkey=Coldkey(f"cold {name}"),
        time=EPOCH.start,
        speed=Ppm(0),
        completeness=Ppm(0),
        volume=Ppm(0),
        preliminary=Ppm(preliminary),
    )


def lot(name: str) -> str:
    return sha256_hex(f"{SEED}:{name}")


@given(st.integers(0, 30), st.integers(0, 8), st.integers(0, 8), st.randoms())
def test_three_groups_that_do_not_overlap(count: int, top: int, at_random: int, rng: Any) -> None:
    rules = Rules(deep_validation_top=top, random_deep_validations=at_random)
    standings = [standing(f"m{n:02d}", 1_000 * (n // 2)) for n in range(count)]
    rng.shuffle(standings)
    chosen = choose(standings, new_assignment(rules=rules), SEED)
    order = [
        s.hotkey for s in sorted(standings, key=lambda s: (-s.preliminary, lot(f"tie:{s.coldkey}")))
    ]
    assert chosen.candidates == tuple(order[:top])
    next_twelve = sorted(order[top : top + 12], key=lambda h: lot(f"reserve:cold {h}"))
    assert chosen.reserves == tuple(next_twelve[:3])
    rest = set(order) - {*chosen.candidates, *chosen.reserves}
    assert len(chosen.random) == min(at_random, len(rest))
    assert chosen.unseen == len(rest)
    assert set(chosen.random) <= rest
    left = rest - set(chosen.random)
    assert all(lot(f"cold {c}") < lot(f"cold {o}") for c in chosen.random for o in left)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(1, 4))
def test_the_lot_is_drawn_by_coldkey(coldkeys: list[int], at_random: int) -> None:
    """More hotkeys are no more lots, and a coldkey with a candidate has none."""
    rules = Rules(deep_validation_top=1, random_deep_validations=at_random)
    standings = [
        replace(standing(f"m{n:02d}", 1_000 - n), coldkey=Coldkey(f"c{c}"))
        for n, c in enumerate(coldkeys)
    ]
    chosen = choose(standings, new_assignment(rules=rules), SEED)
    of = {s.hotkey: s.coldkey for s in standings}
    seen = {of[h] for h in chosen.candidates + chosen.reserves}
    unseen = set(of.values()) - seen
    assert chosen.unseen == len(unseen)
    order = sorted(unseen, key=lot)
    assert [of[h] for h in chosen.random] == order[:at_random]
    for drawn in chosen.random:
        own = [h for h in of if of[h] == of[drawn]]
        assert drawn == min(own, key=lot)


def test_ties_go_by_lot_of_the_coldkey_and_then_of_the_hotkey() -> None:
    tied = [
        replace(standing(name, 5), coldkey=Coldkey(coldkey))
        for name, coldkey in (("a", "X"), ("b", "Y"), ("c", "X"))
    ]
    rules = Rules(max_winners_per_coldkey=2)
    chosen = choose([*tied, standing("d", 6)], new_assignment(rules=rules), SEED)
    order = sorted(tied, key=lambda s: (lot(f"tie:{s.coldkey}"), lot(f"tie:{s.hotkey}")))
    assert chosen.candidates == ("d", *(s.hotkey for s in order))


def test_equals_that_miss_the_line_are_drawn_as_often_as_the_others() -> None:
    """Of forty equals nine are in line; the other 31 and 31 with less are drawn alike."""
    standings = [standing(f"equal {n}", 9) for n in range(40)]
    standings += [standing(f"less {n}", 1) for n in range(31)]
    drawn = [
        name.startswith("equal")
        for n in range(300)
        for name in choose(standings, new_assignment(), f"seed {n}").random
    ]
    assert len(drawn) == 900
    # Half of them, within five standard deviations (√225 = 15).
    assert 375 < sum(drawn) < 525


@pytest.mark.parametrize(
    ("rows", "percentage", "size"),
    [
        (0, 5, 0),
        (1, 5, 1),
        (20, 5, 1),  # 20 × 5 % = 1
        (21, 5, 2),  # 1.05, rounded up
        (100, 0, 1),  # one at least
        (1_000, 5, 50),
        (1_001, 5, 50),  # 50.05, but at most 50
        (10, 100, 10),
        (99, 100, 50),
    ],
)
def test_sizes(rows: int, percentage: int, size: int) -> None:
    assert sample_size(rows, percentage) == size


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Kept rows."""
    defaults: dict[str, Any] = {
        "zipcode": "15213",
        "sale_price": None,
        "living_area_sqft": None,
        "filled": 0,
    }
    schema = no_kept_rows().schema
    return pl.DataFrame([defaults | row for row in rows], schema=schema, orient="row")


def home(number: int, **changes: Any) -> dict[str, Any]:
    return {"listing_id": f"p:{number}", "address_key": f"{number} FORBES AVE"} | changes


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=150), st.integers(0, 100))
def test_half_by_hash_and_half_by_suspicion(marked: list[tuple[int, int]], percentage: int) -> None:
    suspicion, as_full = [points for points, _ in marked], [count for _, count in marked]
    kept = frame([home(n) for n in range(len(suspicion))])
    sampled = sample_rows(
        kept=kept,
        marks=pl.DataFrame({"suspicion": suspicion, "as_full": as_full}, strict=False),
        percentage=percentage,
        seed=SEED,
    )
    size = sample_size(len(suspicion), percentage)
    indices = [index for index, _, _ in sampled]
    assert len(set(indices)) == len(indices) == size
    hashes = [sha256_hex(f"{SEED}:p:{n}") for n in range(len(suspicion))]
    assert all(s == (i, f"p:{i}", suspicion[i]) for s, i in zip(sampled, indices, strict=True))
    first = -(-size // 2)
    by_hash = sorted(range(len(suspicion)), key=lambda i: hashes[i])
    assert indices[:first] == by_hash[:first]
    usual = sorted(as_full)[(len(as_full) - 1) // 2] if as_full else 0
    unshared = [i for i in by_hash[first:] if 2 * as_full[i] < usual]
    unshared = sorted(unshared, key=lambda i: (as_full[i], hashes[i]))[: (size - first) // 2]
    second = first + len(unshared)
    assert indices[first:second] == unshared
    left = set(range(len(suspicion))) - set(indices[:second])
    by_suspicion = sorted(left, key=lambda i: (-suspicion[i], hashes[i]))
    assert indices[second:] == by_suspicion[: size - second]


def test_miners_with_the_same_rows_are_asked_the_same() -> None:
    rows = [home(n, sale_price=100_000 + n, living_area_sqft=1_000) for n in range(300)]
    kept = {Hotkey(name): frame(rows) for name in "ab"}
    marks = Market(kept, {h: Coldkey(h) for h in kept}).marks(list(kept.values()))
    samples = [
        sample_rows(kept=of_one, marks=its, percentage=5, seed=SEED)
        for of_one, its in zip(kept.values(), marks, strict=True)
    ]
    assert samples[0] == samples[1]
    assert len(samples[0]) == 15


def as_full(mine: list[dict[str, Any]], *others: tuple[str, list[dict[str, Any]]]) -> list[int]:
    kept = {Hotkey("mine"): frame(mine)}
    kept |= {Hotkey(f"m{n}"): frame(rows) for n, (_, rows) in enumerate(others)}
    coldkeys = {Hotkey("mine"): Coldkey("A")}
    coldkeys |= {Hotkey(f"m{n}"): Coldkey(c) for n, (c, _) in enumerate(others)}
    return Market(kept, coldkeys).marks([kept[Hotkey("mine")]])[0]["as_full"].to_list()


def test_how_many_coldkeys_have_as_many_fields_of_a_listing() -> None:
    mine = [home(n, filled=9) for n in range(5)]
    others = [
        # 0 as full, 1 fuller, 2 less; nobody has 4.
        ("B", [home(0, filled=9), home(1, filled=16), home(2, filled=8), home(3, filled=9)]),
        # A coldkey counts once, with the fullest that one of its hotkeys has.
        ("C", [home(3, filled=9), home(0, filled=0)]),
        ("C", [home(3, filled=12), home(2, filled=9)]),
        # Nor do more hotkeys of one's own vouch for it.
        ("A", [home(4, filled=16), home(0, filled=9)]),
    ]
    assert as_full(mine, *others) == [2, 2, 2, 3, 1]


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.dictionaries(st.integers(0, 8), st.integers(0, 16))),
        min_size=1,
        max_size=8,
    )
)
def test_coldkeys_with_as_many_fields_are_counted_as_one_by_one(
    miners: list[tuple[int, dict[int, int]]],
) -> None:
    kept = {
        Hotkey(f"m{place}"): frame([home(n, filled=count) for n, count in sorted(rows.items())])
        for place, (_, rows) in enumerate(miners)
    }
    coldkeys = {Hotkey(f"m{n}"): Coldkey(f"c{c}") for n, (c, _) in enumerate(miners)}
    found = Market(kept, coldkeys).marks(list(kept.values()))
    for (_, rows), marks in zip(miners, found, strict=True):
        expected = [
            len({c for c, theirs in miners if theirs.get(n, -1) >= count})
            for n, count in sorted(rows.items())
        ]
        assert marks["as_full"].to_list() == expected


def test_what_only_one_has_filled_is_looked_at() -> None:
    """A guess in one home of a hundred, among homes whose prices are odd enough to be suspicious:
    all of them are in the sample."""
    rows = [
        home(n, filled=10, sale_price=(3 if n % 9 == 0 else 1) * 100_000 + n, living_area_sqft=900)
        for n in range(1_000)
    ]
    guessed = [row | {"filled": 16} if n in (5, 50, 500) else row for n, row in enumerate(rows)]
    kept = {Hotkey(f"honest {n}"): frame(rows) for n in range(2)}
    kept |= {Hotkey("guesses"): frame(guessed)}
    [marks] = Market(kept, {h: Coldkey(h) for h in kept}).marks([kept[Hotkey("guesses")]])
    sampled = sample_rows(kept=kept[Hotkey("guesses")], marks=marks, percentage=5, seed=SEED)
    assert {5, 50, 500} <= {index for index, _, _ in sampled}


def suspicions(mine: list[dict[str, Any]], *others: list[dict[str, Any]]) -> list[int]:
    kept = {Hotkey(f"m{n}"): frame(rows) for n, rows in enumerate((mine, *others))}
    market = Market(kept, {h: Coldkey(f"cold {h}") for h in kept})
    return market.marks([kept[Hotkey("m0")]])[0]["suspicion"].to_list()


def test_a_row_that_nobody_else_reported() -> None:
    others = [
        home(1, address_key="elsewhere"),  # the same id
        home(9, address_key="2 FORBES AVE"),  # the same address and ZIP
        home(8, address_key="3 FORBES AVE", zipcode="15217"),  # the same address elsewhere
    ]
    assert suspicions([home(1), home(2), home(3), home(4)], others) == [0, 0, 1, 1]


def test_a_price_per_square_foot_that_is_far_off() -> None:
    # Prices per square foot of 95, 100, 100, 105 and 116: the median is 100, the distances are
    # 5, 0, 0, 5, 16, their median (MAD) 5; 16 > 3 × 5. At 115 it would be 15, not further.
    prices = [95, 100, 100, 105, 116]
    mine = [home(n, sale_price=p * (1_000 + n), living_area_sqft=1_000 + n)
            for n, p in enumerate(prices)]  # fmt: skip
    twin = [row | {"sale_price": None, "living_area_sqft": None} for row in mine]
    assert suspicions(mine, twin) == [0, 0, 0, 0, 1]
    mine[4] |= {"sale_price": 115 * 1_004}
    assert suspicions(mine, twin) == [0, 0, 0, 0, 0]


def test_rows_without_a_usable_area_have_no_price_per_square_foot() -> None:
    mine = [home(n, sale_price=100_000 + n, living_area_sqft=area)
            for n, area in enumerate([None, 0, -5])]  # fmt: skip
    assert suspicions(mine, mine) == [0, 0, 0]


@pytest.mark.parametrize(("highest", "off"), [(165, 0), (166, 1)])
def test_of_an_even_number_the_median_is_the_mean_of_the_middle_two(highest: int, off: int) -> None:
    # 100, 110, 130 and 165: median 120; distances 20, 10, 10, 45: MAD 15, and 45 is not further
    # than 3 × 15; at 166 it is.
    mine = [home(n, sale_price=p * (1_000 + n), living_area_sqft=1_000 + n)
            for n, p in enumerate([100, 110, 130, highest])]  # fmt: skip
    other = [home(n, sale_price=None, living_area_sqft=None) for n in range(4)]
    assert suspicions(mine, other) == [0, 0, 0, off]


def test_rows_with_the_same_price_and_area() -> None:
    same = {"sale_price": 300_000, "living_area_sqft": 1_500}
    mine = [
        home(1, **same),
        home(2, **same),
        home(3, sale_price=300_200, living_area_sqft=1_501),  # 200 a square foot as well
        home(4, sale_price=300_000),  # 4 and 5 have no area: that is no coincidence
        home(5, sale_price=300_000),
    ]
    assert suspicions(mine, mine) == [1, 1, 0, 0, 0]


def test_all_three_at_once() -> None:
    usual = [home(n, sale_price=200_000 + n, living_area_sqft=1_000) for n in range(9)]
    odd = {"sale_price": 900_000, "living_area_sqft": 1_000}
    mine = [*usual, home(20, **odd), home(21, **odd)]
    assert suspicions(mine, usual)[-2:] == [3, 3]


def test_what_others_reported() -> None:
    kept = {
        Hotkey("a"): frame([home(1), home(2)]),
        Hotkey("b"): frame([home(1, address_key="X")]),
        Hotkey("c"): frame([home(7, address_key="1 FORBES AVE"), home(8, zipcode="15217")]),
        Hotkey("d"): frame([home(9)]),
    }
    coldkeys = {Hotkey(h): Coldkey(c) for h, c in zip("abcd", ["A", "B", "C", "B"], strict=True)}
    market = Market(kept, coldkeys)
    assert market.vouchers("p:1", "1 FORBES AVE", "15213") == {"A", "B", "C"}
    assert market.vouchers("p:5", "1 FORBES AVE", "15217") == set()
    assert market.covering("15213") == {"A", "B", "C"}
    assert market.covering("15217") == {"C"}
    [reports] = market.with_reports([kept[Hotkey("a")]])
    # p:1 by a and b, its address by a and c; p:2 by a alone.
    assert reports.select("same_id", "same_address").rows() == [(2, 2), (1, 1)]


def test_a_market_of_nobody() -> None:
    market = Market({}, {})
    assert market.covering("15213") == set()
    assert market.marks([frame([])])[0].height == 0


def test_a_market_takes_the_rows_of_quick_validation() -> None:
    made = submission(5)
    kept = {made.hotkey: made.examine().kept}
    [marks] = Market(kept, {made.hotkey: Coldkey("c")}).marks([kept[made.hotkey]])
    assert marks["suspicion"].sum() == 5
    assert listing(1)["listing_id"] in kept[made.hotkey]["listing_id"]


VALIDATORS = tuple(Hotkey(f"v{n}") for n in range(6))


@given(
    st.sets(st.sampled_from(VALIDATORS), min_size=1),
    st.lists(st.text(max_size=6), unique=True, max_size=20),
    st.integers(1, 8),
    st.data(),
)
def test_removing_a_validator_changes_only_the_rows_it_had(
    validators: set[Hotkey], ids: list[str], replicas: int, data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(sorted(validators)))
    order = data.draw(st.permutations(sorted(validators)))
    for listing_id in ids:
        before = assign_checks(listing_id, order, replicas, SEED)
        assert len(set(before)) == len(before) == min(replicas, len(validators))
        after = assign_checks(listing_id, sorted(validators - {gone}), replicas, SEED)
        if gone in before:
            assert set(before) - {gone} <= set(after)
        else:
            assert after == before


def test_the_load_is_shared() -> None:
    loads: Counter[Hotkey] = Counter()
    for n in range(1_000):
        loads.update(assign_checks(f"p:{n}", VALIDATORS, 3, SEED))
    # 1,000 rows × 3 validators of 6: 500 each, within five standard deviations (√250 = 16).
    assert sum(loads.values()) == 3_000
    assert all(420 < load < 580 for load in loads.values())


def test_a_check_is_for_named_validators_that_hold_a_permit() -> None:
    a, b, c, d = (hotkey(n) for n in "abcd")
    view = chain_view({d: "cold"}, {a: 5, b: 0})
    assignment = new_assignment(validators=[b, c, d])  # a is not named, c and d have no permit
    assert checking_validators(assignment, view) == (b,)
    assert checking_validators(new_assignment(validators=[b, a]), view) == tuple(sorted((a, b)))
