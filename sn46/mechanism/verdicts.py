"""One check of one row against its source: a verdict, never a guess (mechanism 7)."""

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import Any, Final

from sn46.mechanism.addresses import normalize_address

PRICE_PERCENT: Final = 1
AREA_PERCENT: Final = 1
DATE_DAYS: Final = 7
BATHROOMS_WITHIN: Final = 0.5


class Verdict(StrEnum):
    """What a validator's check found."""

    CONFIRMED = "CONFIRMED"
    CONTRADICTED = "CONTRADICTED"
    MISIDENTIFIED = "MISIDENTIFIED"
    NOT_FOUND = "NOT_FOUND"
    INCONCLUSIVE = "INCONCLUSIVE"


def compare(row: Mapping[str, Any], record: Mapping[str, Any] | None) -> tuple[Verdict, str]:
    """Hold a submitted row against the source's own record of its id.

    Args:
        row: the submitted row, as mechanism 5 has it.
        record: the source's record in the same columns; None where the source positively knows
            no such property.

    Returns:
        The verdict, and a sentence that says what differs (empty where nothing does).
    """
    if record is None:
        return Verdict.NOT_FOUND, "The source knows no property with this id."
    mistaken = _identity_fault(row, record)
    if mistaken is not None:
        return mistaken
    if record.get("sale_date") is None and record.get("sale_price") is None:
        return Verdict.CONTRADICTED, "The source shows this home, and no sale of it."
    differences = [text for text in (_differs(f, row, record) for f in _FIELDS) if text]
    if differences:
        return Verdict.CONTRADICTED, "; ".join(differences) + "."
    return Verdict.CONFIRMED, ""


def _identity_fault(
    row: Mapping[str, Any], record: Mapping[str, Any]
) -> tuple[Verdict, str] | None:
    if record.get("listing_id") != row["listing_id"]:
        return (
            Verdict.MISIDENTIFIED,
            f"The source's record is of {record.get('listing_id')}, not of {row['listing_id']}.",
        )
    address, zipcode = record.get("address"), record.get("zipcode")
    if address is None or zipcode is None:
        return Verdict.INCONCLUSIVE, "The source shows no address or ZIP to compare."
    if zipcode != row["zipcode"]:
        return (
            Verdict.MISIDENTIFIED,
            f"The source shows ZIP {zipcode} under this id, the row {row['zipcode']}.",
        )
    if normalize_address(str(address)) != normalize_address(str(row["address"])):
        return (
            Verdict.MISIDENTIFIED,
            f"The source shows '{address}' under this id, the row '{row['address']}'.",
        )
    return None


def _equal(mine: Any, theirs: Any) -> bool:
    return bool(mine == theirs)


def _within_percent(percent: int, mine: Any, theirs: Any) -> bool:
    return bool(abs(mine - theirs) * 100 <= abs(theirs) * percent)


def _same_price(mine: Any, theirs: Any) -> bool:
    return _within_percent(PRICE_PERCENT, mine, theirs)


def _same_area(mine: Any, theirs: Any) -> bool:
    return _within_percent(AREA_PERCENT, mine, theirs)


def _same_date(mine: date, theirs: date) -> bool:
    return abs((mine - theirs).days) <= DATE_DAYS


def _same_bathrooms(mine: float, theirs: float) -> bool:
    return abs(mine - theirs) <= BATHROOMS_WITHIN


_FIELDS: Final = {
    "property_type": _equal,
    "sale_price": _same_price,
    "sale_date": _same_date,
    "bedrooms": _equal,
    "bathrooms": _same_bathrooms,
    "living_area_sqft": _same_area,
    "year_built": _equal,
}


def _differs(field: str, row: Mapping[str, Any], record: Mapping[str, Any]) -> str | None:
    mine, theirs = row.get(field), record.get(field)
    if mine is None or theirs is None or _FIELDS[field](mine, theirs):
        return None
    return f"{field}: the row says {mine}, the source {theirs}"
