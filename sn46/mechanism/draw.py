"""The draw: which ZIPs an epoch asks for (mechanism 2).

A seeded Efraimidis–Spirakis order over the eligible ZIPs, walked down under soft quotas until the
expected listings add up to the target. Everything follows from the arguments: the same table,
history, rules and seed give the same draw on every machine, whatever the order of the rows.
"""

import hashlib
import hmac
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Context, Decimal
from types import MappingProxyType
from typing import Final, Literal, cast

from sn46.mechanism.assignment import AssignedZip
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.errors import DrawError
from sn46.mechanism.names import ZipCode
from sn46.mechanism.regions import region_of

ALGORITHM: Final = "efraimidis-spirakis/1"

Tier = Literal["premium", "standard", "emerging"]
TIERS: Final[tuple[Tier, ...]] = ("premium", "standard", "emerging")
_PREMIUM_PERCENT = 20
_EMERGING_PERCENT = 30
_PREFERRED_LISTINGS = range(500, 2001)
_COVERAGE_DAYS = 10
_TWO_256 = 1 << 256
_EXACT = Context(prec=60)
_NEAR = 1e-11


@dataclass(frozen=True)
class ZipRow:
    """One ZIP of the master table.

    ``expected_listings`` is how many sold listings a complete scrape should find (None where no
    figure is known), ``updated_on`` the day of that figure. ``population`` and ``property_count``
    (housing units) are 0 where the census has none; ``home_value`` is the median in USD.
    """

    zipcode: ZipCode
    expected_listings: int | None
    state: str
    city: str
    county: str
    latitude: float
    longitude: float
    population: int
    property_count: int
    home_value: int | None
    updated_on: date | None


