"""What a validator is doing now, for people and for supervisors."""

import os
import socket
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from sn46.clock import Clock
from sn46.mechanism.names import Hotkey
from sn46.mechanism.times import format_time
from sn46.mechanism.verdicts import Verdict
from sn46.statusfile import StatusFile
from sn46.validator.heart import Heart
from sn46.validator.journal import Journal


class Result(StrEnum):
    """How an epoch ended for a validator."""

    JUDGED = "judged"
    """Its weights are on the chain."""

    LOST = "lost"
    """Its time ran out before."""

    REFUSED = "refused"
    """Its assignment cannot be trusted or understood."""

    MISSED = "missed"
    """This validator did not run while there was time for it."""

    NOT_DRAWN = "not drawn"
    """The API never had such an epoch."""


@dataclass(frozen=True)
class Ending:
    """How an epoch ended. ``reason`` is one of few: the step that was not done; ``detail`` a
    sentence."""

    epoch_id: str
    result: Result
    at: str
    reason: str = ""
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Ending":
        """Read what ``to_json`` gave.

        Raises:
            KeyError, TypeError, ValueError: where it is none.
        """
        given = {name: str(value[name]) for name in ("epoch_id", "at", "reason", "detail")}
        return cls(result=Result(value["result"]), **given)


def ending_of(journal: Journal) -> Ending | None:
    """How an epoch ended, by the journal; None where it did not, or nobody can tell."""
    try:
        value = journal.get("outcome")
        return None if value is None else Ending.from_json(value)
    except (OSError, KeyError, TypeError, ValueError):
        return None


@dataclass
class Counts:
    """What happened since this process started."""

    endings: Counter[tuple[Result, str]]
    """Epochs by how they ended, and the reason."""
    checks: Counter[Verdict]
    """Rows checked at their source, by what was found."""
    weights: Counter[str]
    """Weights on the chain: ``set``, ``committed``, or ``found`` there."""


class Progress:
    """Writes phase and counts to a file, at most a few times a second: ``{phase, done, of, note,
    epoch_id, until, updated_at, relay, …}``; ``until`` is the moment that is waited for, ``relay``
    how far validators agree on the assignment. What it is told beats the heart."""

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self._file = StatusFile(path)
        self._clock = clock
        self._phase = ""
        self._written: datetime | None = None
        self._relay: Mapping[str, Any] | None = None
        self._shown: Mapping[str, Any] = {"phase": "starting"}
        self._owner: Mapping[str, Any] = {"host": socket.gethostname(), "pid": os.getpid()}
        self._parts: Mapping[str, Any] = {}
        self.heart = Heart(clock)
        self.counts = Counts(Counter(), Counter(), Counter())
        self.last: Ending | None = None
        self.deadline: datetime | None = None
        """When the time of the epoch that is worked on is over, or the one waited for ends."""

    @property
    def phase(self) -> str:
        return str(self._shown["phase"])

    @property
    def epoch_id(self) -> str:
        """The epoch that is worked on or waited for; empty where there is none."""
        return str(self._shown.get("epoch_id") or "")

    @property
    def until(self) -> str | None:
        """The moment that is waited for; None where none is."""
        return self._shown.get("until")

    @property
    def relay(self) -> Mapping[str, Any] | None:
        """How far the validators agree on the assignment, as last told."""
        return self._relay

    def of(self, hotkey: Hotkey, last: Ending | None) -> None:
        """Say whose progress it is, and how that one's last epoch ended."""
        self._owner, self.last = {**self._owner, "hotkey": hotkey}, last

    def show(
        self, phase: str, done: int = 0, of: int = 0, *, note: str = "", epoch_id: str = ""
    ) -> None:
        now = self._clock.now()
        self.heart.beat()
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
            "until": None,
        }
        self._write()

    def expect(self, until: datetime) -> None:
        """Say until when what is shown lasts: nothing need be heard before."""
        self.heart.beat(until)
        self._shown = {**self._shown, "until": format_time(until)}
        self._write()

    def note_relay(self, agreement: Mapping[str, Any] | None) -> None:
        """Say how far the validators agree on the assignment, beside what is shown."""
        if agreement != self._relay:
            self._relay = agreement
            self._write()

    def count_checks(self, verdicts: Iterable[Verdict]) -> None:
        self.counts.checks.update(verdicts)

    def count_weights(self, how: str) -> None:
        self.counts.weights[how] += 1

    def ended(self, ending: Ending) -> None:
        """Say how an epoch ended."""
        self.last = ending
        self.counts.endings[ending.result, ending.reason] += 1
        self._write()

    def missed(self, count: int) -> None:
        """Count epochs in whose time this validator did not run."""
        self.counts.endings[Result.MISSED, "not running"] += count

    def pulse(self, parts: Mapping[str, Any]) -> None:
        """Say that the process lives, and how fit its parts are; the epoch loop's own sign of
        life is another."""
        self._parts = parts
        self._write()

    def stopped(self) -> None:
        """Say that the validator stops as it was told to."""
        self._shown = {"phase": "stopped", "epoch_id": self.epoch_id}
        self._write()

    def _write(self) -> None:
        self._file.write(
            {
                **self._owner,
                **self._shown,
                "updated_at": format_time(self._clock.now()),
                "beat_at": format_time(self.heart.beat_at),
                "due": format_time(self.heart.due),
                "deadline": None if self.deadline is None else format_time(self.deadline),
                "relay": self._relay,
                "last": None if self.last is None else self.last.to_json(),
                **self._parts,
            }
        )
