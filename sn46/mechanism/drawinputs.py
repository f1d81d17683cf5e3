"""What a draw follows from, besides its epoch and its seed: rows, rules and history."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from types import MappingProxyType
from typing import Final, Literal, cast

from sn46.mechanism.errors import DrawError
from sn46.mechanism.names import ZipCode

Tier = Literal["premium", "standard", "emerging"]
TIERS: Final[tuple[Tier, ...]] = ("premium", "standard", "emerging")


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
