"""The adaptive target: how many listings the next epoch asks for (mechanism 2, decision 32).

Only announced reports go in, so that anyone can compute it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sn46.mechanism.names import PPM, Ppm

EPOCHS_TOGETHER: Final = 6
"""So many of the newest epochs with the current target are judged together."""
EPOCHS_LOOKED_AT: Final = 12
"""So many validated epochs count at all; a target that was too much is remembered as long."""
REACHED_VOLUME: Final = Ppm(PPM * 95 // 100)


@dataclass(frozen=True)
class EpochVolume:
    """How many took part in a validated epoch, and how many of them reached 95 % volume.

    ``target`` is what that epoch asked for, in listings; None stands for the current target.
    """

    participants: int
    reached: int
    target: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.reached <= self.participants:
            raise ValueError("those that reached the volume are some of the participants")

    @property
    def too_much(self) -> bool:
        """Fewer than half reached the volume."""
        return self.reached * 2 < self.participants


def adaptive_target(
    current: int, recent: Sequence[EpochVolume], *, least: int = 5_000, most: int = 15_000
) -> int:
    """The next target in listings, from the current one and the last validated epochs, which
    ``recent`` holds oldest first.

    Judged are the epochs since the target last moved, at most the last six, together: × 1.05 where
    at least 90 % of the participants reached 95 % volume, × 0.9 where fewer than half did, else
    unchanged; always between ``least`` and ``most``. It does not rise to 95 % or more of a target
    that was too much for more than half in one of the last twelve.
    """
    looked_at = recent[-EPOCHS_LOOKED_AT:]
    judged = _since_the_last_move(current, looked_at)
    participants = sum(epoch.participants for epoch in judged)
    reached = sum(epoch.reached for epoch in judged)
    target = current
    if participants and reached * 10 >= participants * 9:
        risen = current * 105 // 100
        known_limits = [epoch.target or current for epoch in looked_at if epoch.too_much]
        if all(risen * 100 < limit * 95 for limit in known_limits):
            target = risen
    elif reached * 2 < participants:
        target = current * 9 // 10
    return max(least, min(most, target))


def _since_the_last_move(current: int, epochs: Sequence[EpochVolume]) -> list[EpochVolume]:
    """The newest epochs without a break that asked for the current target: six at most, and none
    while the target's first epoch is not validated."""
    judged: list[EpochVolume] = []
    for epoch in reversed(epochs[-EPOCHS_TOGETHER:]):
        if epoch.target not in (None, current):
            break
        judged.append(epoch)
    return judged
