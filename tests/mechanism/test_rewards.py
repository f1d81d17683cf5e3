"""Winners and weights (mechanism 9): whole numbers that always add up."""

from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.names import PPM, Coldkey, Hotkey, Ppm
from sn46.mechanism.rewards import (
    Contender,
    Lot,
    choose_winners,
    shared_part,
    standing_order,
    weights_of,
)
from sn46.mechanism.rules import Rules

BURN = Hotkey("burn")
REDISTRIBUTE = Rules(unclaimed="redistribute")
SEED = "a seed"


def contender(name: str, final: int, coldkey: str | None = None) -> Contender:
    return Contender(Hotkey(name), Coldkey(coldkey or f"cold {name}"), Ppm(final))


def test_the_verified_stand_before_the_others() -> None:
    others = [contender(name, final) for name, final in (("a", 900), ("b", 800), ("c", 700))]
    unverified = [replace(c, verified=c.hotkey == "c") for c in others]
    assert [c.hotkey for c in standing_order(unverified, SEED)] == ["c", "a", "b"]
    assert choose_winners(unverified, Rules(), SEED) == ("c", "a", "b")


def weights(
    winners: str, line: dict[str, str], rules: Rules | None = None, lot: Lot | None = None
) -> dict[str, int]:
    by_hotkey = {Hotkey(h): Coldkey(c) for h, c in line.items()}
    won = [Hotkey(w) for w in winners]
    shares = shared_part(by_hotkey, {by_hotkey[w] for w in won}, lot or Lot())
    found = weights_of(won, shares, burn=BURN, rules=rules or Rules())
    return {str(h): int(w) for h, w in found.items()}


def test_the_top_three_and_the_shared_part() -> None:
    honest = {h: h.upper() for h in "abcdefg"}
    # 50,000 // 4 coldkeys = 12,500 each, which is all.
    assert weights("abc", honest) == {
        "a": 500_000, "b": 300_000, "c": 150_000,
        "d": 12_500, "e": 12_500, "f": 12_500, "g": 12_500,
    }  # fmt: skip


def test_the_shared_part_goes_by_coldkey_first() -> None:
    honest = {"a": "A", "b": "B", "c": "C", "d": "D", "e1": "E", "e2": "E", "e3": "E"}
    # 50,000 // 2 coldkeys = 25,000; E's 25,000 // 3 hotkeys = 8,333, and 1 is left to burn.
    assert weights("abc", honest) == {
        "a": 500_000, "b": 300_000, "c": 150_000, "d": 25_000,
        "e1": 8_333, "e2": 8_333, "e3": 8_333, "burn": 1,
    }  # fmt: skip


def test_a_coldkey_with_a_winner_has_no_part_in_what_is_shared() -> None:
    honest = {"a": "A", "a2": "A", "b": "B", "c": "C"}
    assert weights("abc", honest) == {"a": 500_000, "b": 300_000, "c": 150_000, "burn": 50_000}


def test_what_nobody_claims_is_burnt_or_redistributed() -> None:
    honest = {"a": "A", "b": "B"}
    assert weights("ab", honest) == {"a": 500_000, "b": 300_000, "burn": 200_000}
    # 500,000 × 10^6 // 800,000 = 625,000; 300,000 × 10^6 // 800,000 = 375,000
    assert weights("ab", honest, REDISTRIBUTE) == {"a": 625_000, "b": 375_000}
    assert weights("", {}) == weights("", {}, REDISTRIBUTE) == {"burn": PPM}


def test_what_floors_leave_goes_to_the_largest() -> None:
    honest = {"a": "A", "b": "B", "c": "C", "d": "D", "e": "E", "f": "F"}
    # 50,000 // 3 = 16,666; claimed are 999,998. 500,000 × 10^6 // 999,998 = 500,001,
    # 300,000 → 300,000, 150,000 → 150,000, 16,666 → 16,666: in all 999,999, so a has one more.
    assert weights("abc", honest, REDISTRIBUTE) == {
        "a": 500_002, "b": 300_000, "c": 150_000, "d": 16_666, "e": 16_666, "f": 16_666,
    }  # fmt: skip


