"""Epochs and the moments in them (mechanism 1).

Epochs start at whole multiples of their length counted from 00:00 UTC, so the length must
divide a day. With start S and length L the moments are::

    S − L/8     the draw is made and stored          draw_at
    S           it becomes readable                  start
    S + L = E   submission deadline                  end
    E + L/8     quick validation done                candidates_by
    E + L/2     evidence deadline                    evidence_deadline
    E + 3L/4    scores, report and weights           weights_by
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import cast

from sn46.mechanism.errors import EpochError
from sn46.mechanism.names import EpochId

DEFAULT_EPOCH_SECONDS = 14_400
_DAY = 86_400
_MIN_EPOCH_SECONDS = 60
_YEARS = (2, 9998)
"""Within these, every moment of an epoch and of its neighbours is one that a date can hold."""
_ID = re.compile(r"(\d{4})-(\d\d)-(\d\d)-(\d\d):(\d\d)", re.ASCII)
_OLDER_ID = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d)-(\d\d)-(\d\d)", re.ASCII)


def check_epoch_seconds(seconds: int) -> int:
    """The length itself, when the rules allow it.

    Raises:
        EpochError: where it is under 60 s or does not divide a day.
    """
    if seconds < _MIN_EPOCH_SECONDS or _DAY % seconds:
        raise EpochError(
            f"An epoch of {seconds} seconds is not possible: the length must be at least "
            f"{_MIN_EPOCH_SECONDS} seconds and divide a day (60, 90, 120, 300, 3600, 14400, …)."
        )
    return seconds


@dataclass(frozen=True, order=True)
class Epoch:
    """One epoch: its start (aware, UTC) and its length in seconds."""

    start: datetime
    seconds: int = DEFAULT_EPOCH_SECONDS

    def __post_init__(self) -> None:
        check_epoch_seconds(self.seconds)
        if not _YEARS[0] <= self.start.year <= _YEARS[1]:
            raise EpochError(f"No epoch lies in the year {self.start.year}.")
        if self.start.utcoffset() != timedelta(0):
            raise EpochError(f"An epoch's start must be in UTC, not {self.start!r}.")
        midnight = self.start.replace(hour=0, minute=0, second=0, microsecond=0)
        if (self.start - midnight) % self.length:
            raise EpochError(
                f"No epoch of {self.seconds} seconds starts at {self.start.isoformat()}: epochs "
                "start at whole multiples of their length counted from 00:00 UTC."
            )

    @cached_property
    def length(self) -> timedelta:
        return timedelta(seconds=self.seconds)

    @cached_property
    def id(self) -> EpochId:
        """``%Y-%m-%d-%H:%M`` of the start."""
        return cast(EpochId, f"{self.start.year:04d}-{self.start:%m-%d-%H:%M}")

    @property
    def draw_at(self) -> datetime:
        return self.start - self.length / 8

    @cached_property
    def end(self) -> datetime:
        """The submission deadline, E."""
        return self.start + self.length

    @property
    def candidates_by(self) -> datetime:
        return self.end + self.length / 8

    @property
    def evidence_deadline(self) -> datetime:
        return self.end + self.length / 2

    @property
    def weights_by(self) -> datetime:
        return self.end + self.length * 3 / 4

    @property
    def results_deadline(self) -> datetime:
        """E + L: validators' upload credentials for this epoch end here."""
        return self.end + self.length

    def next(self) -> "Epoch":
        return Epoch(self.end, self.seconds)

    def previous(self) -> "Epoch":
        return Epoch(self.start - self.length, self.seconds)

    def contains(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


def epoch_at(moment: datetime, seconds: int = DEFAULT_EPOCH_SECONDS) -> Epoch:
    """The epoch that a moment (aware) falls into.

    Raises:
        EpochError: where the length is not allowed or the moment has no time zone.
    """
    check_epoch_seconds(seconds)
    if moment.tzinfo is None:
        raise EpochError("A moment without a time zone belongs to no epoch.")
    utc = moment.astimezone(UTC)
    midnight = utc.replace(hour=0, minute=0, second=0, microsecond=0)
    into = int((utc - midnight).total_seconds()) // seconds * seconds
    return Epoch(midnight + timedelta(seconds=into), seconds)


def parse_epoch_id(text: str, seconds: int = DEFAULT_EPOCH_SECONDS) -> Epoch:
    """The epoch that an id names: ``2024-03-15-16:00``, or ``2024-03-15T16-00-00`` as older
    clients write it.

    Both forms name the minute in which the epoch starts: where the length is no whole number of
    minutes that may be after its first second (an epoch of 90 s starts at 00:01:30 and is called
    ``…-00:01``). The older form may give the exact second instead.

    Raises:
        EpochError: where the text is neither form, no date, or no epoch's start.
    """
    match = _ID.fullmatch(text) or _OLDER_ID.fullmatch(text)
    if not match:
        raise EpochError(
            f"{text[:40]!r} is not an epoch id. Write it as 2024-03-15-16:00 "
            "(the start of the epoch in UTC)."
        )
    year, month, day, hour, minute, *second = (int(part) for part in match.groups())
    try:
        named = datetime(year, month, day, hour, minute, *second, tzinfo=UTC)
    except ValueError as error:
        raise EpochError(f"{text!r} is not a date and time that exists.") from error
    # Epochs are a minute long or longer, so at most one starts within the minute; if one does,
    # the minute's last second lies in it.
    names_minute = not any(second)
    epoch = epoch_at(named + timedelta(seconds=59) if names_minute else named, seconds)
    if epoch.start != named and not (names_minute and epoch.start > named):
        raise EpochError(
            f"No epoch of {seconds} seconds starts at {text}. Epochs start at whole multiples "
            "of their length counted from 00:00 UTC."
        )
    return epoch
