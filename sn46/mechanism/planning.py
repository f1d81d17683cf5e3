"""What a goal such as 3,000,000 listings in 30 days needs, and what stands in its way.

Re-draws, cooldown and quotas are not estimated but drawn: each answer comes from a simulation of
the days in question (``streamed_chance``), with figures that are kept fresh and nothing drawn
before.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from sn46.mechanism.drawinputs import TIERS, DrawRules
from sn46.mechanism.drawtable import DrawTable, Integers, LastDrawn
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.regions import region_of
from sn46.mechanism.simulating import SimulatedDraw, simulated_draws, streamed_chance

LOWER_MINIMA: Final = (150, 125, 100, 80, 60, 50, 40, 30, 20, 10, 5, 1)
"""Values of MIN_ZIPCODE_LISTINGS that a plan tries."""
MOST_DAYS: Final = 365

_DAY = 86_400
_MINUTE = 60
_STEP = 100
_CLOSE_PERCENT = 2
_MOST_TRIES = 7
_ALTERNATIVES = 2
_LONG_COOLDOWN_HOURS = 20
"""Hours a day of the plan: five sixths of its time."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """Some of the table's ZIPs, and their expected listings."""

    zipcodes: int
    listings: int


@dataclass(frozen=True)
class Supply:
    """What of the table may be drawn, and what may not for which reason: the first that applies,
    in this order. ``unknown`` are ZIPs without a figure or whose figure is too old."""

    eligible: Part
    unknown: Part
    elsewhere: Part
    too_small: Part
    too_large: Part


@dataclass(frozen=True)
class Reach:
    """What draws at one target come to in some days.

    ``zipcodes`` and ``listings`` are different ones, ``drawn`` counts listings as often as they
    are drawn. ``misses`` are epochs for which no draw was possible.
    """

    target: int
    days: float
    zipcodes: int
    listings: int
    drawn: int
    misses: int
    epoch_seconds: int

    @property
    def per_minute(self) -> float:
        """Listings that a miner collects in a minute to have them all by the epoch's end."""
        return self.target * _MINUTE / self.epoch_seconds

    @property
    def drawn_again(self) -> float:
        """Percent of the drawn listings that had been drawn before in these days."""
        return 100 * (1 - self.listings / self.drawn) if self.drawn else 0.0


@dataclass(frozen=True)
class Way:
    """With this minimum and cooldown: what may be drawn, the smallest target that reaches the goal
    in the days asked for (None where none does), and what reaches it at the present target (None
    where that takes over ``MOST_DAYS``)."""

    min_zipcode_listings: int
    cooldown_hours: int
    supply: Part
    in_time: Reach | None
    at_present_target: Reach | None


