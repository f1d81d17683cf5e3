"""Normalised addresses (mechanism 5), against the examples and tables of USPS Publication 28."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn46.mechanism.addresscolumn import normalize_column
from sn46.mechanism.addresses import normalize_address, normalize_addresses
from sn46.mechanism.usps import ABBREVIATIONS

WORDS = st.sampled_from(sorted(ABBREVIATIONS))
ADDRESSES = st.text(max_size=40) | st.lists(
    WORDS | st.text(max_size=6) | st.integers(1, 9_999).map(str), max_size=8
).map(" ".join)


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("101 Main Street", "101 MAIN ST"),
        ("101 MAIN STREET APT 12", "101 MAIN ST APT 12"),  # Pub 28, 213: secondary designators
        ("101 Main St., Apartment 12", "101 MAIN ST APT 12"),
        ("102 Main St Ste. 400", "102 MAIN ST STE 400"),
        ("55 Bay Drive North West", "55 BAY DR N W"),  # two words stay two directionals
        ("55 Bay Drive Northwest", "55 BAY DR NW"),
        ("North Main Avenue", "N MAIN AVE"),  # Pub 28, 233: directionals
        ("123 1/2 Elm Blvd", "123 1/2 ELM BLVD"),  # fractions keep their slash
        ("112-10 Bronx Road", "112-10 BRONX RD"),  # Queens keeps its hyphen
        ("3 Apple Tree Manors", "3 APPLE TREE MNRS"),
        ("1 Key Largo Way", "1 KY LARGO WAY"),
        ("  7   O'Hara\tLane \n", "7 O HARA LN"),
        ("12 Calle Peña", "12 CALLE PEÑA"),
        ("9 straße", "9 STRASSE"),
        ("#!?", ""),
        ("", ""),
    ],
)
def test_worked_addresses(written: str, normalised: str) -> None:
    assert normalize_address(written) == normalised


@given(ADDRESSES)
def test_normalising_twice_is_normalising_once(address: str) -> None:
    once = normalize_address(address)
    frame = pl.DataFrame({"address": [address]}, schema={"address": pl.String})
    assert frame.select(normalize_addresses(pl.col("address"))).item() == once
    assert normalize_address(once) == once


def by_expression(addresses: list[str | None]) -> list[str | None]:
    frame = pl.DataFrame({"address": addresses}, schema={"address": pl.String})
    return frame.select(normalize_addresses(pl.col("address"))).to_series().to_list()


PLAIN = st.text(st.characters(max_codepoint=127), max_size=40) | st.lists(
    WORDS | WORDS.map(str.lower) | st.sampled_from(["", "#4", "x" * 17, "STREETS1", "\n", "St."]),
    max_size=8,
).map(" ".join)


@settings(max_examples=300)
@given(st.lists(PLAIN, max_size=30) | st.lists(st.none() | PLAIN | ADDRESSES, max_size=30))
def test_a_column_is_what_its_addresses_are(addresses: list[str | None]) -> None:
    column = normalize_column(pl.Series("address", addresses, dtype=pl.String))
    assert column.name == "address"
    assert column.dtype == pl.String()
    assert column.to_list() == by_expression(addresses)


def test_every_word_of_the_tables_in_a_column() -> None:
    """Each alone, and each beside all others; and words of more than 8, 16 and 100 letters."""
    words = [*ABBREVIATIONS, *(word + "S" for word in ABBREVIATIONS), "A" * 16, "B" * 101]
    addresses: list[str | None] = [
        *words,
        *(f"{word} {other}" for word in words for other in words[::9]),
    ]
    column = normalize_column(pl.Series("address", addresses, dtype=pl.String))
    assert column.to_list() == by_expression(addresses)


def test_a_column_of_long_addresses() -> None:
    addresses: list[str | None] = ["N " * 5_000, "1 Main Street", "av " * 200]
    column = normalize_column(pl.Series("address", addresses, dtype=pl.String))
    assert column.to_list() == by_expression(addresses)


@given(ADDRESSES)
def test_cosmetic_variants_are_one_home(address: str) -> None:
    normalised = normalize_address(address)
    assert normalize_address(f"  {address},. ") == normalised
    assert normalize_address(address.replace(" ", "  ")) == normalised
    if address.isascii():
        assert normalize_address(address.lower()) == normalised


@given(WORDS)
def test_a_variant_and_its_standard_are_the_same(word: str) -> None:
    assert normalize_address(f"1 X {word}") == normalize_address(f"1 X {ABBREVIATIONS[word]}")


def test_a_standard_abbreviation_stands_for_itself() -> None:
    assert {w: ABBREVIATIONS[w] for w in ABBREVIATIONS.values()} == {
        w: w for w in ABBREVIATIONS.values()
    }


@pytest.mark.parametrize(
    ("variants", "standard"),
    [
        ("AV AVEN AVENU AVENUE AVN AVNUE", "AVE"),
        ("CEN CENT CENTER CENTR CENTRE CNTER CNTR", "CTR"),
        ("STRAV STRAVEN STRAVENUE STRAVN STRVN STRVNUE", "STRA"),
        ("PARKWAY PARKWY PKWAY PKY PARKWAYS PKWYS", "PKWY"),
        ("MEADOWS MEDOWS", "MDWS"),
        ("MANORS", "MNRS"),
        ("SUITE", "STE"),
        ("APARTMENT", "APT"),
        ("PENTHOUSE", "PH"),
        ("SOUTHEAST", "SE"),
    ],
)
def test_the_tables(variants: str, standard: str) -> None:
    assert {ABBREVIATIONS[word] for word in variants.split()} == {standard}


def test_a_column_is_normalised_as_its_parts_and_null_stays_null() -> None:
    frame = pl.DataFrame({"a": ["1 Main Street", None, ""]}, schema={"a": pl.String()})
    found = frame.select(normalize_addresses(pl.col("a")))["a"].to_list()
    assert found == ["1 MAIN ST", None, ""]
