"""The draw of mechanism 2 written down plainly, a ZIP at a time: what the fast one must equal.

Keys are taken in exact decimal arithmetic here, so that no floating-point number decides anything.
``exact=False`` takes the standard library's logarithms instead, as a first version would: that is
what speed is compared with.
"""

import hashlib
import hmac
import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal, localcontext

from sn46.mechanism.drawinputs import DrawHistory, DrawRules, ZipRow
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.regions import region_of

Found = tuple[list[str], int, int, tuple[str, ...]]


def naive_draw(
    rows: Sequence[ZipRow],
    history: DrawHistory,
    rules: DrawRules,
    epoch: Epoch,
    seed: str,
    *,
    exact: bool = True,
) -> Found | None:
    """(ZIPs sorted, sum, number eligible, relaxed), or None where no draw is possible."""
    eligible = [row for row in rows if fits(row, history, rules, epoch)]
    tiers = tiers_of(eligible)
    key = exact_key if exact else plain_key
    keys = {row.zipcode: key(row, history, epoch, seed) for row in eligible}
    order = sorted(eligible, key=lambda row: (-keys[row.zipcode], row.zipcode))
    held = Held(tiers, rules)
    for binding in ({"tiers", "areas"}, {"areas"}, set[str]()):
        if walk(order, held, binding):
            names = sorted(row.zipcode for row in held.rows)
            return names, held.total, len(eligible), relaxed(held, binding)
    return None


def fits(row: ZipRow, history: DrawHistory, rules: DrawRules, epoch: Epoch) -> bool:
    if row.expected_listings is None or row.updated_on is None:
        return False
    if row.updated_on < epoch.start.date() - timedelta(days=rules.max_data_age_days):
        return False
    if not rules.min_zipcode_listings <= row.expected_listings <= rules.max_zipcode_listings:
        return False
    if rules.eligible_states is not None and row.state not in rules.eligible_states:
        return False
    last = history.last_drawn.get(row.zipcode)
    return last is None or epoch.start - last >= timedelta(hours=rules.cooldown_hours)


def tiers_of(rows: Sequence[ZipRow]) -> dict[str, int]:
    tiers = {row.zipcode: 1 for row in rows}
    valued = sorted((row.home_value, row.zipcode) for row in rows if row.home_value is not None)
    for place, (_, zipcode) in enumerate(valued):
        if place < len(valued) * 30 // 100:
            tiers[zipcode] = 2
        elif place >= len(valued) - len(valued) * 20 // 100:
            tiers[zipcode] = 0
    return tiers


def seconds_waited(row: ZipRow, history: DrawHistory, epoch: Epoch) -> int:
    since = history.last_drawn.get(row.zipcode) or history.first_draw or epoch.start
    return max(0, int((epoch.start - since).total_seconds()))


def digest_of(row: ZipRow, seed: str) -> int:
    return int(hmac.new(seed.encode(), row.zipcode.encode(), hashlib.sha256).hexdigest(), 16)


def exact_key(row: ZipRow, history: DrawHistory, epoch: Epoch, seed: str) -> Decimal:
    with localcontext() as context:
        context.prec = 60
        expected = row.expected_listings or 0
        days = Decimal(seconds_waited(row, history, epoch)) / 864_000
        weight = (
            expected
            * Decimal(max(3, row.population + row.property_count)).ln()
            * (Decimal(1) if 500 <= expected <= 2_000 else Decimal("0.5"))
            * (1 + days**2)
        )
        return (Decimal(digest_of(row, seed) + 1) / (2**256 + 1)).ln() / weight


def plain_key(row: ZipRow, history: DrawHistory, epoch: Epoch, seed: str) -> float:
    expected = row.expected_listings or 0
    people = max(3, row.population + row.property_count)
    days = seconds_waited(row, history, epoch) / 86_400
    preference = 1.0 if 500 <= expected <= 2_000 else 0.5
    weight = expected * math.log(people) * preference * (1 + (days / 10) ** 2)
    return math.log((digest_of(row, seed) + 1) / (2**256 + 1)) / weight


