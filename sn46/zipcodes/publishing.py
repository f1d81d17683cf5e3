"""A master table as anyone can read and check it: the text that its version is the hash of.

The document is the canonical JSON of all rows as lists, in ``TABLE_SCHEMA``'s order and sorted by
ZIP. Its SHA-256 is the table's version, so `sha256sum` alone tells whether it is the right one.
"""

import json
import re
from datetime import date
from typing import Any, Final, cast

from sn46.mechanism.canonical import canonical_json, sha256_hex
from sn46.mechanism.drawinputs import ZipRow
from sn46.zipcodes.table import TABLE_SCHEMA, MasterTable, ZipTableError, canonical_row

MAX_TABLE_BYTES: Final = 64 * 1024 * 1024
"""Over ten times what every US ZIP takes."""
_LARGEST: Final = 1_000_000_000
_LONGEST: Final = 200
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TEXTS: Final = ("zipcode", "state", "city", "county")
_COUNTS: Final = ("population", "property_count")
_OPTIONAL_COUNTS: Final = ("expected_listings", "home_value")
_DEGREES: Final = ("latitude", "longitude")


def table_document(table: MasterTable) -> bytes:
    """The document of a table; its SHA-256 is ``table.version``."""
    return canonical_json([canonical_row(row) for row in table.rows])


def read_table_document(document: bytes, version: str) -> MasterTable:
    """Read the document of a table.

    Raises:
        ZipTableError: where it is not the one of that version, or holds what no table holds.
    """
    found = sha256_hex(document)
    if found != version:
        raise ZipTableError(
            f"The published table hashes to {found[:12]}…, and {version[:12]}… was asked for."
        )
    try:
        rows = cast(list[Any], json.loads(document))
        table = MasterTable(tuple(_row(row) for row in rows))
    except (ValueError, TypeError, RecursionError) as error:
        raise ZipTableError(f"The published table cannot be read: {error}.") from error
    if table.version != version:
        raise ZipTableError("The published table is not written as a table of its content is.")
    return table


def _row(values: Any) -> ZipRow:
    if not isinstance(values, list):
        raise TypeError("a row is not a list")
    named = dict(zip(TABLE_SCHEMA, cast(list[Any], values), strict=True))
    for name in _TEXTS:
        if type(named[name]) is not str or len(named[name]) > _LONGEST:
            raise ValueError(f"{name} is not a short text")
    for name in (*_COUNTS, *_OPTIONAL_COUNTS):
        optional = name in _OPTIONAL_COUNTS and named[name] is None
        if not optional and (type(named[name]) is not int or abs(named[name]) > _LARGEST):
            raise ValueError(f"{name} is not a whole number up to {_LARGEST}")
    for name in _DEGREES:
        if type(named[name]) is not float:
            raise ValueError(f"{name} is not a number of degrees")
    if named["updated_on"] is not None:
        if not _DAY.fullmatch(str(named["updated_on"])):
            raise ValueError("updated_on is not a day")
        named["updated_on"] = date.fromisoformat(named["updated_on"])
    return ZipRow(**named)
