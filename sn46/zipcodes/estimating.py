"""Expected listings for ZIPs without a figure, from the ZIPs of their state that have one.

A state's turnover is Σ expected listings / Σ housing units over those of its ZIPs that have both.
The estimate of a ZIP is its housing units × that turnover, rounded half up. All of it is done in
whole numbers, so every machine gets the same. :func:`hold_out` measures how far off it is.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.draw import ZipRow
from sn46.zipcodes.table import MasterTable
from sn46.zipcodes.values import half_up

LEAST_OF_A_STATE: Final = 10
"""With fewer ZIPs that have figures, a state's turnover would be theirs alone; the country's is
taken instead."""


@dataclass(frozen=True)
class Turnover:
    """Listings per housing unit, as the fraction ``listings / units`` over ``zipcodes`` ZIPs."""

    listings: int
    units: int
    zipcodes: int

    def estimate(self, units: int) -> int:
        """The listings expected of so many housing units, rounded half up."""
        return half_up(units * self.listings, self.units)


@dataclass(frozen=True)
class Turnovers:
    """The turnover of the country (None where no ZIP has a figure) and of the states that have
    at least ``LEAST_OF_A_STATE`` ZIPs with figures."""

    country: Turnover | None
    states: Mapping[str, Turnover]

    def of(self, state: str) -> Turnover | None:
        return self.states.get(state, self.country)


def turnovers(rows: Iterable[ZipRow]) -> Turnovers:
    """Measured over the rows that have both expected listings and housing units."""
    by_state: dict[str, list[ZipRow]] = defaultdict(list)
    for row in rows:
        if row.expected_listings is not None and row.property_count > 0:
            by_state[row.state].append(row)
    everywhere = [row for known in by_state.values() for row in known]
    return Turnovers(
        country=_turnover(everywhere) if everywhere else None,
        states={
            state: _turnover(known)
            for state, known in by_state.items()
            if len(known) >= LEAST_OF_A_STATE
        },
    )


def with_estimates(table: MasterTable, as_of: date | None) -> MasterTable:
    """The table with an estimate wherever a ZIP has housing units and no figure.

    ZIPs with a figure keep it and its day. ZIPs that the census gives no housing unit stay without
    one, and so do all where no ZIP has a figure.

    Args:
        table: the figures that are known.
        as_of: the ``updated_on`` of every estimate. With None, estimates are there for planning
            and no draw takes them, since a ZIP without a day is not eligible.
    """
    return MasterTable(estimated_rows(table.rows, as_of), table.repaired)


def estimated_rows(rows: Sequence[ZipRow], as_of: date | None) -> tuple[ZipRow, ...]:
    """The rows as :func:`with_estimates` fills them."""
    known = turnovers(rows)
    return tuple(_filled(row, known, as_of) for row in rows)


@dataclass(frozen=True)
class HoldOut:
    """How far estimates were from figures that they could not see.

    ``zipcodes`` ZIPs were compared. ``total_error`` is Σ estimates / Σ figures − 1; the others are
    shares of |estimate − figure| / figure over the ZIPs whose figure is not 0.
    """

    zipcodes: int
    total_error: float
    median_error: float
    within_quarter: float
    within_half: float


def hold_out(rows: Iterable[ZipRow], parts: int = 10) -> HoldOut:
    """Measure the estimate on ZIPs that have figures: each in one of ``parts`` parts, by the hash
    of its ZIP, estimated from the other parts. Rows that hold estimates must not be among them.

    Raises:
        ValueError: where fewer than two ZIPs have figures above 0 and housing units.
    """
    known = [r for r in rows if r.expected_listings and r.property_count > 0]
    placed = [(int(sha256_hex(row.zipcode), 16) % parts, row) for row in known]
    pairs: list[tuple[int, int]] = []
    for part in range(parts):
        seen = turnovers(row for place, row in placed if place != part)
        for row in (row for place, row in placed if place == part):
            turnover = seen.of(row.state)
            if turnover is not None:
                pairs.append((turnover.estimate(row.property_count), row.expected_listings or 0))
    if len(pairs) < 2:
        raise ValueError("Too few ZIPs have figures to measure the estimate against.")
    errors = sorted(abs(estimate - figure) / figure for estimate, figure in pairs)
    return HoldOut(
        zipcodes=len(pairs),
        total_error=sum(e for e, _ in pairs) / sum(f for _, f in pairs) - 1,
        median_error=errors[len(errors) // 2],
        within_quarter=_share(errors, 0.25),
        within_half=_share(errors, 0.5),
    )


def _turnover(rows: Sequence[ZipRow]) -> Turnover:
    return Turnover(
        listings=sum(row.expected_listings or 0 for row in rows),
        units=sum(row.property_count for row in rows),
        zipcodes=len(rows),
    )


def _filled(row: ZipRow, known: Turnovers, as_of: date | None) -> ZipRow:
    turnover = known.of(row.state)
    if row.expected_listings is not None or row.property_count == 0 or turnover is None:
        return row
    return replace(row, expected_listings=turnover.estimate(row.property_count), updated_on=as_of)


def _share(errors: Sequence[float], limit: float) -> float:
    return sum(error <= limit for error in errors) / len(errors)
