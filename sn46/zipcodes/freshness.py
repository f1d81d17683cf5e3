"""How long the figures of a table last: which ZIPs draws may take, today and later."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from sn46.mechanism.draw import DrawHistory, DrawRules, ZipRow, eligible_rows
from sn46.mechanism.epochs import Epoch
from sn46.zipcodes.table import MasterTable


@dataclass(frozen=True)
class Eligible:
    """How many ZIPs draws may take on a day, and how many listings they hold together."""

    day: date
    zipcodes: int
    listings: int


@dataclass(frozen=True)
class Outlook:
    """What draws have to choose from, with nothing imported and no ZIP at rest.

    ``needed`` listings keep draws going: while a ZIP rests after a draw, those of the others are
    drawn. ``short`` is the first day with fewer: today, where there are too few now.
    """

    today: Eligible
    needed: int
    short: Eligible


def listings_needed(rules: DrawRules, epoch: Epoch) -> int:
    """The listings that draws of one cooldown take, and the next one after them."""
    cooldown = timedelta(hours=rules.cooldown_hours)
    resting = max(0, -(-cooldown // epoch.length) - 1)
    return (resting + 1) * rules.target_listings


def outlook(table: MasterTable, rules: DrawRules, epoch: Epoch) -> Outlook:
    """Which ZIPs may be drawn for an epoch, and on the days after it.

    Args:
        table: the master table.
        rules: the owner's settings of the draw.
        epoch: the one to begin with.
    """
    rows = eligible_rows(table.rows, DrawHistory(), rules, epoch)
    day = epoch.start.date()
    today, needed = _sum(day, rows), listings_needed(rules, epoch)
    short = today
    while short.listings >= needed:
        # The oldest figures are the next to go.
        oldest = min(row.updated_on for row in rows if row.updated_on is not None)
        rows = [row for row in rows if row.updated_on != oldest]
        short = _sum(oldest + timedelta(days=rules.max_data_age_days + 1), rows)
    return Outlook(today, needed, short)


def why_not(row: ZipRow, rules: DrawRules, epoch: Epoch) -> str | None:
    """Why a ZIP cannot be drawn for an epoch, in words; None where it can, cooldown aside."""
    expected, updated = row.expected_listings, row.updated_on
    if expected is None:
        return "it has no expected listings"
    if updated is None:
        return "its expected listings are an estimate, and estimates are not drawn"
    if expected < rules.min_zipcode_listings:
        return f"{expected} listings are under MIN_ZIPCODE_LISTINGS {rules.min_zipcode_listings}"
    if expected > rules.max_zipcode_listings:
        return f"{expected} listings are over MAX_ZIPCODE_LISTINGS {rules.max_zipcode_listings}"
    if rules.eligible_states is not None and row.state not in rules.eligible_states:
        return f"{row.state} is not among ELIGIBLE_STATES"
    age = (epoch.start.date() - updated).days
    if age > rules.max_data_age_days:
        return f"its figure is {age} days old, over MAX_DATA_AGE_DAYS {rules.max_data_age_days}"
    return None


def _sum(day: date, rows: Iterable[ZipRow]) -> Eligible:
    found = list(rows)
    return Eligible(day, len(found), sum(row.expected_listings or 0 for row in found))
