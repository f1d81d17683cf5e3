"""Scores: integers in ppm by floor division, the same on every machine (mechanism 6 and 8)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sn46.mechanism.names import PPM, Hotkey, Ppm

SPEED_WEIGHT: Final = 40
QUALITY_WEIGHT: Final = 40
VOLUME_WEIGHT: Final = 20
SPEED_STEP: Final = 50_000
"""What one rank of speed costs, in ppm."""


def speed_scores(times: Mapping[Hotkey, datetime], grace_end: datetime) -> dict[Hotkey, Ppm]:
    """Speed of each participant by the store's time of its manifest.

    Participants are ordered by max(time, end of the grace); equal times share a rank and the next
    rank counts them all ("1224"): 1,000,000 − 50,000 × (rank − 1), at least 0.
    """
    effective = {hotkey: max(time, grace_end) for hotkey, time in times.items()}
    ordered = sorted(effective.values())
    return {
        hotkey: Ppm(max(0, PPM - SPEED_STEP * ordered.index(time)))
        for hotkey, time in effective.items()
    }


def blend(speed: Ppm, quality: Ppm, volume: Ppm) -> Ppm:
    """(40 × speed + 40 × quality + 20 × volume) // 100. With completeness in quality's place it
    is the preliminary score."""
    total = SPEED_WEIGHT * speed + QUALITY_WEIGHT * quality + VOLUME_WEIGHT * volume
    return Ppm(total // (SPEED_WEIGHT + QUALITY_WEIGHT + VOLUME_WEIGHT))


def quality_score(completeness: Ppm, accuracy: Ppm, shown: Ppm) -> Ppm:
    """completeness × max(0, 2 × shown − 10^6) // 10^6 × accuracy // 10^6: of the filled fields
    those count that the source shows as well, by the share that it shows in the rows that were
    checked, and each that it does not show takes one away. Were it to take nothing, filling more
    would be a wager on the sample that costs nothing (docs/decisions/0064)."""
    counted = max(0, 2 * shown - PPM)
    return Ppm(completeness * counted // PPM * accuracy // PPM)


@dataclass(frozen=True)
class CheckCounts:
    """Merged verdicts over a miner's sampled rows, and how many optional fields the rows that the
    source knows have filled and, of these, it shows."""

    confirmed: int = 0
    contradicted: int = 0
    fake: int = 0
    inconclusive: int = 0
    fields_filled: int = 0
    fields_shown: int = 0

    @property
    def conclusive(self) -> int:
        return self.confirmed + self.contradicted + self.fake

    @property
    def accuracy(self) -> Ppm:
        """CONFIRMED × 10^6 // conclusive, or 10^6 where nothing was conclusive."""
        if not self.conclusive:
            return Ppm(PPM)
        return Ppm(self.confirmed * PPM // self.conclusive)

    @property
    def shown(self) -> Ppm:
        """fields_shown × 10^6 // fields_filled, or 10^6 where none was filled or told."""
        if not self.fields_filled:
            return Ppm(PPM)
        return Ppm(self.fields_shown * PPM // self.fields_filled)

    def to_json(self) -> dict[str, int]:
        return {
            "confirmed": self.confirmed,
            "contradicted": self.contradicted,
            "fake": self.fake,
            "inconclusive": self.inconclusive,
            "fields_filled": self.fields_filled,
            "fields_shown": self.fields_shown,
        }