@dataclass(frozen=True)
class DrawRules:
    """The owner's settings of the draw, with the defaults of mechanism 2.

    Shares and tolerances are whole percent of the target. ``eligible_states`` None means all.
    """

    target_listings: int = 10_000
    tolerance_percent: int = 10
    min_zipcode_listings: int = 200
    max_zipcode_listings: int = 3_000
    cooldown_hours: int = 24
    max_data_age_days: int = 30
    eligible_states: frozenset[str] | None = None
    max_state_share: int = 25
    max_region_share: int = 50
    tier_shares: tuple[int, int, int] = (30, 50, 20)
    tier_tolerance: int = 10

    def __post_init__(self) -> None:
        if self.target_listings < 1:
            raise DrawError("TARGET_LISTINGS must be at least 1.")
        if not 0 <= self.tolerance_percent < 100:
            raise DrawError("TOLERANCE_PERCENT must be from 0 to 99.")
        if not 1 <= self.min_zipcode_listings <= self.max_zipcode_listings:
            raise DrawError("MIN_ZIPCODE_LISTINGS must be from 1 to MAX_ZIPCODE_LISTINGS.")
        if sum(self.tier_shares) != 100 or min(self.tier_shares) < 0:
            raise DrawError("TIER_SHARES (premium/standard/emerging) must add up to 100.")

    @property
    def least(self) -> int:
        """The smallest sum within the tolerance, in listings."""
        return -(-self.target_listings * (100 - self.tolerance_percent) // 100)

    @property
    def most(self) -> int:
        """The largest sum within the tolerance, in listings."""
        return self.target_listings * (100 + self.tolerance_percent) // 100


@dataclass(frozen=True)
class DrawHistory:
    """When each ZIP was last drawn (its epoch's start), and when the first draw on record was."""

    last_drawn: Mapping[ZipCode, datetime] = field(default_factory=lambda: MappingProxyType({}))
    first_draw: datetime | None = None

    @classmethod
    def of(cls, draws: Iterable[tuple[datetime, Iterable[str]]]) -> "DrawHistory":
        """From (epoch start, ZIPs) in any order."""
        last: dict[ZipCode, datetime] = {}
        first: datetime | None = None
        for start, zipcodes in draws:
            first = start if first is None else min(first, start)
            for zipcode in zipcodes:
                known = last.get(cast(ZipCode, zipcode))
                if known is None or known < start:
                    last[cast(ZipCode, zipcode)] = start
        return cls(MappingProxyType(last), first)


@dataclass(frozen=True)
class Draw:
    """A finished draw: its ZIPs sorted, their sum, how many were eligible, what was relaxed."""

    zipcodes: tuple[AssignedZip, ...]
    total: int
    eligible: int
    relaxed: tuple[str, ...]


def eligible_rows(
    rows: Iterable[ZipRow], history: DrawHistory, rules: DrawRules, epoch: Epoch
) -> list[ZipRow]:
    """The rows that may be drawn for this epoch."""
    cooldown = timedelta(hours=rules.cooldown_hours)
    oldest = epoch.start.date() - timedelta(days=rules.max_data_age_days)

    def fits(row: ZipRow) -> bool:
        if row.expected_listings is None or row.updated_on is None or row.updated_on < oldest:
            return False
        if not rules.min_zipcode_listings <= row.expected_listings <= rules.max_zipcode_listings:
            return False
        if rules.eligible_states is not None and row.state not in rules.eligible_states:
            return False
        last = history.last_drawn.get(row.zipcode)
        return last is None or epoch.start - last >= cooldown

    return [row for row in rows if fits(row)]


def market_tiers(rows: Sequence[ZipRow]) -> dict[ZipCode, Tier]:
    """Tiers by home value within these rows: premium the top 20 %, emerging the bottom 30 %,
    standard the rest and those whose value is unknown. Equal values are ordered by ZIP."""
    tiers: dict[ZipCode, Tier] = {row.zipcode: "standard" for row in rows}
    valued = sorted((row.home_value, row.zipcode) for row in rows if row.home_value is not None)
    for _, zipcode in valued[: len(valued) * _EMERGING_PERCENT // 100]:
        tiers[zipcode] = "emerging"
    for _, zipcode in valued[len(valued) - len(valued) * _PREMIUM_PERCENT // 100 :]:
        tiers[zipcode] = "premium"
    return tiers


def _seconds_waited(row: ZipRow, history: DrawHistory, epoch: Epoch) -> int:
    """Seconds since the ZIP was last drawn; for one never drawn, since the first draw."""
    since = history.last_drawn.get(row.zipcode) or history.first_draw or epoch.start
    return max(0, int((epoch.start - since).total_seconds()))


def draw_weight(row: ZipRow, history: DrawHistory, epoch: Epoch) -> float:
    """expected × ln(population + property_count) × preference × coverage (mechanism 2).

    Where the census knows nobody and no unit, the logarithm is taken of 3, so that the ZIP keeps
    a small positive weight.
    """
    expected = row.expected_listings or 0
    people = max(3, row.population + row.property_count)
    preference = 1.0 if expected in _PREFERRED_LISTINGS else 0.5
    days = _seconds_waited(row, history, epoch) / 86_400
    return expected * math.log(people) * preference * (1 + (days / _COVERAGE_DAYS) ** 2)


def _exact_key(drawn: int, row: ZipRow, history: DrawHistory, epoch: Epoch) -> Decimal:
    """ln(u) / weight to 60 digits: correctly rounded, hence the same on every machine."""
    expected = Decimal(row.expected_listings or 0)
    people = Decimal(max(3, row.population + row.property_count)).ln(_EXACT)
    halves = 2 if (row.expected_listings or 0) in _PREFERRED_LISTINGS else 1
    seconds = Decimal(_seconds_waited(row, history, epoch))
    days = _EXACT.divide(seconds, Decimal(86_400 * _COVERAGE_DAYS))
    coverage = _EXACT.add(Decimal(1), _EXACT.multiply(days, days))
    weight = _EXACT.divide(
        _EXACT.multiply(_EXACT.multiply(_EXACT.multiply(expected, people), halves), coverage),
        Decimal(2),
    )
    u = _EXACT.divide(Decimal(drawn + 1), Decimal(_TWO_256 + 1))
    return _EXACT.divide(u.ln(_EXACT), weight)


def draw_order(
    rows: Sequence[ZipRow], history: DrawHistory, epoch: Epoch, seed: str
) -> list[ZipRow]:
    """The rows in the order in which the draw looks at them: highest ln(u)/weight first.

    u = (int(HMAC(seed, zipcode)) + 1) / (2^256 + 1), the seed taken as its hex text. Floating
    point settles all but near-ties; those are settled in exact decimal arithmetic, since the last
    bit of a logarithm differs between machines.
    """
    key_bytes = seed.encode()
    keyed: list[tuple[float, int, ZipRow]] = []
    for row in rows:
        digest = hmac.digest(key_bytes, row.zipcode.encode(), hashlib.sha256)
        drawn = int.from_bytes(digest, "big")
        # log1p keeps the digits where u is close to 1, which is where winners are.
        ln_u = math.log1p((drawn - _TWO_256) / (_TWO_256 + 1))
        if drawn < _TWO_256 >> 1:
            ln_u = math.log((drawn + 1) / (_TWO_256 + 1))
        keyed.append((ln_u / draw_weight(row, history, epoch), drawn, row))
    keyed.sort(key=lambda item: (-item[0], item[2].zipcode))
    return _settle_near_ties(keyed, history, epoch)


def _settle_near_ties(
    keyed: list[tuple[float, int, ZipRow]], history: DrawHistory, epoch: Epoch
) -> list[ZipRow]:
    ordered: list[ZipRow] = []
    start = 0
    for end in range(1, len(keyed) + 1):
        if end < len(keyed) and keyed[end - 1][0] - keyed[end][0] <= -_NEAR * keyed[end][0]:
            continue
        run = keyed[start:end]
        if len(run) > 1:
            run.sort(key=lambda i: (-_exact_key(i[1], i[2], history, epoch), i[2].zipcode))
        ordered.extend(row for _, _, row in run)
        start = end
    return ordered


class _Walk:
    """One walk down the order: what is taken so far and which quotas still bind."""

    def __init__(self, rules: DrawRules, tiers: Mapping[ZipCode, Tier]) -> None:
        self.rules = rules
        self.tiers = tiers
        self.taken: dict[ZipCode, ZipRow] = {}
        self.total = 0
        self.by_state: dict[str, int] = defaultdict(int)
        self.by_region: dict[str, int] = defaultdict(int)
        self.by_tier: dict[Tier, int] = dict.fromkeys(TIERS, 0)
        self.tier_quotas = True
        self.area_quotas = True

    def _tier_bounds(self, tier: Tier) -> tuple[int, int]:
        """Least and most hundredths of listings of a tier."""
        share = self.rules.tier_shares[TIERS.index(tier)]
        around = self.rules.tier_tolerance
        target = self.rules.target_listings
        return max(0, share - around) * target, (share + around) * target

    def _missing(self, tier: Tier) -> int:
        """Hundredths of listings that a tier still needs to reach its least share."""
        return max(0, self._tier_bounds(tier)[0] - self.by_tier[tier] * 100)

    def _tier_allows(self, row: ZipRow, expected: int) -> bool:
        tier = self.tiers[row.zipcode]
        if (self.by_tier[tier] + expected) * 100 > self._tier_bounds(tier)[1]:
            return False
        reserved = sum(self._missing(other) for other in TIERS if other != tier)
        return (self.total + expected) * 100 + reserved <= self.rules.most * 100

    def _areas_allow(self, row: ZipRow, expected: int) -> bool:
        rules = self.rules
        state = (self.by_state[row.state] + expected) * 100
        region = (self.by_region[region_of(row.state)] + expected) * 100
        return (
            state <= rules.max_state_share * rules.target_listings
            and region <= rules.max_region_share * rules.target_listings
        )

    def admits(self, row: ZipRow) -> bool:
        expected = row.expected_listings or 0
        if row.zipcode in self.taken or self.total + expected > self.rules.most:
            return False
        if self.tier_quotas and not self._tier_allows(row, expected):
            return False
        return not self.area_quotas or self._areas_allow(row, expected)

    def satisfied(self) -> bool:
        """Within the tolerance, and every quota that binds from below is met."""
        if self.total < self.rules.least:
            return False
        return not self.tier_quotas or not any(self._missing(tier) for tier in TIERS)

    def closer_with(self, row: ZipRow) -> bool:
        target = self.rules.target_listings
        with_row = abs(self.total + (row.expected_listings or 0) - target)
        return with_row < abs(self.total - target)

    def needed(self, row: ZipRow) -> bool:
        """Whether the row is worth taking although the sum is already within the tolerance."""
        if self.total < self.rules.least or self.closer_with(row):
            return True
        return self.tier_quotas and self._missing(self.tiers[row.zipcode]) > 0

    def take(self, row: ZipRow) -> None:
        expected = row.expected_listings or 0
        self.taken[row.zipcode] = row
        self.total += expected
        self.by_state[row.state] += expected
        self.by_region[region_of(row.state)] += expected
        self.by_tier[self.tiers[row.zipcode]] += expected

    def down(self, order: Sequence[ZipRow]) -> bool:
        """Walk the whole order, or to the point where the draw is complete."""
        for row in order:
            if not self.admits(row):
                continue
            if self.needed(row):
                self.take(row)
            elif self.satisfied():
                return True
        return self.satisfied()


def draw_zipcodes(
    rows: Sequence[ZipRow], history: DrawHistory, rules: DrawRules, epoch: Epoch, seed: str
) -> Draw:
    """Draw an epoch's ZIPs.

    Args:
        rows: the master table, in any order.
        history: when ZIPs were drawn before this epoch.
        rules: the owner's settings.
        epoch: the epoch that the draw is for; it settles cooldown, data age and coverage.
        seed: ``selection_seed`` of this epoch, hex text.

    Raises:
        DrawError: where the eligible ZIPs cannot add up to the target within the tolerance.
    """
    eligible = eligible_rows(rows, history, rules, epoch)
    walk = _Walk(rules, market_tiers(eligible))
    order = draw_order(eligible, history, epoch, seed)
    relaxed: list[str] = []
    done = walk.down(order)
    if not done:
        walk.tier_quotas = False
        relaxed.append("tiers")
        done = walk.down(order)
    if not done:
        walk.area_quotas = False
        relaxed += ["regions", "states"]
        done = walk.down(order)
    if not done:
        raise DrawError(
            f"No draw for {epoch.id}: {len(eligible)} ZIPs are eligible and the draw reached "
            f"{walk.total} of the {rules.least} listings that it needs, {rules.least - walk.total} "
            "short. Lower TARGET_LISTINGS, MIN_ZIPCODE_LISTINGS or COOLDOWN_HOURS, or import "
            "fresh figures."
        )
    chosen = sorted(walk.taken.values(), key=lambda row: row.zipcode)
    zipcodes = tuple(
        AssignedZip(
            zipcode=row.zipcode,
            expected_listings=row.expected_listings or 0,
            state=row.state,
            city=row.city,
            county=row.county,
            market_tier=walk.tiers[row.zipcode],
            latitude=row.latitude,
            longitude=row.longitude,
        )
        for row in chosen
    )
    return Draw(zipcodes, walk.total, len(eligible), tuple(relaxed))
