"""The adaptive target: how many listings the next epoch asks for (mechanism 2).

Only announced reports go in, so that anyone can compute it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sn46.mechanism.names import PPM, Ppm

EPOCHS_LOOKED_AT = 6
REACHED_VOLUME = Ppm(PPM * 95 // 100)


@dataclass(frozen=True)
class EpochVolume:
    """How many took part in a validated epoch, and how many of them reached 95 % volume."""

    participants: int
    reached: int

    def __post_init__(self) -> None:
        if not 0 <= self.reached <= self.participants:
            raise ValueError("those that reached the volume are some of the participants")


def adaptive_target(
    current: int, recent: Sequence[EpochVolume], *, least: int = 5_000, most: int = 15_000
) -> int:
    """The next target in listings, from the current one and the last validated epochs, which
    ``recent`` holds oldest first.

    Over the last six: × 1.05 where at least 90 % of the participants reached 95 % volume, × 0.9
    where fewer than half did, else unchanged; always between ``least`` and ``most``.
    """
    window = recent[-EPOCHS_LOOKED_AT:]
    participants = sum(epoch.participants for epoch in window)
    reached = sum(epoch.reached for epoch in window)
    target = current
    if participants and reached * 10 >= participants * 9:
        target = current * 105 // 100
    elif participants and reached * 2 < participants:
        target = current * 9 // 10
    return max(least, min(most, target))
