"""One check of one row: every tolerance at its edge (mechanism 7)."""

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn46.mechanism.verdicts import Verdict, compare

ROW: dict[str, Any] = {
    "listing_id": "portal:1",
    "address": "12 North Main Street Apt 4",
    "zipcode": "08701",
    "property_type": "CONDO",
    "sale_price": 300_000,
    "sale_date": date(2024, 2, 1),
    "bedrooms": 3,
    "bathrooms": 2.5,
    "living_area_sqft": 1_500,
    "year_built": 1_950,
}
COMPARED = ("property_type", "sale_price", "sale_date", "bedrooms", "bathrooms",
            "living_area_sqft", "year_built")  # fmt: skip


def verdict(**source: Any) -> Verdict:
    return compare(ROW, ROW | source)[0]


def test_the_same_on_both_sides() -> None:
    assert compare(ROW, dict(ROW)) == (Verdict.CONFIRMED, "")


def test_what_the_source_positively_does_not_know() -> None:
    assert compare(ROW, None)[0] == Verdict.NOT_FOUND


def test_a_home_without_a_sale_contradicts_an_invented_one() -> None:
    assert verdict(sale_price=None, sale_date=None) == Verdict.CONTRADICTED
    # Some states disclose no prices: a date alone is a sale.
    assert verdict(sale_price=None) == Verdict.CONFIRMED
    assert verdict(sale_price=None, sale_date=date(2020, 1, 1)) == Verdict.CONTRADICTED


@given(st.integers(1_000, 10**8), st.integers(-(10**7), 10**7))
def test_price_and_area_within_one_percent_of_the_sources(theirs: int, off: int) -> None:
    within = abs(off) * 100 <= theirs
    expected = Verdict.CONFIRMED if within else Verdict.CONTRADICTED
    for field in ("sale_price", "living_area_sqft"):
        assert compare(ROW | {field: theirs + off}, ROW | {field: theirs})[0] == expected


@pytest.mark.parametrize(
    ("field", "within", "beyond"),
    [
        # 1 % of the source's 303,030 are 3,030.3, and 300,000 is 3,030 off; of 303,031 3,031.
        ("sale_price", 303_030, 303_031),
        ("sale_price", 297_030, 297_029),  # 2,970 of 2,970.3; 2,971 of 2,970.29
        ("living_area_sqft", 1_515, 1_516),  # 15 of 15.15; 16 of 15.16
        ("sale_date", date(2024, 2, 8), date(2024, 2, 9)),
        ("sale_date", date(2024, 1, 25), date(2024, 1, 24)),
        ("bathrooms", 3.0, 3.25),
        ("bathrooms", 2.0, 1.75),
        ("bedrooms", 3, 4),
        ("year_built", 1_950, 1_951),
        ("property_type", "CONDO", "LAND"),
    ],
)
def test_tolerances(field: str, within: Any, beyond: Any) -> None:
    assert verdict(**{field: within}) == Verdict.CONFIRMED
    found, detail = compare(ROW, ROW | {field: beyond})
    assert found == Verdict.CONTRADICTED
    assert detail.startswith(f"{field}: the row says {ROW[field]}, the source {beyond}")


@given(st.integers(-30, 30))
def test_sale_dates_within_seven_days(days: int) -> None:
    expected = Verdict.CONFIRMED if abs(days) <= 7 else Verdict.CONTRADICTED
    assert verdict(sale_date=ROW["sale_date"] + timedelta(days=days)) == expected


@given(st.sets(st.sampled_from(COMPARED)), st.sets(st.sampled_from(COMPARED)))
def test_what_either_side_lacks_is_not_compared(mine: set[str], theirs: set[str]) -> None:
    wrong: dict[str, Any] = {
        "property_type": "LAND",
        "sale_price": 1,
        "sale_date": date(1999, 1, 1),
        "bedrooms": 9,
        "bathrooms": 9.0,
        "living_area_sqft": 9,
        "year_built": 9,
    }
    row = ROW | dict.fromkeys(mine)
    record = {k: v for k, v in (ROW | wrong).items() if k not in theirs}
    unsold = {"sale_price", "sale_date"} <= theirs
    nothing = mine | theirs == set(COMPARED)
    expected = Verdict.CONFIRMED if nothing and not unsold else Verdict.CONTRADICTED
    assert compare(row, record)[0] == expected


def test_all_differences_are_named() -> None:
    _, detail = compare(ROW, ROW | {"bedrooms": 4, "year_built": 1_951})
    assert detail == (
        "bedrooms: the row says 3, the source 4; year_built: the row says 1950, the source 1951."
    )


@pytest.mark.parametrize(
    "source",
    [
        {"listing_id": "portal:2"},
        {"listing_id": None},
        {"zipcode": "08702"},
        {"address": "12 South Main Street Apt 4"},
        {"address": "12 North Main Street Apt 5"},
    ],
)
def test_another_home_under_that_id(source: dict[str, Any]) -> None:
    assert verdict(**source) == Verdict.MISIDENTIFIED
    # Identity comes first, whatever else differs.
    assert verdict(**source, sale_price=1) == Verdict.MISIDENTIFIED


def test_spelling_is_no_difference() -> None:
    assert verdict(address="12 N. MAIN ST., apartment #4") == Verdict.CONFIRMED


@pytest.mark.parametrize("lacking", ["address", "zipcode"])
def test_without_a_place_there_is_nothing_to_hold_against_the_miner(lacking: str) -> None:
    assert verdict(**{lacking: None}, sale_price=1) == Verdict.INCONCLUSIVE
