"""What a validator is doing now, for people and for supervisors."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sn46.clock import Clock
from sn46.mechanism.times import format_time
from sn46.statusfile import StatusFile


class Progress:
    """Writes phase and counts to a file, at most a few times a second: ``{phase, done, of, note,
    epoch_id, updated_at, relay}``; ``relay`` is how far validators agree on the assignment."""

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self._file = StatusFile(path)
        self._clock = clock
        self._phase = ""
        self._written: datetime | None = None
        self._relay: Mapping[str, Any] | None = None
        self._shown: Mapping[str, Any] = {"phase": "starting"}

    def show(
        self, phase: str, done: int = 0, of: int = 0, *, note: str = "", epoch_id: str = ""
    ) -> None:
        now = self._clock.now()
        fresh = self._written is not None and (now - self._written).total_seconds() < 0.3
        if fresh and phase == self._phase and done != of:
            return
        self._phase, self._written = phase, now
        self._shown = {
            "phase": phase,
            "done": done,
            "of": of,
            "note": note,
            "epoch_id": epoch_id,
        }
        self._write()

    def note_relay(self, agreement: Mapping[str, Any] | None) -> None:
        """Say how far the validators agree on the assignment, beside what is shown."""
        if agreement != self._relay:
            self._relay = agreement
            self._write()

    def _write(self) -> None:
        now = format_time(self._clock.now())
        self._file.write({**self._shown, "updated_at": now, "relay": self._relay})
