"""How far validators agree (mechanism 10)."""

from typing import Any

import pytest

from sn46.mechanism.agreement import ALERT_BELOW, Agreement, agreement_of, differences
from sn46.mechanism.names import Hotkey


def agreement(*hashes: str, tops: str = "") -> Agreement:
    by_validator = {Hotkey(f"v{n:02d}"): h for n, h in enumerate(hashes)}
    return agreement_of(by_validator, {v: list(tops or "abc") for v in by_validator})


def test_without_reports_there_is_nothing_to_agree_on() -> None:
    assert agreement_of({}, {}) == Agreement(0, None, None, None, ())
    assert not agreement_of({}, {}).alert


def test_shares() -> None:
    found = agreement("x", "y", "x")
    # 2 × 10^6 // 3
    assert (found.hash_share, found.top_three_share) == (666_666, 1_000_000)
    assert found.consensus_hash == "x"
    assert found.dissenting == ("v01",)
    assert found.alert


@pytest.mark.parametrize(("same", "alert"), [(9, False), (8, True)])
def test_below_ninety_percent_is_an_alert(same: int, alert: bool) -> None:
    assert agreement(*["x"] * same, *["y"] * (10 - same)).alert is alert
    assert ALERT_BELOW == 900_000


def test_the_top_three_may_differ_where_hashes_are_the_same() -> None:
    hashes = {Hotkey("v1"): "x", Hotkey("v2"): "x"}
    found = agreement_of(hashes, {Hotkey("v1"): ["a", "b"], Hotkey("v2"): ["b", "a"]})
    assert (found.hash_share, found.top_three_share, found.alert) == (1_000_000, 500_000, True)


def test_a_tie_goes_to_the_smaller_hash() -> None:
    assert agreement("y", "x").consensus_hash == agreement("x", "y").consensus_hash == "x"


@pytest.mark.parametrize(
    ("one", "other", "lines"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["report.a: 1 ≠ 2"]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ["report.a.b[1]: 2 ≠ 3"]),
        ({"a": [1]}, {"a": [1, 2]}, ["report.a: a list of 1 ≠ a list of 2"]),
        ({"a": 1}, {}, ["report.a: 1 ≠ nothing"]),
        ({}, {"a": 1}, ["report.a: nothing ≠ 1"]),
        ({"a": None}, {}, ["report.a: None ≠ nothing"]),  # null is not missing
        ({"a": 1}, {"a": True}, ["report.a: 1 ≠ True"]),
        ({"a": 1}, {"a": 1.0}, ["report.a: 1 ≠ 1.0"]),
        ({"a": {}}, {"a": [[[]]]}, ["report.a: an object of 0 fields ≠ a list of 1"]),
    ],
)
def test_where_two_reports_differ(one: Any, other: Any, lines: list[str]) -> None:
    assert differences(one, other) == lines


def test_twenty_differences_are_enough() -> None:
    assert len(differences({str(n): 1 for n in range(50)}, {})) == 20
