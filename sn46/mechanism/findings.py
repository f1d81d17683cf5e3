"""What draws of consecutive epochs add up to: coverage, waits, shares, and what is to hold of them.

Everything is counted from the draws themselves, not from what they say of themselves, so that it
would come out if the draw broke its own rules.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sn46.mechanism.draw import LARGE_ZIP
from sn46.mechanism.drawinputs import TIERS
from sn46.mechanism.drawtable import COVERAGE_DAYS, DrawTable, Floats, Integers, LastDrawn
from sn46.mechanism.simulating import SimulatedDraw

COVERED_DAYS: Final = 30
PASSES: Final = 3
WAITS_PERCENT: Final = 99

_DAY: Final = 86_400


@dataclass(frozen=True)
class Share:
    """A state's, region's or tier's part, in percent: of all listings drawn, of all that were
    eligible (None for tiers), and the smallest and largest part of a target in a single draw.
    ``quota`` is what a draw may have of it, from and to."""

    name: str
    drawn: float
    eligible: float | None
    least: float
    most: float
    quota: tuple[int, int]


@dataclass(frozen=True)
class Spread:
    """The least, the mean and the most of a figure."""

    least: float
    mean: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float] | Integers | Floats) -> "Spread":
        figures = np.asarray(values, dtype=np.float64)
        if not len(figures):
            return cls(0, 0, 0)
        return cls(float(figures.min()), float(figures.mean()), float(figures.max()))


@dataclass(frozen=True)
class Criterion:
    """Something that is to hold of a simulation, and a sentence with its figures."""

    name: str
    holds: bool
    text: str


class Findings:
    """What draws of consecutive epochs add up to. Figures are computed when asked for and kept.

    A *wait* of a ZIP is the time between the starts of two epochs that drew it one after the
    other; also from the first draw on record to its own first one, and from its last to the end
    of the run, as long as that one is by then. *One pass* is how long it would take to draw every
    eligible listing once if none were drawn twice. Waits are to end within three passes; where a
    pass is shorter than the ten days that the weight's coverage counts in, within 30 days.

    Args:
        table: the rows.
        draws: of consecutive epochs, from the first on record.

    Raises:
        ValueError: where there is no draw.
    """

    def __init__(self, table: DrawTable, draws: Sequence[SimulatedDraw]) -> None:
        if not draws:
            raise ValueError("there is no draw to look at")
        self.table = table
        self.draws = tuple(draws)
        self.rules = draws[0].rules
        self.start = draws[0].epoch
        self.eligible = table.eligible(LastDrawn.none(table), self.rules, self.start)
        self._places = np.array([p for d in draws for p in d.places], dtype=np.int64)
        sizes = np.array([len(draw.places) for draw in draws], dtype=np.int64)
        self._numbers = np.repeat(np.arange(len(draws)), sizes)

    @property
    def epochs_a_day(self) -> int:
        return _DAY // self.start.seconds

    @property
    def days(self) -> float:
        return len(self.draws) / self.epochs_a_day

    @cached_property
    def refused(self) -> int:
        """Epochs for which no draw was possible."""
        return sum(1 for draw in self.draws if draw.short)

    @cached_property
    def misses(self) -> int:
        """Epochs whose draw is not within its tolerance, those without one among them."""
        return sum(not draw.within_tolerance for draw in self.draws)

    @cached_property
    def relaxed(self) -> Mapping[str, int]:
        """In how many draws each quota was relaxed."""
        return Counter(name for draw in self.draws for name in draw.relaxed)

    @cached_property
    def relaxed_draws(self) -> int:
        return sum(1 for draw in self.draws if draw.relaxed)

    @cached_property
    def totals(self) -> Spread:
        """Listings of a draw, over the epochs that had one."""
        return Spread.of([draw.total for draw in self.draws if not draw.short])

    @cached_property
    def eligible_listings(self) -> int:
        return int(self.table.expected[self.eligible].sum())

    @cached_property
    def times_drawn(self) -> Integers:
        """Of every row, in the table's order."""
        return np.bincount(self._places, minlength=len(self.table)).astype(np.int64)

    @cached_property
    def undrawn(self) -> Integers:
        """Places of eligible rows that no draw took."""
        return self.eligible[self.times_drawn[self.eligible] == 0]

    @cached_property
    def pass_days(self) -> float:
        """Days that one pass takes; infinite where nothing was drawn."""
        listings = sum(draw.total for draw in self.draws)
        return self.eligible_listings * self.days / listings if listings else float("inf")

    @cached_property
    def _intervals(self) -> tuple[Integers, Integers]:
        """(place, epochs) of every time between two draws of one ZIP."""
        order = np.lexsort((self._numbers, self._places))
        places, numbers = self._places[order], self._numbers[order]
        same = places[1:] == places[:-1]
        return places[1:][same], (numbers[1:] - numbers[:-1])[same]

    @cached_property
    def _waits(self) -> tuple[Integers, Integers]:
        """(place, epochs) of every wait, as the class describes them."""
        count = len(self.table)
        first = np.full(count, len(self.draws))
        np.minimum.at(first, self._places, self._numbers)
        last = np.zeros(count, dtype=np.int64)
        np.maximum.at(last, self._places, self._numbers)
        between_places, between = self._intervals
        places = np.concatenate([self.eligible, between_places, self.eligible])
        epochs = np.concatenate(
            [first[self.eligible], between, len(self.draws) - last[self.eligible]]
        )
        # What the very first draw took had not waited, and what was never drawn waits once.
        real = epochs > 0
        real[: len(self.eligible)] &= self.times_drawn[self.eligible] > 0
        return places[real], epochs[real]

    @cached_property
    def waits(self) -> Floats:
        """All waits, in days."""
        return self._waits[1] / self.epochs_a_day

    @cached_property
    def longest_waits(self) -> Floats:
        """The longest wait of every row in days, in the table's order."""
        longest = np.zeros(len(self.table), dtype=np.int64)
        places, epochs = self._waits
        np.maximum.at(longest, places, epochs)
        return longest / self.epochs_a_day

    @cached_property
    def wait_limit(self) -> float:
        """Within so many days waits are to end."""
        return PASSES * max(self.pass_days, COVERAGE_DAYS)

    @cached_property
    def waits_within(self) -> float:
        """Percent of the waits that are within ``wait_limit``."""
        return _percent(self.waits <= self.wait_limit)

    @cached_property
    def zipcodes_within(self) -> float:
        """Percent of the eligible ZIPs whose longest wait is within ``wait_limit``."""
        return _percent(self.longest_waits[self.eligible] <= self.wait_limit)

    @cached_property
    def cooldown_violations(self) -> int:
        """Draws of a ZIP sooner after the one before than the cooldown allows."""
        seconds = self._intervals[1] * self.start.seconds
        return int((seconds < self.rules.cooldown_hours * 3_600).sum())

    @cached_property
    def gini(self) -> float:
        """Gini coefficient of how often the eligible ZIPs were drawn: 0 where all were equally
        often, towards 1 the more a few have them all."""
        counts = np.sort(self.times_drawn[self.eligible])
        if not counts.sum():
            return 0.0
        ranks = np.arange(1, len(counts) + 1)
        return float((2 * ranks - len(counts) - 1) @ counts / (len(counts) * counts.sum()))

    def covered(self, days: int = COVERED_DAYS) -> tuple[Spread, Spread]:
        """Different ZIPs and different listings that ``days`` days draw, over the stretches of
        that length that begin on each day of the run (the whole run, where it is shorter)."""
        length = days * self.epochs_a_day
        starts = range(0, max(1, len(self.draws) - length + 1), self.epochs_a_day)
        edges = np.searchsorted(self._numbers, np.arange(len(self.draws) + 1))
        zipcodes: list[int] = []
        listings: list[int] = []
        for start in starts:
            end = min(start + length, len(self.draws))
            found = np.unique(self._places[edges[start] : edges[end]])
            zipcodes.append(len(found))
            listings.append(int(self.table.expected[found].sum()))
        return Spread.of(zipcodes), Spread.of(listings)

    @cached_property
    def covered_by_day(self) -> list[tuple[int, int, int]]:
        """(day, ZIPs, listings) that were drawn at least once from the first day to the end of
        that one."""
        places, first = np.unique(self._places, return_index=True)
        days = self._numbers[first] // self.epochs_a_day
        count = -(-len(self.draws) // self.epochs_a_day)
        zipcodes = np.cumsum(np.bincount(days, minlength=count))
        new = np.bincount(days, weights=self.table.expected[places], minlength=count)
        listings = np.cumsum(new)
        return [(d + 1, int(zipcodes[d]), int(listings[d])) for d in range(count)]

    @cached_property
    def states(self) -> list[Share]:
        """The states that have eligible ZIPs, the most drawn first."""
        return self._shares(self.table.states, (0, self.rules.max_state_share))

    @cached_property
    def regions(self) -> list[Share]:
        """The Census regions (territories each for itself), the most drawn first."""
        return self._shares(self.table.regions, (0, self.rules.max_region_share))

    @cached_property
    def tiers(self) -> list[Share]:
        """The tiers, in the order of ``TIERS``."""
        made = [draw for draw in self.draws if not draw.short]
        sums = np.array([draw.by_tier for draw in made], dtype=np.float64).reshape(-1, len(TIERS))
        parts = Spread.of([]), Spread.of([]), Spread.of([])
        if made:
            shares = sums / np.array([draw.target for draw in made])[:, None] * 100
            parts = tuple(Spread.of(shares[:, tier]) for tier in range(len(TIERS)))
        around = self.rules.tier_tolerance
        return [
            Share(
                name=tier,
                drawn=100 * float(sums[:, number].sum()) / max(1.0, float(sums.sum())),
                eligible=None,
                least=parts[number].least,
                most=parts[number].most,
                quota=(max(0, share - around), min(100, share + around)),
            )
            for number, (tier, share) in enumerate(zip(TIERS, self.rules.tier_shares, strict=True))
        ]

    def _shares(self, kinds: Sequence[str], quota: tuple[int, int]) -> list[Share]:
        names, sums, _ = self._sums(kinds)
        made = np.array([not draw.short for draw in self.draws])
        targets = np.array([draw.target for draw in self.draws])
        parts = (sums / targets[:, None] * 100)[made] if made.any() else np.zeros((1, len(names)))
        code = {name: number for number, name in enumerate(names)}
        eligible: list[int] = self.eligible.tolist()
        codes = np.array([code[kinds[place]] for place in eligible], dtype=np.int64)
        held = np.bincount(codes, weights=self.table.expected[self.eligible], minlength=len(names))
        drawn = sums.sum(axis=0)
        shares = [
            Share(
                name=name,
                drawn=100 * float(drawn[number]) / max(1.0, float(drawn.sum())),
                eligible=100 * float(held[number]) / max(1.0, float(held.sum())),
                least=float(parts[:, number].min()),
                most=float(parts[:, number].max()),
                quota=quota,
            )
            for number, name in enumerate(names)
        ]
        return sorted(shares, key=lambda share: (-share.drawn, share.name))

    def _sums(self, kinds: Sequence[str]) -> tuple[list[str], Floats, Integers]:
        """Names; listings by draw and name; ZIPs by draw and name. ``kinds`` gives each row's."""
        eligible: list[int] = self.eligible.tolist()
        places: list[int] = self._places.tolist()
        names = sorted({kinds[place] for place in eligible})
        code = {name: number for number, name in enumerate(names)}
        codes = np.array([code[kinds[place]] for place in places], dtype=np.int64)
        shape = (len(self.draws), len(names))
        sums = np.zeros(shape)
        np.add.at(sums, (self._numbers, codes), self.table.expected[self._places])
        counts = np.zeros(shape, dtype=np.int64)
        np.add.at(counts, (self._numbers, codes), 1)
        return names, sums, counts

    @cached_property
    def quota_breaches(self) -> int:
        """Draws in which a quota does not hold and that do not say so."""
        areas: list[tuple[int, Floats, Integers]] = []
        for kinds, share in (
            (self.table.states, self.rules.max_state_share),
            (self.table.regions, self.rules.max_region_share),
        ):
            _, sums, counts = self._sums(kinds)
            areas.append((share, sums, counts))
        return sum(self._breaches(number, draw, areas) for number, draw in enumerate(self.draws))

    def _breaches(
        self, number: int, draw: SimulatedDraw, areas: Sequence[tuple[int, Floats, Integers]]
    ) -> bool:
        if draw.short:
            return False
        large = LARGE_ZIP in draw.relaxed
        for share, sums, counts in () if "states" in draw.relaxed else areas:
            over = sums[number] * 100 > share * draw.target
            if over.any() and not (large and (counts[number][over] == 1).all()):
                return True
        if "tiers" in draw.relaxed or large:
            return False
        shares = zip(draw.by_tier, draw.rules.tier_shares, strict=True)
        around = draw.rules.tier_tolerance
        return any(
            not (share - around) * draw.target <= listings * 100 <= (share + around) * draw.target
            for listings, share in shares
        )

    def criteria(self) -> list[Criterion]:
        """What is to hold of a simulation. That every ZIP is drawn, and how long they wait, can
        only be asked of a run that is at least ``wait_limit`` long."""
        said = f"{self.relaxed_draws} relaxed one and said so"
        found = [
            Criterion(
                "tolerance",
                not self.misses,
                f"{self.misses} of {len(self.draws)} draws miss the tolerance"
                + (f", {self.refused} of them were not possible" if self.refused else ""),
            ),
            Criterion(
                "quotas",
                not self.quota_breaches,
                f"{self.quota_breaches} draws break a quota without saying so; {said}",
            ),
            Criterion(
                "cooldown",
                not self.cooldown_violations,
                f"{self.cooldown_violations} ZIPs were drawn again within the cooldown of "
                f"{self.rules.cooldown_hours} hours",
            ),
        ]
        if self.days < self.wait_limit:
            return found
        return [
            *found,
            Criterion(
                "undrawn",
                not len(self.undrawn),
                f"{len(self.undrawn)} of {len(self.eligible)} eligible ZIPs were never drawn",
            ),
            Criterion(
                "waits",
                self.waits_within >= WAITS_PERCENT,
                f"{self.waits_within:.2f} % of the waits are within {self.wait_limit:.0f} days "
                f"({PASSES} passes take {PASSES * self.pass_days:.0f})",
            ),
        ]


def _percent(held: NDArray[np.bool_]) -> float:
    return 100 * float(held.mean()) if len(held) else 100.0
