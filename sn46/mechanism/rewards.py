"""Winners and weights, in ppm, keyed by hotkey (mechanism 9)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sn46.mechanism.names import PPM, Coldkey, Hotkey, Ppm
from sn46.mechanism.rules import Rules

PRIZES: Final = (500_000, 300_000, 150_000)
SHARED: Final = 50_000


@dataclass(frozen=True)
class Contender:
    """A candidate that was not disqualified. ``verified`` tells whether enough of its rows could be
    checked."""

    hotkey: Hotkey
    coldkey: Coldkey
    final: Ppm
    time: datetime
    verified: bool = True


def standing_order(contenders: Collection[Contender]) -> list[Contender]:
    """The verified before the others; each by final score, ties by time, then hotkey."""
    return sorted(contenders, key=lambda c: (not c.verified, -c.final, c.time, c.hotkey))


def choose_winners(contenders: Collection[Contender], rules: Rules) -> tuple[Hotkey, ...]:
    """The top three, at most MAX_WINNERS_PER_COLDKEY of one coldkey."""
    winners: list[Hotkey] = []
    places: dict[Coldkey, int] = {}
    for contender in standing_order(contenders):
        if len(winners) == len(PRIZES):
            break
        if places.get(contender.coldkey, 0) >= rules.max_winners_per_coldkey:
            continue
        places[contender.coldkey] = places.get(contender.coldkey, 0) + 1
        winners.append(contender.hotkey)
    return tuple(winners)


def weights_of(
    winners: Sequence[Hotkey],
    honest: Mapping[Hotkey, Coldkey],
    coldkeys: Mapping[Hotkey, Coldkey],
    *,
    burn: Hotkey,
    rules: Rules,
) -> dict[Hotkey, Ppm]:
    """Weights by hotkey; they sum to 1,000,000.

    Args:
        winners: at most three, best first.
        honest: every participant that was not disqualified, with its coldkey.
        coldkeys: the winners' coldkeys.
        burn: the subnet owner's hotkey, to which goes what nobody claims.
        rules: of the assignment; ``unclaimed`` says whether the rest is burnt or the claimed
            part scaled up instead.
    """
    weights: dict[Hotkey, int] = dict(zip(winners, PRIZES, strict=False))
    winning = {coldkeys[hotkey] for hotkey in winners}
    sharing: dict[Coldkey, list[Hotkey]] = {}
    for hotkey, coldkey in sorted(honest.items()):
        if coldkey not in winning:
            sharing.setdefault(coldkey, []).append(hotkey)
    for hotkeys in sharing.values():
        each = SHARED // len(sharing) // len(hotkeys)
        for hotkey in hotkeys:
            weights[hotkey] = each
    claimed = sum(weights.values())
    if rules.unclaimed == "redistribute" and claimed:
        weights = _scaled(weights, claimed)
        claimed = PPM
    if claimed < PPM:
        weights[burn] = weights.get(burn, 0) + PPM - claimed
    return {hotkey: Ppm(weight) for hotkey, weight in sorted(weights.items()) if weight}


def _scaled(weights: Mapping[Hotkey, int], claimed: int) -> dict[Hotkey, int]:
    """Scaled to 1,000,000 by floor; what floors leave goes to the largest, ties by hotkey."""
    scaled = {hotkey: weight * PPM // claimed for hotkey, weight in weights.items()}
    largest = min(scaled, key=lambda hotkey: (-scaled[hotkey], hotkey))
    scaled[largest] += PPM - sum(scaled.values())
    return scaled
