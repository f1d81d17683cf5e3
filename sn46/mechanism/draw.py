"""The draw: which ZIPs an epoch asks for (mechanism 2).

A seeded Efraimidis–Spirakis order over the eligible ZIPs, walked down under soft quotas until the
expected listings add up to the target. Everything follows from the arguments: the same table,
history, rules and seed give the same draw on every machine, whatever the order of the rows.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sn46.mechanism.assignment import AssignedZip
from sn46.mechanism.drawinputs import TIERS, DrawHistory, DrawRules, Tier, ZipRow
from sn46.mechanism.drawtable import DrawTable, Integers, LastDrawn
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.errors import DrawError
from sn46.mechanism.names import ZipCode

__all__ = [
    "ALGORITHM",
    "LARGE_ZIP",
    "TIERS",
    "Draw",
    "DrawHistory",
    "DrawRules",
    "DrawTable",
    "Taken",
    "Tier",
    "ZipRow",
    "draw_order",
    "draw_weight",
    "draw_zipcodes",
    "eligible_rows",
    "market_tiers",
    "walk_down",
]

ALGORITHM: Final = "efraimidis-spirakis/1"
LARGE_ZIP: Final = "large-zip"
"""In ``relaxed``: one ZIP alone is more than the quota of its tier, state or region."""


@dataclass(frozen=True)
class Draw:
    """A finished draw: its ZIPs sorted, their sum, how many were eligible, what was relaxed."""

    zipcodes: tuple[AssignedZip, ...]
    total: int
    eligible: int
    relaxed: tuple[str, ...]


@dataclass(frozen=True)
class Taken:
    """What a walk took: places of rows in the order of the walk, their sum in listings, and what
    was relaxed, in order. ``short`` is how many listings are missing from the tolerance, 0 where
    the walk arrived."""

    places: tuple[int, ...]
    total: int
    relaxed: tuple[str, ...]
    short: int


def eligible_rows(
    rows: Iterable[ZipRow], history: DrawHistory, rules: DrawRules, epoch: Epoch
) -> list[ZipRow]:
    """The rows that may be drawn for this epoch."""
    table = DrawTable(rows)
    chosen = table.eligible(LastDrawn.of(table, history), rules, epoch)
    return [table.rows[index] for index in chosen.tolist()]


def market_tiers(rows: Sequence[ZipRow]) -> dict[ZipCode, Tier]:
    """Tiers by home value within these rows: premium the top 20 %, emerging the bottom 30 %,
    standard the rest and those whose value is unknown. Equal values are ordered by ZIP."""
    table = DrawTable(rows)
    tiers = table.tiers(np.arange(len(table)))
    return {row.zipcode: TIERS[tier] for row, tier in zip(rows, tiers.tolist(), strict=True)}


def draw_weight(row: ZipRow, history: DrawHistory, epoch: Epoch) -> float:
    """expected × ln(population + property_count) × preference × coverage (mechanism 2).

    Where the census knows nobody and no unit, the logarithm is taken of 3, so that the ZIP keeps
    a small positive weight.
    """
    table = DrawTable([row])
    return float(table.weights(np.arange(1), LastDrawn.of(table, history), epoch)[0])


def draw_order(
    rows: Sequence[ZipRow], history: DrawHistory, epoch: Epoch, seed: str
) -> list[ZipRow]:
    """The rows in the order in which the draw looks at them: highest ln(u) / weight first, with
    u = (int(HMAC(seed, zipcode)) + 1) / (2^256 + 1)."""
    table = DrawTable(rows)
    every = np.arange(len(table))
    last = LastDrawn.of(table, history)
    order = table.order(every, last, epoch, table.digests(every, seed))
    return [rows[index] for index in order.tolist()]


def _within(taken: int, expected: int, most: int) -> bool:
    """Whether a quota of ``most`` hundredths of a listing has room for a ZIP beside what is taken.

    A ZIP that alone is more than the quota may be the only one of its kind: no quota is to keep
    an eligible ZIP out for ever (decision 31).
    """
    return (taken + expected) * 100 <= most or not taken


class _Walk:
    """One walk down the order: what is taken so far and which quotas still bind.

    Sums of tiers, states and regions are compared in hundredths of a listing, so that percents
    of the target are whole numbers.
    """

    def __init__(self, table: DrawTable, rules: DrawRules, tiers: Sequence[int]) -> None:
        self.expected = table.expected_numbers
        self.states = table.states
        self.regions = table.regions
        self.tiers = tiers
        self.taken: dict[int, None] = {}
        self.total = 0
        self.by_state: dict[str, int] = defaultdict(int)
        self.by_region: dict[str, int] = defaultdict(int)
        self.by_tier = [0] * len(TIERS)
        self.tier_quotas = True
        self.area_quotas = True
        target = self.target = rules.target_listings
        around = rules.tier_tolerance
        self.tier_least = [max(0, share - around) * target for share in rules.tier_shares]
        self.tier_most = [(share + around) * target for share in rules.tier_shares]
        self.most, self.least = rules.most, rules.least
        self.smallest = rules.min_zipcode_listings * 100
        self.state_most = rules.max_state_share * target
        self.region_most = rules.max_region_share * target

    def _missing(self, tier: int) -> int:
        """Hundredths of listings that a tier still needs to reach its least share."""
        return max(0, self.tier_least[tier] - self.by_tier[tier] * 100)

    def _tier_allows(self, place: int) -> bool:
        """Whether the tier has room, and what tiers would still miss fits into the tolerance. A
        tier that misses little needs a whole ZIP all the same."""
        tier, expected = self.tiers[place], self.expected[place]
        if not _within(self.by_tier[tier], expected, self.tier_most[tier]):
            return False
        reserved = 0
        for other in range(len(TIERS)):
            missing = self._missing(other) - (expected * 100 if other == tier else 0)
            reserved += max(missing, self.smallest) if missing > 0 else 0
        return (self.total + expected) * 100 + reserved <= self.most * 100

    def _areas_allow(self, place: int) -> bool:
        expected = self.expected[place]
        state, region = self.by_state[self.states[place]], self.by_region[self.regions[place]]
        return _within(state, expected, self.state_most) and _within(
            region, expected, self.region_most
        )

    def relaxed(self) -> tuple[str, ...]:
        """What the draw gave up, in order. ``LARGE_ZIP`` stands last: one ZIP alone is more than
        the quota of its tier, state or region."""
        names = () if self.tier_quotas else ("tiers",)
        if not self.area_quotas:
            return (*names, "regions", "states")
        over = any(sum_ * 100 > self.state_most for sum_ in self.by_state.values())
        over = over or any(sum_ * 100 > self.region_most for sum_ in self.by_region.values())
        if self.tier_quotas:
            pairs = zip(self.by_tier, self.tier_most, strict=True)
            over = over or any(sum_ * 100 > most for sum_, most in pairs)
        return (*names, LARGE_ZIP) if over else names

    def admits(self, place: int) -> bool:
        if self.total + self.expected[place] > self.most or place in self.taken:
            return False
        if self.tier_quotas and not self._tier_allows(place):
            return False
        return not self.area_quotas or self._areas_allow(place)

    def satisfied(self) -> bool:
        """Within the tolerance, and every quota that binds from below is met."""
        if self.total < self.least:
            return False
        return not self.tier_quotas or not any(map(self._missing, range(len(TIERS))))

    def closer_with(self, place: int) -> bool:
        return abs(self.total + self.expected[place] - self.target) < abs(self.total - self.target)

    def needed(self, place: int) -> bool:
        """Whether the row is worth taking although the sum is already within the tolerance."""
        if self.total < self.least or self.closer_with(place):
            return True
        return self.tier_quotas and self._missing(self.tiers[place]) > 0

    def take(self, place: int) -> None:
        expected = self.expected[place]
        self.taken[place] = None
        self.total += expected
        self.by_state[self.states[place]] += expected
        self.by_region[self.regions[place]] += expected
        self.by_tier[self.tiers[place]] += expected

    def down(self, order: Sequence[int]) -> bool:
        """Walk the whole order, or to the point where the draw is complete."""
        for place in order:
            if not self.admits(place):
                continue
            if self.needed(place):
                self.take(place)
            elif self.satisfied():
                return True
        return self.satisfied()


def walk_down(table: DrawTable, order: Integers, tiers: Sequence[int], rules: DrawRules) -> Taken:
    """Walk down an order of rows, and again with quotas relaxed where that ends short.

    Args:
        table: the rows.
        order: places of eligible rows, first those to look at first.
        tiers: each row's tier as its place in ``TIERS``.
        rules: the owner's settings.
    """
    walk = _Walk(table, rules, tiers)
    places: list[int] = order.tolist()
    done = walk.down(places)
    if not done:
        walk.tier_quotas = False
        done = walk.down(places)
    if not done:
        walk.area_quotas = False
        done = walk.down(places)
    short = 0 if done else rules.least - walk.total
    return Taken(tuple(walk.taken), walk.total, walk.relaxed(), short)


def draw_zipcodes(
    rows: Sequence[ZipRow] | DrawTable,
    history: DrawHistory,
    rules: DrawRules,
    epoch: Epoch,
    seed: str,
) -> Draw:
    """Draw an epoch's ZIPs.

    Args:
        rows: the master table, in any order. Who draws from it often makes a ``DrawTable`` of it
            once.
        history: when ZIPs were drawn before this epoch.
        rules: the owner's settings.
        epoch: the epoch that the draw is for; it settles cooldown, data age and coverage.
        seed: ``selection_seed`` of this epoch, hex text.

    Raises:
        DrawError: where the eligible ZIPs cannot add up to the target within the tolerance.
    """
    if isinstance(rows, DrawTable):
        table = rows
    else:
        # For a single draw, columns are only worth making of rows that have a chance.
        low, high = rules.min_zipcode_listings, rules.max_zipcode_listings
        table = DrawTable([row for row in rows if low <= (row.expected_listings or 0) <= high])
    last = LastDrawn.of(table, history)
    chosen = table.eligible(last, rules, epoch)
    tiers: list[int] = table.tiers(chosen).tolist()
    order = table.order(chosen, last, epoch, table.digests(chosen, seed))
    taken = walk_down(table, order, tiers, rules)
    if taken.short:
        raise DrawError(
            f"No draw for {epoch.id}: {len(chosen)} ZIPs are eligible and the draw reached "
            f"{taken.total} of the {rules.least} listings that it needs, {taken.short} "
            "short. Lower TARGET_LISTINGS, MIN_ZIPCODE_LISTINGS or COOLDOWN_HOURS, or import "
            "fresh figures."
        )
    drawn = sorted(((table.rows[p], tiers[p]) for p in taken.places), key=lambda d: d[0].zipcode)
    zipcodes = tuple(
        AssignedZip(
            zipcode=row.zipcode,
            expected_listings=row.expected_listings or 0,
            state=row.state,
            city=row.city,
            county=row.county,
            market_tier=TIERS[tier],
            latitude=row.latitude,
            longitude=row.longitude,
        )
        for row, tier in drawn
    )
    return Draw(zipcodes, taken.total, len(chosen), taken.relaxed)
