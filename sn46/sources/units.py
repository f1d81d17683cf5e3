"""Values of the portals in the schema's units (mechanism 5): whole numbers, square feet, dates."""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final
from urllib.parse import urljoin, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from sn46.sources.base import SourceChanged

SQFT_PER: Final[Mapping[str, float]] = {
    "sqft": 1,
    "sq. ft.": 1,
    "square feet": 1,
    "acre": 43_560,
    "acres": 43_560,
    "sqm": 10.7639,
    "square meters": 10.7639,
}
"""Square feet in the units that portals use, in lower case."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _finite(value: int | float) -> int | float:
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False  # JSON has whole numbers of any length
    if not finite:
        raise ValueError("it is not a finite number")
    return value


Number = Annotated[int | float, AfterValidator(_finite)]
"""A JSON number; portals write 3 and 3.0 for the same thing."""


def _text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_text)]
"""A number or name of something, such as a parcel's: portals write it as text or as a number."""


class Known(BaseModel):
    """A part of an answer. Fields that are named must have their type; others are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


def whole(value: float | None) -> int | None:
    """To the nearest whole number, halves up.

    Raises:
        SourceChanged: for what is too large to be one.
    """
    try:
        return None if value is None else math.floor(value + 0.5)
    except (OverflowError, ValueError) as error:
        raise SourceChanged("A number is too large for what it tells.") from error


def positive(value: float | None) -> int | None:
    """As :func:`whole`; portals write 0 for an area, price or year that they do not know."""
    number = whole(value)
    return number if number and number > 0 else None


def square_feet(value: float | None, unit: str | None) -> int | None:
    """An area in square feet; None where there is none. No unit means square feet.

    Raises:
        SourceChanged: for an unknown unit, or an area that is too large.
    """
    if not value:
        return None
    per_unit = SQFT_PER.get((unit or "sqft").strip().lower())
    if per_unit is None:
        raise SourceChanged(f"An area is given in {unit!r}, an unknown unit.")
    return positive(value * per_unit)


def day_of(milliseconds: float | None) -> date | None:
    """The day of a moment in milliseconds since 1970. Portals mean a midnight of US local time or
    of UTC, which is the same day in UTC.

    Raises:
        SourceChanged: for a moment that no calendar has.
    """
    if milliseconds is None:
        return None
    try:
        return (_EPOCH + timedelta(milliseconds=milliseconds)).date()
    except OverflowError as error:
        raise SourceChanged(f"A date is given as {milliseconds}, which is none.") from error


def real(value: float | None) -> float | None:
    """The same as a float."""
    return None if value is None else float(value)


def joined(base_url: str, link: str) -> str:
    """The whole URL of a link as an answer of ``base_url`` writes it.

    Raises:
        SourceChanged: where it is none.
    """
    try:
        return urljoin(base_url, link)
    except ValueError as error:
        raise SourceChanged(f"A link is written {link[:80]!r}, which is none.") from error


def checked_url(base_url: str, what: str) -> str:
    """The scheme, host and port of a source, without a slash at the end.

    Raises:
        ValueError: where ``base_url`` is none.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{base_url!r} is not the URL of {what}: https://host is needed")
    return base_url.rstrip("/")