@dataclass(frozen=True)
class Plan:
    """The answer: ``present`` is what the present settings reach in the days asked for; ``ways``
    begin with the present minimum and cooldown. ``most_target`` is the largest that the cooldown
    leaves enough for; ``notes`` are sentences on what is impossible or gets in the way."""

    goal: int
    days: int
    epoch_seconds: int
    supply: Supply
    present: Reach
    most_target: int
    ways: tuple[Way, ...]
    notes: tuple[str, ...]

    @property
    def without_redraws(self) -> int:
        """The target that would do if nothing were drawn twice and enough were eligible."""
        return -(-self.goal // epochs_in(self.days, self.epoch_seconds))

    @property
    def best(self) -> Way | None:
        """The way that reaches the goal in time with the smallest target."""
        possible = [(w.in_time.target, n) for n, w in enumerate(self.ways) if w.in_time]
        return self.ways[min(possible)[1]] if possible else None

    @property
    def soonest(self) -> Way | None:
        """The way that reaches the goal soonest at the present target."""
        possible = [
            (w.at_present_target.days, n) for n, w in enumerate(self.ways) if w.at_present_target
        ]
        return self.ways[min(possible)[1]] if possible else None


def epochs_in(days: int, epoch_seconds: int) -> int:
    return days * _DAY // epoch_seconds


def proxies_for(per_minute: float, per_proxy: float) -> int:
    """Proxies for a rate, where each brings ``per_proxy`` listings a minute."""
    return max(1, math.ceil(per_minute / per_proxy))


def supply(table: DrawTable, rules: DrawRules, epoch: Epoch) -> Supply:
    """What may be drawn for this epoch if nothing was drawn before."""
    expected = table.expected
    eligible = np.zeros(len(table), dtype=bool)
    eligible[table.eligible(LastDrawn.none(table), rules, epoch)] = True
    wide = replace(rules, min_zipcode_listings=1, max_zipcode_listings=max(1, *expected.tolist()))
    known = np.zeros(len(table), dtype=bool)
    everywhere = replace(wide, eligible_states=None)
    known[table.eligible(LastDrawn.none(table), everywhere, epoch)] = True
    here = np.zeros(len(table), dtype=bool)
    here[table.eligible(LastDrawn.none(table), wide, epoch)] = True

    def part(chosen: Integers) -> Part:
        return Part(len(chosen), int(expected[chosen].sum()))

    return Supply(
        eligible=part(np.flatnonzero(eligible)),
        unknown=part(np.flatnonzero(~known)),
        elsewhere=part(np.flatnonzero(known & ~here)),
        too_small=part(np.flatnonzero(here & (expected < rules.min_zipcode_listings))),
        too_large=part(np.flatnonzero(here & (expected > rules.max_zipcode_listings))),
    )


def reach(
    table: DrawTable,
    rules: DrawRules,
    start: Epoch,
    *,
    epochs: int,
    goal: int | None = None,
    seed: str = "plan",
) -> Reach:
    """Draw ``epochs`` epochs from ``start``, or until ``goal`` different listings are drawn."""
    seen = np.zeros(len(table), dtype=bool)
    listings = drawn = misses = made = 0
    for draw in _first(epochs, simulated_draws(table, rules, start, chance=streamed_chance(seed))):
        made += 1
        misses += 1 if draw.short else 0
        drawn += draw.total
        new = [place for place in draw.places if not seen[place]]
        seen[new] = True
        listings += int(table.expected[new].sum())
        if goal is not None and listings >= goal:
            break
    days = made * start.seconds / _DAY
    zipcodes = int(seen.sum())
    target = rules.target_listings
    return Reach(target, days, zipcodes, listings, drawn, misses, start.seconds)


def _first(count: int, draws: Iterator[SimulatedDraw]) -> Iterator[SimulatedDraw]:
    for _, draw in zip(range(count), draws, strict=False):
        yield draw


def most_target(table: DrawTable, rules: DrawRules, epoch: Epoch) -> int:
    """The largest target that the cooldown leaves enough eligible listings for, epoch after epoch.

    A ZIP rests for ⌈cooldown / L⌉ − 1 epochs after its own, so that many epochs draw from one
    supply.
    """
    listings = int(table.expected[table.eligible(LastDrawn.none(table), rules, epoch)].sum())
    return listings // max(1, -(-rules.cooldown_hours * 3_600 // epoch.seconds))


def make_plan(
    table: DrawTable,
    rules: DrawRules,
    start: Epoch,
    *,
    goal: int,
    days: int,
    progress: Progress = lambda _: None,
) -> Plan:
    """Find out what ``goal`` different listings in ``days`` days need.

    Args:
        table: the rows, whose figures stay fresh (``kept_fresh``).
        rules: the owner's settings, with the present target and minimum.
        start: the first epoch.
        goal: different listings to draw, at least 1.
        days: within so many days, at least 1.
        progress: is told what is being tried.

    Raises:
        ValueError: where goal or days are not at least 1.
    """
    if goal < 1 or days < 1:
        raise ValueError("a plan needs at least 1 listing and 1 day")
    epochs = epochs_in(days, start.seconds)
    found = supply(table, rules, start)
    progress(f"{days} days with the present settings")
    present = reach(table, rules, start, epochs=epochs)
    ways = [
        _way(table, tried, start, goal=goal, epochs=epochs, progress=progress)
        for tried in _variants(table, rules, start, goal=goal, days=days)
    ]
    return Plan(
        goal=goal,
        days=days,
        epoch_seconds=start.seconds,
        supply=found,
        present=present,
        most_target=most_target(table, rules, start),
        ways=tuple(ways),
        notes=tuple(_notes(table, rules, start, goal, present)),
    )


def _variants(
    table: DrawTable, rules: DrawRules, start: Epoch, *, goal: int, days: int
) -> list[DrawRules]:
    """The present rules, and others that reach the goal sooner: with the largest lower minima that
    bring enough listings, unless the present one brings them with something to spare; and with
    such a cooldown that hardly a ZIP is drawn twice in these days."""

    def listings(minimum: int) -> int:
        lower = replace(rules, min_zipcode_listings=minimum)
        return int(table.expected[table.eligible(LastDrawn.none(table), lower, start)].sum())

    minima = [rules.min_zipcode_listings]
    if listings(minima[0]) * 9 < goal * 10:
        lower = [m for m in LOWER_MINIMA if m < minima[0] and listings(m) >= goal]
        minima += lower[:_ALTERNATIVES]
    long = max(rules.cooldown_hours, days * _LONG_COOLDOWN_HOURS)
    cooldowns = sorted({rules.cooldown_hours, long})
    return [
        replace(rules, min_zipcode_listings=minimum, cooldown_hours=cooldown)
        for minimum in minima
        for cooldown in cooldowns
        if cooldown == rules.cooldown_hours or listings(minimum) >= goal
    ]


def _way(
    table: DrawTable,
    rules: DrawRules,
    start: Epoch,
    *,
    goal: int,
    epochs: int,
    progress: Progress,
) -> Way:
    chosen = table.eligible(LastDrawn.none(table), rules, start)
    held = Part(len(chosen), int(table.expected[chosen].sum()))
    minimum, cooldown = rules.min_zipcode_listings, rules.cooldown_hours
    if held.listings < goal:
        return Way(minimum, cooldown, held, None, None)
    progress(f"minimum {minimum}, cooldown {cooldown} h: days at the present target")
    patient = reach(table, rules, start, epochs=epochs_in(MOST_DAYS, start.seconds), goal=goal)
    return Way(
        min_zipcode_listings=minimum,
        cooldown_hours=cooldown,
        supply=held,
        in_time=_smallest_target(table, rules, start, goal=goal, epochs=epochs, progress=progress),
        at_present_target=patient if patient.listings >= goal else None,
    )


def _smallest_target(
    table: DrawTable,
    rules: DrawRules,
    start: Epoch,
    *,
    goal: int,
    epochs: int,
    progress: Progress,
) -> Reach | None:
    """The smallest target that draws ``goal`` different listings in so many epochs, to 2 %."""

    def tried(target: int) -> Reach:
        progress(
            f"minimum {rules.min_zipcode_listings}, cooldown {rules.cooldown_hours} h: "
            f"target {target:,}"
        )
        asked = replace(rules, target_listings=target)
        return reach(table, asked, start, epochs=epochs, goal=goal)

    low = goal // epochs  # Nothing less can do, even without a single re-draw.
    high = most_target(table, rules, start) // _STEP * _STEP
    best: Reach | None = None
    target = min(high, low * 5 // 4)
    for _ in range(_MOST_TRIES):
        target = target // _STEP * _STEP
        if target <= low or (best is not None and target >= best.target):
            break
        made = tried(target)
        if made.misses or made.listings < goal:
            low = target
        else:
            best = made
        if best is None:
            if target == high:
                break
            target = min(high, target * 3 // 2)
        elif (best.target - low) * 100 <= best.target * _CLOSE_PERCENT:
            break
        else:
            # The days that were left over say by how much less may do.
            used = round(best.days * _DAY / start.seconds)
            target = max((low + best.target) // 2, best.target * used // epochs)
    return best


def _notes(
    table: DrawTable, rules: DrawRules, start: Epoch, goal: int, present: Reach
) -> Iterator[str]:
    chosen = table.eligible(LastDrawn.none(table), rules, start)
    held = int(table.expected[chosen].sum())
    if held < goal:
        yield (
            f"{goal:,} listings are out of reach with MIN_ZIPCODE_LISTINGS="
            f"{rules.min_zipcode_listings}: the ZIPs that may be drawn hold {held:,} together, "
            "however long it takes."
        )
    if present.misses:
        yield (
            f"{present.misses} of the {round(present.days * _DAY / start.seconds)} epochs have no "
            "draw with the present settings: what the cooldown leaves does not add up to the "
            "target. Lower TARGET_LISTINGS, MIN_ZIPCODE_LISTINGS or COOLDOWN_HOURS."
        )
    yield from _quota_notes(table, rules, chosen)


def _quota_notes(table: DrawTable, rules: DrawRules, chosen: Integers) -> Iterator[str]:
    places: list[int] = chosen.tolist()
    states = {table.states[place] for place in places}
    room = len(states) * rules.max_state_share
    regions = {region_of(state) for state in states}
    if states and min(room, len(regions) * rules.max_region_share) < 100 - rules.tolerance_percent:
        yield (
            f"{len(states)} states in {len(regions)} regions cannot fill a draw under "
            f"MAX_STATE_SHARE={rules.max_state_share} and MAX_REGION_SHARE="
            f"{rules.max_region_share}: every draw relaxes tiers, regions and states. "
            "Raise the two shares, so that at least the tiers hold."
        )
    tiers: list[int] = table.tiers(chosen).tolist()
    too_large = [p for p in places if table.expected_numbers[p] > _largest(rules, tiers[p])]
    if too_large:
        yield (
            f"{len(too_large)} ZIPs are too large for a target of {rules.target_listings:,}: with "
            "them no room is left for the least shares of the other tiers, so they are drawn only "
            "where the tiers are relaxed. Raise TARGET_LISTINGS, or lower MAX_ZIPCODE_LISTINGS to "
            f"{min(_largest(rules, tier) for tier in range(len(TIERS))):,}."
        )


def _largest(rules: DrawRules, tier: int) -> int:
    """The largest ZIP of a tier that leaves room for what the other tiers need."""
    least: Sequence[int] = [
        max(max(0, share - rules.tier_tolerance) * rules.target_listings // 100, 0)
        for share in rules.tier_shares
    ]
    return rules.most - sum(least[other] for other in range(len(TIERS)) if other != tier)
