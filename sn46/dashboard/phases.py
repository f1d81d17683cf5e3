"""The phases of the competition at a moment: what of the running epoch, and what of the one before
it, is going on (mechanism 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sn46.mechanism.epochs import Epoch


@dataclass(frozen=True)
class Phase:
    """A span of time: its name, what happens in it, and its ends."""

    name: str
    text: str
    start: datetime
    end: datetime

    def is_now(self, moment: datetime) -> bool:
        return self.start <= moment < self.end

    def done(self, moment: datetime) -> float:
        """How much of it is over, 0 to 1."""
        whole = (self.end - self.start) / timedelta(seconds=1)
        past = (moment - self.start) / timedelta(seconds=1)
        return min(1.0, max(0.0, past / whole)) if whole > 0 else 1.0


def uploading(epoch: Epoch, grace_end: datetime) -> tuple[Phase, ...]:
    """The phases of an epoch while miners upload; without the late one where grace lasts to the
    end."""
    grace = Phase("Grace", "uploads all count as simultaneous", epoch.start, grace_end)
    late = Phase("Until the deadline", "each place costs speed", grace_end, epoch.end)
    return tuple(phase for phase in (grace, late) if phase.end > phase.start)


def judging(epoch: Epoch) -> tuple[Phase, ...]:
    """The phases of an epoch after its deadline, while validators judge it."""
    return (
        Phase("Quick validation", "all uploads are checked", epoch.end, epoch.candidates_by),
        Phase("Evidence", "homes are looked up", epoch.candidates_by, epoch.evidence_deadline),
        Phase("Reports, weights", "results come", epoch.evidence_deadline, epoch.weights_by),
        Phase("Late reports", "still taken", epoch.weights_by, epoch.results_deadline),
    )


def at(phases: Sequence[Phase], moment: datetime) -> Phase | None:
    """The one that is going on."""
    return next((phase for phase in phases if phase.is_now(moment)), None)