class Held:
    """What was taken, and its sums."""

    def __init__(self, tiers: dict[str, int], rules: DrawRules) -> None:
        self.rows: list[ZipRow] = []
        self.tiers = tiers
        self.rules = rules
        self.total = 0
        self.by_tier: dict[int, int] = defaultdict(int)
        self.by_state: dict[str, int] = defaultdict(int)
        self.by_region: dict[str, int] = defaultdict(int)

    def take(self, row: ZipRow) -> None:
        expected = row.expected_listings or 0
        self.rows.append(row)
        self.total += expected
        self.by_tier[self.tiers[row.zipcode]] += expected
        self.by_state[row.state] += expected
        self.by_region[region_of(row.state)] += expected

    def missing(self, tier: int, extra: int = 0) -> int:
        """Hundredths that a tier lacks of its least share."""
        least = max(0, self.rules.tier_shares[tier] - self.rules.tier_tolerance)
        return max(0, least * self.rules.target_listings - (self.by_tier[tier] + extra) * 100)

    def tiers_admit(self, row: ZipRow) -> bool:
        expected, tier = row.expected_listings or 0, self.tiers[row.zipcode]
        most = self.rules.tier_shares[tier] + self.rules.tier_tolerance
        with_it = (self.by_tier[tier] + expected) * 100
        if self.by_tier[tier] and with_it > most * self.rules.target_listings:
            return False
        lacking = [self.missing(t, expected if t == tier else 0) for t in range(3)]
        kept = sum(max(m, self.rules.min_zipcode_listings * 100) for m in lacking if m)
        return (self.total + expected) * 100 + kept <= self.rules.most * 100

    def areas_admit(self, row: ZipRow) -> bool:
        expected, target = row.expected_listings or 0, self.rules.target_listings
        return all(
            not held or (held + expected) * 100 <= share * target
            for held, share in (
                (self.by_state[row.state], self.rules.max_state_share),
                (self.by_region[region_of(row.state)], self.rules.max_region_share),
            )
        )

    def admits(self, row: ZipRow, binding: set[str]) -> bool:
        return (
            row not in self.rows
            and self.total + (row.expected_listings or 0) <= self.rules.most
            and ("tiers" not in binding or self.tiers_admit(row))
            and ("areas" not in binding or self.areas_admit(row))
        )

    def wants(self, row: ZipRow, binding: set[str]) -> bool:
        target = self.rules.target_listings
        closer = abs(self.total + (row.expected_listings or 0) - target) < abs(self.total - target)
        lacks = "tiers" in binding and self.missing(self.tiers[row.zipcode]) > 0
        return self.total < self.rules.least or closer or lacks

    def complete(self, binding: set[str]) -> bool:
        lacks = "tiers" in binding and any(self.missing(tier) for tier in range(3))
        return self.total >= self.rules.least and not lacks


def walk(order: Sequence[ZipRow], held: Held, binding: set[str]) -> bool:
    """Take from the order until the draw is complete; True where it is."""
    for row in order:
        if held.admits(row, binding):
            if held.wants(row, binding):
                held.take(row)
            elif held.complete(binding):
                return True
    return held.complete(binding)


def relaxed(held: Held, binding: set[str]) -> tuple[str, ...]:
    rules, target = held.rules, held.rules.target_listings
    names = () if "tiers" in binding else ("tiers",)
    if "areas" not in binding:
        return (*names, "regions", "states")
    over = [sum_ * 100 > rules.max_state_share * target for sum_ in held.by_state.values()]
    over += [sum_ * 100 > rules.max_region_share * target for sum_ in held.by_region.values()]
    if "tiers" in binding:
        over += [
            held.by_tier[tier] * 100 > (share + rules.tier_tolerance) * target
            for tier, share in enumerate(rules.tier_shares)
        ]
    return (*names, "large-zip") if any(over) else names
