"""A published table: its version is the hash of its bytes, and nothing else is read as one."""

import json
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from sn46.mechanism.canonical import canonical_json, sha256_hex
from sn46.mechanism.draw import ZipRow
from sn46.mechanism.names import ZipCode
from sn46.zipcodes import MasterTable, ZipTableError, load_bundled_table
from sn46.zipcodes.publishing import read_table_document, table_document

ROW = ZipRow(
    zipcode=ZipCode("08701"),
    expected_listings=1_007,
    state="NJ",
    city="Océan",
    county="",
    latitude=40.0,
    longitude=-74.25,
    population=90_000,
    property_count=37_180,
    home_value=None,
    updated_on=date(2024, 3, 1),
)
TABLE = MasterTable(
    (ROW, replace(ROW, zipcode=ZipCode("11211"), expected_listings=None, updated_on=None))
)


def test_the_version_is_the_hash_of_the_document() -> None:
    document = table_document(TABLE)
    assert sha256_hex(document) == TABLE.version
    assert read_table_document(document, TABLE.version) == TABLE


def test_the_whole_country_comes_through() -> None:
    table = load_bundled_table()
    document = table_document(table)
    assert sha256_hex(document) == table.version
    assert read_table_document(document, table.version) == table


def test_any_other_bytes_are_refused() -> None:
    document = table_document(TABLE)
    for other in (document[:-1], document.replace(b"1007", b"1008"), b"", b"[]"):
        with pytest.raises(ZipTableError, match="hashes to"):
            read_table_document(other, TABLE.version)


FIELDS = ("zipcode", "expected_listings", "state", "city", "county", "latitude", "longitude",
          "population", "property_count", "home_value", "updated_on")  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("zipcode", 8_701),
        ("zipcode", "8701"),
        ("expected_listings", "1007"),
        ("expected_listings", 1_007.0),
        ("expected_listings", True),
        ("expected_listings", 10**30),
        ("expected_listings", -1),
        ("population", None),
        ("state", None),
        ("city", "x" * 201),
        ("latitude", 40),
        ("latitude", 91.0),
        ("latitude", None),
        ("updated_on", "2024-02-30"),
        ("updated_on", "20240301"),
        ("updated_on", 5),
    ],
)
def test_what_no_table_holds_is_refused_though_its_hash_is_right(field: str, value: Any) -> None:
    rows = json.loads(table_document(TABLE))
    rows[0][FIELDS.index(field)] = value
    refuse(canonical_json(rows))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"5",
        b"{}",
        b"[5]",
        b"[[]]",
        b"[[1]]",
        b"\xff",
        b"[" * 100_000,
        json.dumps(json.loads(table_document(TABLE))).encode(),  # written with blanks
        canonical_json(json.loads(table_document(TABLE))[::-1]),  # not sorted
        canonical_json(json.loads(table_document(TABLE))[:1] * 2),  # one ZIP twice
        table_document(TABLE).replace(b"40.0", b"NaN"),
    ],
)
def test_what_is_no_table_is_refused_though_its_hash_is_right(document: bytes) -> None:
    refuse(document)


def refuse(document: bytes) -> None:
    with pytest.raises(ZipTableError):
        read_table_document(document, sha256_hex(document))
