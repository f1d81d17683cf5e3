"""What the miner is doing, for whoever watches: a status, kept in a small JSON file too."""

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from sn46.clock import Clock
from sn46.mechanism.names import EpochId, Hotkey, ZipCode
from sn46.mechanism.times import format_time
from sn46.miner.ways import RouteStatus, routes_of, shown_routes
from sn46.sources.base import ListingSource
from sn46.sources.pools import pools_of
from sn46.statusfile import StatusFile


class Phase(StrEnum):
    """What the miner is at."""

    STARTING = "starting"
    ASKING = "asking"
    SCRAPING = "scraping"
    PACKING = "packing"
    UPLOADING = "uploading"
    WAITING = "waiting"
    STOPPED = "stopped"


@dataclass(frozen=True)
class ZipUnderWay:
    """A ZIP that is being scraped: how many rows were found so far, of how many expected."""

    zipcode: ZipCode
    found: int
    expected: int


@dataclass(frozen=True)
class MinerStatus:
    """One state of the miner.

    ``rows`` are those kept of this epoch so far; ``zips_failed`` counts ZIPs that are incomplete;
    ``rows_per_minute`` is measured since scraping began; ``answered`` and ``refused`` count
    requests to the sources since then (refused ones are tried again); scraping stops at
    ``scrape_until``, and at the present rate it is finished at ``finish_at``. While nothing is
    asked, the incomplete ZIPs are tried again at ``again_at``. ``last_result`` and ``detail`` are
    how the latest finished epoch ended (``submitted`` or ``failed``) and why; ``last_summary`` says
    what it may be worth. ``trouble`` is what the miner waits to be mended at present. All times are
    the API's: the machine's clock is ``clock_ahead_seconds`` ahead of them (negative: behind), 0
    where it is right.
    """

    hotkey: Hotkey
    host: str
    pid: int
    phase: Phase
    updated_at: str
    epoch_id: EpochId | None = None
    deadline: str | None = None
    scrape_until: str | None = None
    finish_at: str | None = None
    again_at: str | None = None
    zips_total: int = 0
    zips_done: int = 0
    zips_failed: int = 0
    rows: int = 0
    rows_expected: int = 0
    rows_per_minute: int = 0
    answered: int = 0
    refused: int = 0
    under_way: tuple[ZipUnderWay, ...] = field(default=())
    routes: tuple[RouteStatus, ...] = field(default=())
    files_uploaded: int = 0
    last_epoch_id: EpochId | None = None
    last_result: str | None = None
    clock_ahead_seconds: float = 0.0
    trouble: str | None = None
    last_summary: str | None = None
    detail: str | None = None

    def to_json(self) -> Mapping[str, Any]:
        return asdict(self)

    def true_time(self, machine: datetime) -> datetime:
        """The time that the miner goes by, of what its machine's clock shows."""
        return machine - timedelta(seconds=self.clock_ahead_seconds)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "MinerStatus":
        """Read what ``to_json`` gave, in this version of the program or another one.

        Raises:
            KeyError, TypeError, ValueError: where it is no status.
        """
        known = {f.name for f in fields(cls)}
        given: dict[str, Any] = {name: v for name, v in value.items() if name in known}
        given["phase"] = Phase(value["phase"])
        given["under_way"] = tuple(ZipUnderWay(**way) for way in value.get("under_way", ()))
        given["routes"] = tuple(RouteStatus(**route) for route in value.get("routes", ()))
        return cls(**given)


def requests_of(sources: Iterable[ListingSource]) -> tuple[int, int]:
    """How many requests were answered, and how many refused or lost, since the sources were
    opened; those of sources that do not say are not among them."""
    tallies = [pool.tally() for _, pool in pools_of(sources)]
    return sum(t.answered for t in tallies), sum(t.refused + t.lost for t in tallies)


class Progress:
    """The current status, written to a file where one is wanted: with ``update`` and ``beat`` at
    once, with ``note`` at the next of these. ``ended`` counts epochs by how they ended."""

    def __init__(self, hotkey: Hotkey, clock: Clock, file: Path | None = None) -> None:
        self._clock = clock
        self._file = StatusFile(file)
        self.ended = {"submitted": 0, "failed": 0}
        self._sources: Sequence[ListingSource] = ()
        self._status = MinerStatus(
            hotkey=hotkey,
            host=socket.gethostname(),
            pid=os.getpid(),
            phase=Phase.STARTING,
            updated_at=format_time(clock.now()),
        )
        self.beat()

    @property
    def status(self) -> MinerStatus:
        return self._status

    def note(self, **changes: Any) -> None:
        """Change the status' fields by name, often."""
        self._status = replace(self._status, **changes)

    def update(self, **changes: Any) -> None:
        """Change the status' fields by name."""
        self.note(**changes)
        self.beat()

    def watch(self, sources: Sequence[ListingSource]) -> None:
        """Show from now on how the ways to these sources fare."""
        self._sources = sources

    def routes(self) -> tuple[RouteStatus, ...]:
        """The ways to the sources as they are now, all of them."""
        return routes_of(self._sources)

    def beat(self) -> None:
        """Say that the miner is alive."""
        self.note(updated_at=format_time(self._clock.now()), routes=shown_routes(self.routes()))
        self._file.write(self._status.to_json())


class Meter:
    """How fast rows come in since it was made, and when they will all be there."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.now()

    def reading(self, found: int, missing: int) -> tuple[int, datetime | None]:
        """(rows a minute, when ``missing`` more are found at this rate; None where none come)."""
        now = self._clock.now()
        seconds = max((now - self._began).total_seconds(), 0.001)
        if not found:
            return 0, None
        left = timedelta(seconds=min(missing * seconds / found, 10 * 86_400))
        return round(found * 60 / seconds), now + left
