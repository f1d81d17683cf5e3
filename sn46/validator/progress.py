"""What a validator is doing now, for people and for supervisors."""

from datetime import datetime
from pathlib import Path

from sn46.clock import Clock
from sn46.mechanism.times import format_time
from sn46.statusfile import StatusFile


class Progress:
    """Writes phase and counts to a file, at most a few times a second: ``{phase, done, of, note,
    epoch_id, updated_at}``."""

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self._file = StatusFile(path)
        self._clock = clock
        self._phase = ""
        self._written: datetime | None = None

    def show(
        self, phase: str, done: int = 0, of: int = 0, *, note: str = "", epoch_id: str = ""
    ) -> None:
        now = self._clock.now()
        fresh = self._written is not None and (now - self._written).total_seconds() < 0.3
        if fresh and phase == self._phase and done != of:
            return
        self._phase, self._written = phase, now
        self._file.write(
            {
                "phase": phase,
                "done": done,
                "of": of,
                "note": note,
                "epoch_id": epoch_id,
                "updated_at": format_time(now),
            }
        )
