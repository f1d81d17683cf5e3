"""One check of one row: every tolerance at its edge (mechanism 7)."""

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn46.mechanism.listings import OPTIONAL
from sn46.mechanism.verdicts import Verdict, compare, shown_fields

from .builders import FULL_OPTIONAL

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


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        ("12 Main St #4", "12 Main St UNIT 4", Verdict.CONFIRMED),
        ("12 Main St Ste 4", "12 Main St, 4", Verdict.CONFIRMED),
        ("12 S.E. Main St", "12 Southeast Main Street", Verdict.CONFIRMED),
        ("12 Main St #4", "12 Main St", Verdict.INCONCLUSIVE),
        ("12 Main St", "12 Main St APT 1234A", Verdict.INCONCLUSIVE),
        ("12 Main St #4", "12 Main St #5", Verdict.MISIDENTIFIED),
        ("12 Main St", "14 Main St", Verdict.MISIDENTIFIED),
        ("12", "12 Main", Verdict.MISIDENTIFIED),
        ("12 Main", "12 Mainwaring Street", Verdict.MISIDENTIFIED),
    ],
)
def test_units_are_written_in_many_ways(mine: str, theirs: str, expected: Verdict) -> None:
    row = ROW | {"address": mine}
    assert compare(row, row | {"address": theirs})[0] == expected
    assert compare(row | {"address": theirs}, row)[0] == expected


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ("1 Ca\u00f1on Dr", "1 Can\u0303on Dr"),  # one sign, or a letter and its accent
        ("1 Ca\u00f1on Dr", "1 Canon Dr"),
        ("12 1/2 Main St", "12\u00bd Main St"),
        ("12 Main St", "\uff11\uff12 Main St"),  # digits as wide as Chinese signs
        ("1 O\u2019Brien Rd", "1 O'Brien Rd"),
    ],
)
def test_how_a_sign_is_written_is_no_other_address(mine: str, theirs: str) -> None:
    for one, other in ((mine, theirs), (theirs, mine)):
        row, record = ROW | {"address": one}, ROW | {"address": other}
        assert compare(row, record) == (Verdict.CONFIRMED, "")


@pytest.mark.parametrize("address", ["1 C\u0430non Dr", "11/2 Main St", "1 Ca\u00f1ada Dr"])
def test_another_sign_is_another_address(address: str) -> None:
    """The first is one in Cyrillic that looks the same."""
    row = ROW | {"address": "1 Canon Dr"}
    assert compare(row, row | {"address": address})[0] == Verdict.MISIDENTIFIED


@pytest.mark.parametrize("nothing", [{"address": " "}, {"address": "-"}, {"zipcode": ""}], ids=str)
def test_a_blank_is_nothing_to_compare(nothing: dict[str, str]) -> None:
    assert verdict(**nothing) == Verdict.INCONCLUSIVE


def test_four_digits_more_are_the_same_zip() -> None:
    assert verdict(zipcode="08701-1234") == Verdict.CONFIRMED
    for other in ("08702-1234", "08701-12345", "087011234", "8701"):
        assert verdict(zipcode=other) == Verdict.MISIDENTIFIED


@pytest.mark.parametrize("lacking", ["address", "zipcode"])
def test_without_a_place_there_is_nothing_to_hold_against_the_miner(lacking: str) -> None:
    assert verdict(**{lacking: None}, sale_price=1) == Verdict.INCONCLUSIVE


# ------------------------------------------------------------------ optional fields

FULL: dict[str, Any] = {**ROW, **FULL_OPTIONAL}


def test_what_the_source_shows_in_agreement_is_counted() -> None:
    assert shown_fields(FULL, dict(FULL)) == 16
    assert shown_fields(FULL, None) == 0
    bare = {name: value for name, value in FULL.items() if name not in OPTIONAL}
    assert shown_fields(FULL, bare) == shown_fields(bare, FULL) == 0
    for name in OPTIONAL:
        assert shown_fields(FULL, FULL | {name: None}) == 15
        assert shown_fields(FULL | {name: None}, FULL) == 15


@pytest.mark.parametrize(
    ("field", "mine", "theirs", "shown"),
    [
        ("lot_sqft", 5_250, 5_000, True),
        ("lot_sqft", 5_251, 5_000, False),
        ("latitude", 40.4449, 40.4400, True),
        ("longitude", -79.9551, -79.9500, False),
        ("list_price", 303_000, 300_000, True),
        ("list_price", 303_001, 300_000, False),
        ("days_on_market", 17, 10, True),
        ("days_on_market", 18, 10, False),
        ("hoa_fee_monthly", 105, 100, True),
        ("hoa_fee_monthly", 106, 100, False),
        ("tax_assessed_value", 110_000, 100_000, True),
        ("tax_assessed_value", 110_001, 100_000, False),
        ("stories", 2.0, 1.5, True),
        ("stories", 2.5, 1.5, False),
        ("garage_spaces", 2, 2, True),
        ("garage_spaces", 2, 1, False),
        ("parcel_id", "001-234 / B", "001234b", True),
        ("parcel_id", "001-235", "001234", False),
        ("mls_id", " ", " ", False),  # a blank text is no value
        ("county", "Allegheny County", "allegheny", True),
        ("county", "County", "county", True),
        ("county", "Butler", "Allegheny", False),
        ("bathrooms", 2.5, 2.0, True),
        ("bathrooms", 2.5, 1.9, False),
        ("stories", float("nan"), 1.0, False),
    ],
)
def test_agreement_of_an_optional_field(field: str, mine: Any, theirs: Any, shown: bool) -> None:
    given = 15 if mine == " " or mine != mine else 13  # what is not given costs nothing
    expected = 16 if shown else given
    assert shown_fields(FULL | {field: mine}, FULL | {field: theirs}) == expected


def test_guessing_loses_more_than_it_gains() -> None:
    guessed = {"stories": 9.0, "garage_spaces": 9, "county": "Nowhere", "mls_id": "guessed"}
    source = FULL | {"mls_id": None}
    honest = {**FULL, **dict.fromkeys(guessed)}
    assert shown_fields(honest, source) == 12
    assert shown_fields(FULL | guessed, source) == 12 - 3 * 2  # one is not shown, three are wrong
    wrong = {name: 9_999 for name in OPTIONAL if isinstance(FULL[name], int)}
    assert shown_fields(FULL | wrong, FULL) == 0
