"""What the dashboard knows at one moment: values alone, which pages and alerts are made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.names import PPM, EpochId, Hotkey

ALERT_BELOW = PPM * 90 // 100
"""Agreement below this is marked (mechanism 10)."""


class Part(StrEnum):
    """What is asked for, each by itself, in the words that a page has for it."""

    READY = "the API's readiness"
    STATS = "the running epoch"
    EPOCHS = "the epochs"
    RESULTS = "the announced reports"
    LEADERS = "the leaderboard"
    DRAWS = "the past draws"
    TABLE = "the ZIP table"
    REPORTS = "the published reports"


@dataclass(frozen=True, slots=True)
class Look:
    """How asking for a part goes, by this machine's clock."""

    fetched_at: datetime | None = None
    failing_since: datetime | None = None
    error: str | None = None

    def answered(self, at: datetime) -> "Look":
        return Look(at)

    def failed(self, at: datetime, error: str) -> "Look":
        return Look(self.fetched_at, self.failing_since or at, error)


@dataclass(frozen=True, slots=True)
class ReadyPart:
    """A part of the API as its ``/readyz`` has it, and since when it is so."""

    name: str
    ok: bool
    detail: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Running:
    """The running epoch's draw, as far as it is public before the epoch ends."""

    epoch: Epoch
    target: int
    listings: int
    eligible: int
    relaxed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier's part of the running draw."""

    name: str
    zipcodes: int
    listings: int


@dataclass(frozen=True, slots=True)
class Stats:
    """``/zipcode-assignments/stats``. ``now`` is the API's clock; ``running`` is None where no
    epoch is drawn, and ``epoch`` the one that it would be."""

    now: datetime
    running: Running | None
    epoch: Epoch
    grace_end: datetime
    next_draw_at: datetime
    tiers: tuple[Tier, ...]
    credentials: int
    statuses: Mapping[str, int]
    drawn_epochs: int
    zipcodes_ever: int
    zipcodes_lately: int
    draw_error: str | None


@dataclass(frozen=True, slots=True)
class Agreed:
    """How far an epoch's validators agree, in ppm of those that announced."""

    validators: int = 0
    consensus_hash: str | None = None
    hash_share: int = 0
    top: tuple[Hotkey, ...] = ()
    top_share: int = 0

    @property
    def is_low(self) -> bool:
        return self.validators > 0 and min(self.hash_share, self.top_share) < ALERT_BELOW


@dataclass(frozen=True, slots=True)
class EpochRow:
    """A begun epoch in the history."""

    epoch: Epoch
    target: int
    listings: int
    zipcodes: int
    relaxed: tuple[str, ...]
    agreed: Agreed

    @property
    def id(self) -> EpochId:
        return self.epoch.id


@dataclass(frozen=True, slots=True)
class Announced:
    """A report as a validator announced it."""

    validator: Hotkey
    consensus_hash: str
    top: tuple[Hotkey, ...]
    participants: int
    reached: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Leader:
    """A miner of the leaderboard: how often it was at each of the agreed first three places."""

    hotkey: Hotkey
    first: int
    second: int
    third: int


@dataclass(frozen=True, slots=True)
class DrawRecord:
    """A past draw as it is published. ``assignment`` is None where it cannot be read, and
    ``fault`` then says why; a fault beside an assignment says what does not hold of it."""

    epoch_id: EpochId
    drawn_at: datetime
    seed: str
    assignment: Assignment | None
    fault: str | None


@dataclass(frozen=True, slots=True)
class TableAge:
    """The table that the newest published draw was made from, and how old its figures are."""

    version: str
    rows: int
    with_figures: int
    newest: date | None
    oldest: date | None


@dataclass(frozen=True, slots=True)
class Checks:
    """What became of a miner's checked rows."""

    confirmed: int
    contradicted: int
    fake: int
    inconclusive: int


@dataclass(frozen=True, slots=True)
class ReasonRow:
    """A reason of a report: its code, what it counts, and the report's own sentence."""

    code: str
    count: int
    detail: str


@dataclass(frozen=True, slots=True)
class MinerRow:
    """A miner's part of a published report; scores in ppm, None where a step was not reached."""

    valid: bool
    participant: bool
    candidate: bool
    disqualified: bool
    rank: int | None = None
    speed: int | None = None
    completeness: int | None = None
    volume: int | None = None
    accuracy: int | None = None
    quality: int | None = None
    final: int | None = None
    credibility: int | None = None
    credibility_epochs: int | None = None
    weight: int | None = None
    rows: int | None = None
    rows_kept: int | None = None
    zipcodes: int | None = None
    checks: Checks | None = None
    submitted_at: datetime | None = None
    reasons: tuple[ReasonRow, ...] = ()


@dataclass(frozen=True, slots=True)
class PublishedEpoch:
    """An epoch's report, of one of those who agree on its ``consensus_hash``. ``weights`` are all
    of them, also of who is no miner."""

    epoch_id: EpochId
    validator: Hotkey
    consensus_hash: str
    miners: Mapping[Hotkey, MinerRow]
    weights: Mapping[Hotkey, int]

    @property
    def places(self) -> int:
        """How many have a rank."""
        return sum(1 for miner in self.miners.values() if miner.rank is not None)


@dataclass(frozen=True)
class Snapshot:
    """All of it. Epochs and results are newest first; ``clock_ahead`` is how far the API's clock
    is ahead of this machine's."""

    api_url: str
    started_at: datetime
    reads_reports: bool = False
    version: int = 0
    looks: Mapping[Part, Look] = field(default_factory=dict[Part, Look])
    ready: tuple[ReadyPart, ...] = ()
    stats: Stats | None = None
    clock_ahead: timedelta = timedelta(0)
    epochs: tuple[EpochRow, ...] = ()
    results: Mapping[EpochId, tuple[Announced, ...]] = field(
        default_factory=dict[EpochId, tuple[Announced, ...]]
    )
    leaders: tuple[Leader, ...] = ()
    leader_epochs: int = 0
    draws: Mapping[EpochId, DrawRecord] = field(default_factory=dict[EpochId, DrawRecord])
    table: TableAge | None = None
    published: Mapping[EpochId, PublishedEpoch] = field(
        default_factory=dict[EpochId, PublishedEpoch]
    )

    unreadable: Mapping[EpochId, str] = field(default_factory=dict[EpochId, str])
    """Why an epoch's published report cannot be read."""

    def look(self, part: Part) -> Look:
        return self.looks.get(part, Look())

    def api_now(self, now: datetime) -> datetime:
        """What the API's clock shows when this machine's shows ``now``."""
        return now + self.clock_ahead

    def age(self, now: datetime) -> timedelta | None:
        """How old the figures of the running epoch are; None where there are none."""
        fetched = self.look(Part.STATS).fetched_at
        return None if fetched is None else max(timedelta(0), now - fetched)

    def reported(self) -> list[EpochRow]:
        """The epochs with reports, newest first."""
        return [row for row in self.epochs if row.agreed.validators]
