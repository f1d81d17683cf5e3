"""What announced reports decide for a draw: its validators and its adaptive target.

A report counts for a draw if it was announced a quarter of an epoch before that epoch starts: that
is when reports on the epoch two before are due, and from then on they can no longer be replaced. So
whoever reads the announced reports later finds exactly what the draw was made from.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final

from sn46.mechanism.epochs import Epoch
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.target import EPOCHS_LOOKED_AT, EpochVolume

VALIDATOR_EPOCHS: Final = 6
"""Who reported on one of so many epochs before is asked for spot checks."""


@dataclass(frozen=True)
class AnnouncedReport:
    """A report on the epoch that starts at ``start``: how many took part, and how many of them
    reached 95 % volume.

    Raises:
        ValueError: where more reached it than took part.
    """

    epoch_id: EpochId
    start: datetime
    validator_hotkey: Hotkey
    participants: int
    reached: int
    announced_at: datetime

    def __post_init__(self) -> None:
        EpochVolume(self.participants, self.reached)


@dataclass(frozen=True)
class ReportedEpoch:
    """What an assignment says of an epoch that its target follows from: what the epoch asked for,
    in listings, and the figures that most of its reports give."""

    epoch_id: EpochId
    target: int
    participants: int
    reached: int

    @property
    def volume(self) -> EpochVolume:
        return EpochVolume(self.participants, self.reached, self.target)


def counted_until(epoch: Epoch) -> datetime:
    """Until when a report must be announced to count for the draw of ``epoch``."""
    return epoch.start - epoch.length / 4


def active_validators(epoch: Epoch, reports: Iterable[AnnouncedReport]) -> frozenset[Hotkey]:
    """Who announced a report for any of the 6 epochs before this one, in time for its draw."""
    first = epoch.start - VALIDATOR_EPOCHS * epoch.length
    return frozenset(
        report.validator_hotkey
        for report in reports
        if first <= report.start < epoch.start and report.announced_at <= counted_until(epoch)
    )


def agreed_figures(figures: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The (participants, reached) that most of an epoch's reports give; ties by the smaller ones.

    Raises:
        ValueError: where there are none.
    """
    counted = Counter(figures)
    return min(counted, key=lambda pair: (-counted[pair], pair))


def reported_epochs(
    epoch: Epoch, reports: Iterable[AnnouncedReport], targets: Mapping[datetime, int]
) -> tuple[ReportedEpoch, ...]:
    """The last validated epochs before this one, oldest first, as its adaptive target sees them.

    Args:
        epoch: the epoch whose draw it is.
        reports: reports on epochs before it, in any order.
        targets: what each epoch asked for, by its start. An epoch that it lacks is left out.
    """
    until = counted_until(epoch)
    by_start: dict[datetime, list[AnnouncedReport]] = {}
    for report in reports:
        if report.start < epoch.start and report.announced_at <= until and report.start in targets:
            by_start.setdefault(report.start, []).append(report)
    newest = sorted(by_start)[-EPOCHS_LOOKED_AT:]
    return tuple(
        ReportedEpoch(
            by_start[start][0].epoch_id,
            targets[start],
            *agreed_figures((r.participants, r.reached) for r in by_start[start]),
        )
        for start in newest
    )


class ReportHistory:
    """Announced reports by the epoch that they are on, so that those a draw looks at are found
    without going through all."""

    def __init__(self, reports: Iterable[AnnouncedReport]) -> None:
        ordered = sorted(reports, key=lambda report: report.start)
        groups = [(start, list(found)) for start, found in groupby(ordered, lambda r: r.start)]
        self._starts: Sequence[datetime] = [start for start, _ in groups]
        self._groups = [found for _, found in groups]

    def before(self, epoch: Epoch) -> list[AnnouncedReport]:
        """All reports that the draw of an epoch can depend on."""
        until = counted_until(epoch)
        first = epoch.start - VALIDATOR_EPOCHS * epoch.length
        chosen: list[AnnouncedReport] = []
        validated = 0
        place = bisect_left(self._starts, epoch.start)
        while place and (validated < EPOCHS_LOOKED_AT or self._starts[place - 1] >= first):
            place -= 1
            group = [r for r in self._groups[place] if r.announced_at <= until]
            validated += bool(group)
            chosen += group
        return chosen
