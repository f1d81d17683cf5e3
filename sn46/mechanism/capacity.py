"""A model of what miners can do, to try the adaptive target on (mechanism 2).

A miner collects as many listings in an epoch as it can, and no more than there are. Its report
shows whether that was 95 % of them.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Protocol

from sn46.mechanism.target import EpochVolume, adaptive_target

EPOCHS_TO_SETTLE: Final = 12
"""Two days of four-hour epochs."""

_EPOCHS_UNTIL_REPORTED = 2
_REACHED_PERCENT = 95
_RISE_PERCENT = 105
_FALL_PERCENT = 90
_NORMAL = NormalDist()
_TWO_53 = 1 << 53


class Asked(Protocol):
    """An epoch's target, and the listings that its draw came to."""

    @property
    def target(self) -> int: ...
    @property
    def total(self) -> int: ...


@dataclass(frozen=True)
class Miners:
    """``count`` miners whose capacities lie around the middle one's in a log-normal distribution
    of the standard deviation ``spread``, each a little better or worse from epoch to epoch with
    the standard deviation ``jitter`` (both as shares: 0.05 is 5 %).

    Raises:
        ValueError: where there is no miner, or a share is not from 0 to 1.
    """

    count: int = 32
    spread: float = 0.05
    jitter: float = 0.02

    def __post_init__(self) -> None:
        if self.count < 1 or not (0 <= self.spread <= 1 and 0 <= self.jitter <= 1):
            raise ValueError("at least 1 miner, and shares from 0 to 1, are needed")

    def volume(self, middle: int, asked: Asked, number: int) -> EpochVolume:
        """How epoch ``number`` ends when the middle miner can do ``middle`` listings."""
        reached = sum(
            self._capacity(middle, miner, number) * 100 >= asked.total * _REACHED_PERCENT
            for miner in range(self.count)
        )
        return EpochVolume(self.count, reached, asked.target)

    def level(self, middle: int, share: float) -> float:
        """The largest sum of listings of which ``share`` of the miners reach 95 %."""
        deviation = math.hypot(self.spread, self.jitter)
        return middle * math.exp(deviation * _NORMAL.inv_cdf(1 - share)) * 100 / _REACHED_PERCENT

    def _capacity(self, middle: int, miner: int, number: int) -> float:
        place = _NORMAL.inv_cdf((miner + 0.5) / self.count)
        digest = hashlib.sha256(f"{number}:{miner}".encode()).digest()
        luck = _NORMAL.inv_cdf(((int.from_bytes(digest[:8], "big") >> 11) + 0.5) / _TWO_53)
        return middle * math.exp(self.spread * place + self.jitter * luck)


class AdaptiveTargets:
    """The target of each epoch as the API server would find it from what miners can do.

    An epoch's reports are there 3L/4 after its end and the draw of the next but one is made L/8
    later, so a draw knows the epochs up to the last but one before its own.

    Args:
        miners: who takes part.
        middle: what the middle miner can do in an epoch, by the epoch's number from 0.
        first: the first target.
        least: ``TARGET_MIN``.
        most: ``TARGET_MAX``.
    """

    def __init__(
        self, miners: Miners, middle: Callable[[int], int], *, first: int, least: int, most: int
    ) -> None:
        self._miners = miners
        self._middle = middle
        self._first = first
        self._limits = (least, most)
        self._volumes: list[EpochVolume] = []

    def __call__(self, drawn: Sequence[Asked]) -> int:
        """The target of the epoch after those drawn. Call it once for each epoch, in order."""
        if not drawn:
            return self._first
        known = len(drawn) + 1 - _EPOCHS_UNTIL_REPORTED
        for number in range(len(self._volumes), known):
            volume = self._miners.volume(self._middle(number), drawn[number], number)
            self._volumes.append(volume)
        least, most = self._limits
        return adaptive_target(drawn[-1].target, self._volumes, least=least, most=most)


@dataclass(frozen=True)
class Settling:
    """How targets came to rest.

    ``epochs`` is after how many they stay between ``low`` and ``high``, None where they never do:
    one step down from what 90 % of the miners reach, and one step up from what half of them reach,
    each widened by as much as draws came out beside their targets. ``least`` and ``most`` are the
    targets after the first two days; ``steady`` says that the two lie no further apart than a step
    up from the lower and a step down from the higher, widened in the same way.
    """

    epochs: int | None
    low: int
    high: int
    least: int
    most: int
    steady: bool

    @property
    def holds(self) -> bool:
        """At rest within two days, and steady from then on."""
        return self.epochs is not None and self.epochs <= EPOCHS_TO_SETTLE and self.steady


def settling(
    drawn: Sequence[Asked], miners: Miners, middle: int, *, least: int, most: int
) -> Settling:
    """How the targets of consecutive epochs settle to miners of whom the middle one can do
    ``middle``. ``least`` and ``most`` are ``TARGET_MIN`` and ``TARGET_MAX``.

    Raises:
        ValueError: where nothing was drawn.
    """
    if not drawn:
        raise ValueError("there is no target that could settle")
    targets = [epoch.target for epoch in drawn]
    beside = max(abs(epoch.total - epoch.target) / epoch.target for epoch in drawn)
    fall, rise = _FALL_PERCENT / 100 * (1 - beside), _RISE_PERCENT / 100 * (1 + beside)
    low = min(max(int(miners.level(middle, 0.9) * fall), least), most)
    high = min(max(math.ceil(miners.level(middle, 0.5) * rise), least), most)
    moving = len(targets)
    while moving and low <= targets[moving - 1] <= high:
        moving -= 1
    later = targets[EPOCHS_TO_SETTLE:] or targets[-1:]
    return Settling(
        epochs=moving if moving < len(targets) else None,
        low=low,
        high=high,
        least=min(later),
        most=max(later),
        steady=max(later) * fall <= min(later) * rise,
    )