def test_the_owner_may_win_too() -> None:
    assert weights_of([BURN], {}, burn=BURN, rules=Rules()) == {BURN: PPM}


def test_who_is_drawn_is_paid_for_those_that_are_not() -> None:
    line = {"a": "A", "b": "B", "c": "C", "d": "D"}
    # 50,000 // (1 + 9 coldkeys) = 5,000 each; 9 × 5,000 // 3 drawn = 15,000 for each.
    lot = Lot((Hotkey("x"), Hotkey("y")), 1, 9)
    assert weights("abc", line, lot=lot) == {
        "a": 500_000, "b": 300_000, "c": 150_000, "d": 5_000, "x": 15_000, "y": 15_000,
        "burn": 15_000,  # the third one drawn was disqualified
    }  # fmt: skip
    # Where nobody is drawn, what the unseen would have had is nobody's.
    assert weights("abc", line, lot=Lot((), 0, 9))["burn"] == 45_000


def test_a_drawn_ones_part_goes_to_the_other_drawn_where_nothing_of_it_was_confirmed() -> None:
    line = {"a": "A", "b": "B", "c": "C", "d": "D"}
    x, y = Hotkey("x"), Hotkey("y")
    # Of the third one drawn nothing was confirmed: 9 × 5,000 // 2 = 22,500.
    assert weights("abc", line, lot=Lot((x, y), 0, 9)) == {
        "a": 500_000, "b": 300_000, "c": 150_000, "d": 5_000, "x": 22_500, "y": 22_500,
    }  # fmt: skip
    # And another one was disqualified: 9 × 5,000 // (1 + 1), once for x and once for nobody.
    found = weights("abc", line, lot=Lot((x,), 1, 9))
    assert (found["x"], found["d"], found["burn"]) == (22_500, 5_000, 22_500)
    # Of none of the three: it is nobody's, and the line has no more of it.
    found = weights("abc", line, lot=Lot((), 0, 9))
    assert (found["d"], found["burn"]) == (5_000, 45_000)
    # 5,000 × 10^6 // 955,000 = 5,235: scaled like all others where nothing is burnt.
    assert weights("abc", line, REDISTRIBUTE, Lot((), 0, 9))["d"] == 5_235


@given(st.integers(0, 5), st.integers(1, 60), st.integers(1, 8), st.data())
def test_a_coldkeys_part_is_over_all_lots_what_it_would_be_if_all_were_seen(
    in_line: int, unseen: int, places: int, data: st.DataObject
) -> None:
    places = min(places, unseen)
    line = {Hotkey(f"l{n}"): Coldkey(f"L{n}") for n in range(in_line)}
    paid = tuple(Hotkey(f"u{n}") for n in range(data.draw(st.integers(0, places))))
    disqualified = data.draw(st.integers(0, places - len(paid)))
    unconfirmed = places - len(paid) - disqualified
    found = shared_part(line, set(), Lot(paid, disqualified, unseen))
    assert sum(found.values()) <= 50_000
    each = 50_000 // (in_line + unseen)
    assert all(found[h] == each for h in line)
    assert set(found) == {*line, *paid}
    # A chance of places / unseen, of each × unseen // places.
    if not unconfirmed:
        for hotkey in paid:
            assert each * unseen - places < found[hotkey] * places <= each * unseen
    # Nothing of what those are not paid of whom nothing was confirmed is lost while one is paid.
    if paid and not disqualified:
        assert each * unseen - len(paid) < sum(found[h] for h in paid) <= each * unseen
    # And it makes nobody poorer.
    plain = shared_part(line, set(), Lot(paid, disqualified + unconfirmed, unseen))
    assert all(found[h] >= plain[h] for h in plain)


