"""The master table, composed of the base table and of what each source says.

It follows from these alone, so the same figures give the same table, and version, on every machine.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final, NamedTuple

from sn46.mechanism.draw import ZipRow
from sn46.mechanism.names import ZipCode
from sn46.zipcodes.estimating import estimated_rows
from sn46.zipcodes.figures import Figure, Quantity, Source
from sn46.zipcodes.table import MasterTable
from sn46.zipcodes.values import half_up

PRECEDENCE: Final = (Source.OWNER, Source.REDFIN, Source.ZILLOW, Source.REALTOR)
"""Of two sources with expected listings for a ZIP, the one that stands first is taken …"""
OUTDATED_AFTER: Final = timedelta(days=90)
"""… unless its figure was updated so much earlier than the other's."""
ESTIMATE: Final = "estimate"
"""The origin of figures that no source gave."""
REFERENCE_DAYS: Final = 1_095
"""The 36 months that monthly figures are added up over, as LOOKBACK_DAYS counts them."""

_SHARE_SOLD: Final = (3, 4)
"""Of homes put on the market, how many are sold. In 2024 and 2025 Realtor.com counted 20 to 27
homes taken off the market unsold for 100 that were put on it (its report for November 2025)."""
_LEAST_SHARED: Final = 100


class StandingFigure(NamedTuple):
    """The newest figure that a source gives for a ZIP."""

    source: Source
    figure: Figure


@dataclass(frozen=True)
class Composing:
    """The owner's choices of how to compose.

    ``lookback_days`` is LOOKBACK_DAYS of the API, to which sales of three years are scaled.
    ``draw_estimates`` gives estimates a day, so that draws may take ZIPs that have nothing else.
    """

    lookback_days: int = REFERENCE_DAYS
    draw_estimates: bool = False


@dataclass(frozen=True)
class Composition:
    """A composed table, where each ZIP's expected listings come from (a source's name or
    ``ESTIMATE``; ZIPs without any are left out), and the share of new listings taken as sold."""

    table: MasterTable
    origins: Mapping[ZipCode, str]
    share_sold: tuple[int, int]


class _Candidate(NamedTuple):
    rank: int
    expected: int
    updated_on: date


def compose(
    base: MasterTable, standing: Iterable[StandingFigure], choices: Composing
) -> Composition:
    """Put the figures into the base table; estimate where there is none.

    Args:
        base: every ZIP, without expected listings.
        standing: at most one figure of a source for a ZIP and quantity, in any order.
        choices: the owner's.
    """
    found: dict[ZipCode, list[_Candidate]] = defaultdict(list)
    new_listings: dict[ZipCode, Figure] = {}
    fields: dict[ZipCode, dict[str, int]] = defaultdict(dict)
    for source, figure in standing:
        if figure.quantity is Quantity.NEW_LISTINGS:
            new_listings[figure.zipcode] = figure
        elif figure.quantity in (Quantity.EXPECTED, Quantity.SOLD):
            found[figure.zipcode].append(_candidate(source, figure, choices))
        elif source is Source.CENSUS:
            # Zillow's value of homes goes before the Census's, which is years older.
            fields[figure.zipcode].setdefault(figure.quantity, figure.value)
        else:
            fields[figure.zipcode][figure.quantity] = figure.value
    share = _share_sold(found, new_listings, choices)
    for zipcode, figure in new_listings.items():
        sold = half_up(figure.value * share[0] * choices.lookback_days, share[1] * REFERENCE_DAYS)
        rank = PRECEDENCE.index(Source.REALTOR)
        found[zipcode].append(_Candidate(rank, sold, figure.updated_on))
    chosen = {zipcode: _choose(candidates) for zipcode, candidates in found.items()}
    return _fill(base, chosen, fields, choices, share)


def _fill(
    base: MasterTable,
    chosen: Mapping[ZipCode, _Candidate],
    fields: Mapping[ZipCode, Mapping[str, int]],
    choices: Composing,
    share: tuple[int, int],
) -> Composition:
    origins: dict[ZipCode, str] = {}

    def filled(row: ZipRow) -> ZipRow:
        changes: dict[str, object] = dict(fields.get(row.zipcode, ()))
        candidate = chosen.get(row.zipcode)
        if candidate is not None:
            origins[row.zipcode] = PRECEDENCE[candidate.rank]
            changes |= {
                "expected_listings": candidate.expected,
                "updated_on": candidate.updated_on,
            }
        return replace(row, **changes) if changes else row  # pyright: ignore[reportArgumentType]

    known = [filled(row) for row in base.rows]
    days = sorted(candidate.updated_on for candidate in chosen.values())
    as_of = days[(len(days) - 1) // 2] if days and choices.draw_estimates else None
    table = MasterTable(estimated_rows(known, as_of))
    for row in table.rows:
        if row.expected_listings is not None:
            origins.setdefault(row.zipcode, ESTIMATE)
    return Composition(table, origins, share)


def _candidate(source: Source, figure: Figure, choices: Composing) -> _Candidate:
    expected = figure.value
    if figure.quantity is Quantity.SOLD:
        expected = half_up(figure.value * choices.lookback_days, REFERENCE_DAYS)
    return _Candidate(PRECEDENCE.index(source), expected, figure.updated_on)


def _choose(candidates: Iterable[_Candidate]) -> _Candidate:
    ranked = sorted(candidates)
    newest = max(candidate.updated_on for candidate in ranked)
    return next(c for c in ranked if newest - c.updated_on <= OUTDATED_AFTER)


def _share_sold(
    found: Mapping[ZipCode, list[_Candidate]],
    new_listings: Mapping[ZipCode, Figure],
    choices: Composing,
) -> tuple[int, int]:
    """Sold homes to new listings, measured over the ZIPs that both are known of; the usual share
    where they are too few."""
    shared = [
        (_choose(found[zipcode]).expected, figure.value)
        for zipcode, figure in new_listings.items()
        if zipcode in found
    ]
    sold = sum(expected for expected, _ in shared)
    new = sum(count for _, count in shared) * choices.lookback_days
    if len(shared) < _LEAST_SHARED or not sold or not new:
        return _SHARE_SOLD
    return sold * REFERENCE_DAYS, new
