"""Many draws one after the other, and what they add up to over time.

The rules are the server's own (``DrawTable``, ``walk_down``); only where the digests come from can
be chosen. ``keyed_chance`` is what the server does: every draw of a simulation is the one that a
server with that secret and that table would make. ``streamed_chance`` takes them from one stream,
which is several times faster, for planning.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final, TypeAlias

import numpy as np

from sn46.mechanism.assignment import selection_seed
from sn46.mechanism.draw import walk_down
from sn46.mechanism.drawinputs import TIERS, DrawRules, ZipRow
from sn46.mechanism.drawtable import DrawTable, Integers, LastDrawn
from sn46.mechanism.epochs import Epoch

Chance: TypeAlias = Callable[[DrawTable, Integers, Epoch], Sequence[bytes]]
"""Gives a digest of 32 bytes for each of the places, for one epoch's draw."""

_DIGEST: Final = 32


def keyed_chance(secret: bytes) -> Chance:
    """As the API server draws with this ``SECRET_KEY``."""

    def digests(table: DrawTable, places: Integers, epoch: Epoch) -> Sequence[bytes]:
        return table.digests(places, selection_seed(secret, epoch.id))

    return digests


def streamed_chance(seed: str) -> Chance:
    """From one SHAKE-256 stream an epoch, cut to pieces in the order of the rows. Repeatable, but
    no draw that a server would make."""

    def digests(_: DrawTable, places: Integers, epoch: Epoch) -> Sequence[bytes]:
        stream = hashlib.shake_256(f"{seed}:{epoch.id}".encode())
        drawn = stream.digest(_DIGEST * len(places))
        return [drawn[at : at + _DIGEST] for at in range(0, len(drawn), _DIGEST)]

    return digests


def kept_fresh(rows: Iterable[ZipRow], until: date) -> list[ZipRow]:
    """The rows with every figure dated ``until``: imports go on through the simulated time, so
    that no figure grows too old to be drawn."""
    return [row if row.updated_on is None else replace(row, updated_on=until) for row in rows]


@dataclass(frozen=True)
class SimulatedDraw:
    """One epoch's draw: its rules (with its target), the places drawn in the order of the walk,
    their sum in listings, by tier as well, how many were eligible, and what was relaxed.
    ``short`` is how many listings were missing where no draw was possible, else 0."""

    epoch: Epoch
    rules: DrawRules
    places: tuple[int, ...]
    total: int
    by_tier: tuple[int, int, int]
    eligible: int
    relaxed: tuple[str, ...]
    short: int

    @property
    def target(self) -> int:
        return self.rules.target_listings

    @property
    def within_tolerance(self) -> bool:
        return self.rules.least <= self.total <= self.rules.most


def simulated_draws(
    table: DrawTable,
    rules: DrawRules,
    start: Epoch,
    *,
    chance: Chance,
    target_of: Callable[[Sequence[SimulatedDraw]], int] | None = None,
) -> Iterator[SimulatedDraw]:
    """Draw for ever, from ``start`` on, with nothing drawn before.

    An epoch whose draw is not possible draws nothing, as it would at the server.

    Args:
        table: the rows, whose figures stay as they are (``kept_fresh``).
        rules: the owner's settings.
        start: the first epoch.
        chance: where the digests come from.
        target_of: each epoch's target from the draws before it; the rules' own by default.
    """
    drawn: list[SimulatedDraw] = []
    last = LastDrawn.none(table)
    epoch = start
    while True:
        asked = rules
        if target_of is not None:
            asked = replace(rules, target_listings=target_of(drawn))
        draw = _simulated(table, asked, epoch, last, chance)
        if draw.places:
            last.note(np.array(draw.places), epoch)
        drawn.append(draw)
        yield draw
        epoch = epoch.next()


def _simulated(
    table: DrawTable, rules: DrawRules, epoch: Epoch, last: LastDrawn, chance: Chance
) -> SimulatedDraw:
    chosen = table.eligible(last, rules, epoch)
    tiers: list[int] = table.tiers(chosen).tolist()
    order = table.order(chosen, last, epoch, chance(table, chosen, epoch))
    taken = walk_down(table, order, tiers, rules)
    if taken.short:
        return SimulatedDraw(epoch, rules, (), 0, (0, 0, 0), len(chosen), (), taken.short)
    sums = [0] * len(TIERS)
    for place in taken.places:
        sums[tiers[place]] += table.expected_numbers[place]
    return SimulatedDraw(
        epoch=epoch,
        rules=rules,
        places=taken.places,
        total=taken.total,
        by_tier=(sums[0], sums[1], sums[2]),
        eligible=len(chosen),
        relaxed=taken.relaxed,
        short=0,
    )