@given(
    st.lists(st.tuples(st.integers(0, PPM), st.integers(0, 5)), max_size=40),
    st.integers(0, 12),
    st.sampled_from(["burn", "redistribute"]),
    st.integers(1, 3),
)
def test_weights_always_add_up(
    miners: list[tuple[int, int]],
    top: int,
    unclaimed: Literal["burn", "redistribute"],
    per_coldkey: int,
) -> None:
    rules = Rules(unclaimed=unclaimed, max_winners_per_coldkey=per_coldkey)
    everyone = [
        contender(f"m{n:02d}", final, f"cold {coldkey}")
        for n, (final, coldkey) in enumerate(miners)
    ]
    candidates = standing_order(everyone, SEED)[:top]
    winners = choose_winners(candidates, rules, SEED)
    coldkeys = {c.hotkey: c.coldkey for c in everyone}
    shares = shared_part(coldkeys, {coldkeys[w] for w in winners}, Lot())
    found = weights_of(winners, shares, burn=BURN, rules=rules)
    assert all(type(weight) is int and weight > 0 for weight in found.values())
    assert sum(found.values()) == PPM
    assert set(found) <= set(coldkeys) | {BURN}
    winning = [coldkeys[w] for w in winners]
    assert len(winners) <= 3
    assert all(winning.count(coldkey) <= per_coldkey for coldkey in winning)
    for hotkey, coldkey in coldkeys.items():
        if hotkey not in winners and coldkey in winning:
            assert hotkey not in found
    if unclaimed == "burn":
        by_coldkey: dict[Coldkey, int] = {}
        for hotkey, weight in found.items():
            if hotkey not in winners and hotkey != BURN:
                coldkey = coldkeys[hotkey]
                by_coldkey[coldkey] = by_coldkey.get(coldkey, 0) + weight
        assert all(total <= 50_000 // len(by_coldkey) for total in by_coldkey.values())


@given(st.integers(1, 30), st.integers(1, 30))
def test_more_hotkeys_never_earn_more(mine: int, others: int) -> None:
    rivals = {f"o{n}": f"O{n}" for n in range(others)}
    one = weights("", rivals | {"x0": "X"})
    many = weights("", rivals | {f"x{n}": "X" for n in range(mine)})
    assert sum(w for h, w in many.items() if h.startswith("x")) <= one["x0"]


def test_one_place_a_coldkey() -> None:
    contenders = [
        contender("a1", 900, "A"),
        contender("a2", 800, "A"),
        contender("b", 700),
        contender("a3", 600, "A"),
        contender("c", 500),
        contender("a4", 400, "A"),  # below the third place: nobody passed it over
    ]
    winners = choose_winners(contenders[::-1], Rules(), SEED)
    assert winners == ("a1", "b", "c")
    assert choose_winners(contenders, Rules(max_winners_per_coldkey=2), SEED) == ("a1", "a2", "b")


def test_ties_go_by_lot_of_the_coldkey_and_then_of_the_hotkey() -> None:
    tied = [contender(name, 5, coldkey) for name, coldkey in (("a", "X"), ("b", "Y"), ("c", "X"))]
    order = standing_order([*tied, contender("better", 6)], SEED)
    assert order[0].hotkey == "better"
    lots = {name: sha256_hex(f"{SEED}:tie:{name}") for name in "abcXY"}
    assert order[1:] == sorted(tied, key=lambda c: (lots[c.coldkey], lots[c.hotkey]))
    assert standing_order(tied[::-1], SEED) == order[1:]


def test_more_hotkeys_are_not_more_lots() -> None:
    """Of two that are always equal each is first about half of the time, five hotkeys or one."""
    tied = [contender("one", 5), *(contender(f"of five {n}", 5, "five") for n in range(5))]
    first = [choose_winners(tied, Rules(), f"seed {n}")[0] for n in range(400)]
    assert 160 < first.count(Hotkey("one")) < 240


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_contenders(count: int) -> None:
    contenders = [contender(f"m{n}", 10 - n) for n in range(count)]
    assert len(choose_winners(contenders, Rules(), SEED)) == count
