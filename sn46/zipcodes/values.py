"""Single values of imported files: ZIPs, counts, dollars and days, as real files write them."""

import re
from calendar import monthrange
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple

from sn46.mechanism.names import ZipCode

MONTHS: Final = 36
"""The window that monthly figures are added up over: three years, LOOKBACK_DAYS' default."""

_MISSING: Final = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "n", "(x)", "**", "."})
_CENSUS_NO_VALUE: Final = re.compile(r"-[2-9]{9}(\.0+)?")
"""The American Community Survey writes -666666666 and the like where it has no estimate."""
_WHOLE: Final = re.compile(r"([0-9]{1,12})(?:\.0*)?|([0-9]{1,3}(?:,[0-9]{3})+)(?:\.0*)?")
_AMOUNT: Final = re.compile(r"\$?([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,12})(?:\.([0-9])[0-9]*)?[+-]?")
_ZIP: Final = re.compile(
    r"(?:zip code:\s*|zcta5?\s*|860\w{4}us)?([0-9]{3,5})(?:\.0+|-[0-9]{4})?", re.IGNORECASE
)
_DAY: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ].*)?")
_MONTH: Final = re.compile(r"([0-9]{4})-?([0-9]{2})(?:\.0+)?")
_US_DAY: Final = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})")


class ReadZip(NamedTuple):
    """A ZIP, and whether it had lost leading zeros."""

    zipcode: ZipCode
    repaired: bool


@lru_cache(1 << 17)
def read_zip(text: str) -> ReadZip | None:
    """The ZIP that a text names, or None.

    Known forms: ``08701``, ``8701`` and ``8701.0`` (a number that lost its zero), ``08701-1234``,
    Redfin's ``Zip Code: 08701``, the Census's ``ZCTA5 08701``, ``8600000US08701`` and
    ``860Z200US08701``. Fewer than three digits never were a ZIP: the lowest is 00501.
    """
    found = _ZIP.fullmatch(text.strip())
    if found is None:
        return None
    digits = found[1]
    return ReadZip(ZipCode(digits.zfill(5)), len(digits) < 5)


@lru_cache(1 << 16)
def is_missing(text: str) -> bool:
    """Whether a cell says that there is no figure."""
    bare = text.strip().lower()
    return bare in _MISSING or _CENSUS_NO_VALUE.fullmatch(bare) is not None


@lru_cache(1 << 16)
def read_count(text: str) -> int | None:
    """A whole number that is not negative (``12``, ``12.0``, ``1,234``), or None."""
    found = _WHOLE.fullmatch(text.strip())
    return None if found is None else int((found[1] or found[2]).replace(",", ""))


def read_dollars(text: str) -> int | None:
    """An amount in whole dollars, rounded half up, or None. The Census's ``2,000,000+`` and
    ``10,000-`` are read as their bounds."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        return None
    return int(found[1].replace(",", "")) + (found[2] is not None and found[2] >= "5")


@lru_cache(1 << 12)
def read_day(text: str) -> date | None:
    """A day written ``2026-10-31``, with or without a time, or ``10/31/2026``; or None."""
    bare = text.strip()
    if found := _DAY.fullmatch(bare):
        year, month, day = int(found[1]), int(found[2]), int(found[3])
    elif found := _US_DAY.fullmatch(bare):
        year, month, day = int(found[3]), int(found[1]), int(found[2])
    else:
        return None
    try:
        return date(year, month, day)
    except ValueError:
        return None


@lru_cache(1 << 12)
def read_month(text: str) -> date | None:
    """The last day of a month written ``2026-10``, ``202610`` or as one of its days; or None."""
    if (day := read_day(text)) is not None:
        return month_end(month_number(day))
    found = _MONTH.fullmatch(text.strip())
    if found is None or not 1 <= int(found[2]) <= 12 or int(found[1]) < 1900:
        return None
    return month_end(int(found[1]) * 12 + int(found[2]) - 1)


def month_number(day: date) -> int:
    """Months since the year 0, so that neighbours differ by one."""
    return day.year * 12 + day.month - 1


def month_end(number: int) -> date:
    """The last day of a month."""
    year, month = divmod(number, 12)
    return date(year, month + 1, monthrange(year, month + 1)[1])


def half_up(numerator: int, denominator: int) -> int:
    """A fraction of whole numbers, not negative, rounded half up."""
    return (2 * numerator + denominator) // (2 * denominator)
