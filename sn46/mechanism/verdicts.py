"""One check of one row against its source: a verdict, never a guess (mechanism 7)."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date
from enum import StrEnum
from typing import Any, Final

from sn46.mechanism.addresses import normalize_address
from sn46.mechanism.listings import OPTIONAL
from sn46.mechanism.usps import UNIT_WORDS

PRICE_PERCENT: Final = 1
AREA_PERCENT: Final = 1
DATE_DAYS: Final = 7
BATHROOMS_WITHIN: Final = 0.5
LOT_PERCENT: Final = 5
FEE_PERCENT: Final = 5
TAX_PERCENT: Final = 10
MARKET_DAYS: Final = 7
STORIES_WITHIN: Final = 0.5
WRONG_COSTS: Final = 2
"""Agreeing fields that a filled field costs which the source shows otherwise."""
DEGREES_WITHIN: Final = 0.005
"""About 500 m."""
_STREET_WORDS: Final = 2
"""A number and a street's name: no address is told from less."""
_UNIT_CHARACTERS: Final = 6
_ZIP_PLUS_FOUR: Final = re.compile(r"(?<=\A\d{5})-\d{4}\Z", re.ASCII)
_FRACTION: Final = re.compile("[\u00bc-\u00be\u2150-\u215e]")


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
    address, zipcode = str(record.get("address") or ""), str(record.get("zipcode") or "")
    if not any(c.isalnum() for c in address) or not zipcode.strip():
        return Verdict.INCONCLUSIVE, "The source shows no address or ZIP to compare."
    if _ZIP_PLUS_FOUR.sub("", zipcode) != row["zipcode"]:
        return (
            Verdict.MISIDENTIFIED,
            f"The source shows ZIP {zipcode} under this id, the row {row['zipcode']}.",
        )
    return _address_fault(str(row["address"]), address)


def _address_fault(mine: str, theirs: str) -> tuple[Verdict, str] | None:
    """Sources write units in several ways, ``#4``, ``APT 4`` and ``UNIT 4``, at times in one and
    the same answer, and may leave them out: what names a unit decides nothing, and a unit that
    one side alone has tells nothing. Neither do accents, and how a sign is put together."""
    words = [
        [word for word in normalize_address(_plain(text)).split() if word not in UNIT_WORDS]
        for text in (mine, theirs)
    ]
    # S.E. is two words, and SE is one.
    short, long = sorted(("".join(w) for w in words), key=len)
    if short == long:
        return None
    shown = f"The source shows '{theirs}' under this id, the row '{mine}'."
    has_street = min(len(w) for w in words) >= _STREET_WORDS
    if has_street and long.startswith(short) and len(long) - len(short) <= _UNIT_CHARACTERS:
        return Verdict.INCONCLUSIVE, f"{shown} One of them names a unit, the other none."
    return Verdict.MISIDENTIFIED, shown


def _plain(text: str) -> str:
    """Without accents, with ordinary digits and letters for those of other widths, and ``1/2`` for
    the one sign of it."""
    if text.isascii():
        return text
    apart = unicodedata.normalize("NFKD", _FRACTION.sub(r" \g<0>", text))
    return "".join(c for c in apart if not unicodedata.combining(c)).replace("\u2044", "/")


def shown_fields(row: Mapping[str, Any], record: Mapping[str, Any] | None) -> int:
    """How many of a row's filled optional fields the source's own record shows as well: those in
    agreement, less two for each that it shows otherwise, at least 0. So a guess at what a source
    shows loses by more than it gains; what it does not show is a claim that nobody can check."""
    if record is None:
        return 0
    compared = [
        same(row[name], record[name])
        for name, same in _OPTIONAL.items()
        if _is_given(row.get(name)) and _is_given(record.get(name))
    ]
    agreeing = sum(compared)
    return max(0, agreeing - WRONG_COSTS * (len(compared) - agreeing))


def _is_given(value: Any) -> bool:
    """Whether a field is filled; a blank text is not, as in completeness."""
    return (
        value is not None and value == value and not (isinstance(value, str) and not value.strip())
    )


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


_FIELDS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "property_type": _equal,
    "sale_price": _same_price,
    "sale_date": _same_date,
    "bedrooms": _equal,
    "bathrooms": _same_bathrooms,
    "living_area_sqft": _same_area,
    "year_built": _equal,
}


def _within(most: float) -> Callable[[Any, Any], bool]:
    return lambda mine, theirs: bool(abs(mine - theirs) <= most)


def _within_share(percent: int) -> Callable[[Any, Any], bool]:
    return lambda mine, theirs: _within_percent(percent, mine, theirs)


def _same_name(mine: str, theirs: str) -> bool:
    """Equal but for case, punctuation and a county's last word."""
    return _bare(mine) == _bare(theirs)


def _bare(text: str) -> str:
    letters = "".join(c for c in text.casefold() if c.isalnum())
    return letters.removesuffix("county") or letters


_OPTIONAL: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    **{name: same for name, same in _FIELDS.items() if name in OPTIONAL},
    "lot_sqft": _within_share(LOT_PERCENT),
    "latitude": _within(DEGREES_WITHIN),
    "longitude": _within(DEGREES_WITHIN),
    "list_price": _same_price,
    "days_on_market": _within(MARKET_DAYS),
    "hoa_fee_monthly": _within_share(FEE_PERCENT),
    "parcel_id": _same_name,
    "mls_id": _same_name,
    "stories": _within(STORIES_WITHIN),
    "garage_spaces": _equal,
    "tax_assessed_value": _within_share(TAX_PERCENT),
    "county": _same_name,
}


def _differs(field: str, row: Mapping[str, Any], record: Mapping[str, Any]) -> str | None:
    mine, theirs = row.get(field), record.get(field)
    if mine is None or theirs is None or _FIELDS[field](mine, theirs):
        return None
    return f"{field}: the row says {mine}, the source {theirs}"
