"""What the miner is doing, for whoever watches: a small JSON file, replaced as a whole."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import structlog

from sn46.clock import Clock
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.times import format_time


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
class MinerStatus:
    """One state of the miner. ``rows`` are those scraped in this epoch so far; ``zips_failed``
    counts ZIPs that are incomplete; ``last_result`` and ``detail`` are how the latest finished
    epoch ended (``submitted`` or ``failed``) and why."""

    hotkey: Hotkey
    pid: int
    phase: Phase
    updated_at: str
    epoch_id: EpochId | None = None
    deadline: str | None = None
    zips_total: int = 0
    zips_done: int = 0
    zips_failed: int = 0
    rows: int = 0
    files_uploaded: int = 0
    last_epoch_id: EpochId | None = None
    last_result: str | None = None
    detail: str | None = None

    def to_json(self) -> Mapping[str, Any]:
        return asdict(self)


class Progress:
    """The current status, written to a file at every change where one is wanted.

    A status that cannot be written is logged once and mining goes on: nothing depends on it.
    """

    def __init__(self, hotkey: Hotkey, clock: Clock, file: Path | None = None) -> None:
        self._clock = clock
        self._file = file
        self._failed = False
        self._status = MinerStatus(
            hotkey=hotkey,
            pid=os.getpid(),
            phase=Phase.STARTING,
            updated_at=format_time(clock.now()),
        )
        self.beat()

    @property
    def status(self) -> MinerStatus:
        return self._status

    def update(self, **changes: Any) -> None:
        """Change the status' fields by name."""
        self._status = replace(self._status, **changes)
        self.beat()

    def beat(self) -> None:
        """Say that the miner is alive."""
        self._status = replace(self._status, updated_at=format_time(self._clock.now()))
        if self._file is None:
            return
        temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}.new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(self._status.to_json()))
            temporary.replace(self._file)
        except OSError as error:
            if not self._failed:
                structlog.get_logger().warning(
                    "the status file cannot be written; mining goes on without it",
                    file=str(self._file),
                    error=error.strerror,
                )
            self._failed = True
        else:
            self._failed = False
