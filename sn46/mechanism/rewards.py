"""Winners and weights, in ppm, keyed by hotkey (mechanism 9)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sn46.mechanism.lots import order_by_lot
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
    verified: bool = True


def standing_order(contenders: Collection[Contender], seed: str) -> list[Contender]:
    """The verified before the others; each by final score, ties by lot from the validation
    seed."""
    return sorted(
        contenders,
        key=lambda c: (not c.verified, -c.final, order_by_lot(seed, "tie", c.coldkey, c.hotkey)),
    )


def choose_winners(
    contenders: Collection[Contender], rules: Rules, seed: str
) -> tuple[Hotkey, ...]:
    """The top three, at most MAX_WINNERS_PER_COLDKEY of one coldkey."""
    winners: list[Hotkey] = []
    places: dict[Coldkey, int] = {}
    for contender in standing_order(contenders, seed):
        if len(winners) == len(PRIZES):
            break
        if places.get(contender.coldkey, 0) >= rules.max_winners_per_coldkey:
            continue
        places[contender.coldkey] = places.get(contender.coldkey, 0) + 1
        winners.append(contender.hotkey)
    return tuple(winners)


@dataclass(frozen=True)
class Lot:
    """Those drawn to be checked for all coldkeys that have no candidate or reserve.

    ``paid`` are those of them that stand and of whom something was confirmed, ``disqualified`` how
    many do not stand, ``coldkeys`` how many coldkeys all that were drawn stand for.
    """

    paid: tuple[Hotkey, ...] = ()
    disqualified: int = 0
    coldkeys: int = 0


def shared_part(
    line: Mapping[Hotkey, Coldkey], winning: Collection[Coldkey], lot: Lot
) -> dict[Hotkey, Ppm]:
    """The shared 50,000 ppm by hotkey. Nobody has a part unseen (docs/decisions/0047), nor one of
    whom nothing was confirmed (docs/decisions/0048).

    It is split equally by the coldkeys that have no winner, and a coldkey's part equally by its
    hotkeys of whom something was confirmed. Coldkeys without a candidate or reserve have theirs by
    lot: what is theirs together is split equally by those that were drawn, so that a coldkey's part
    is, over the epochs, what it would be if all were checked. Those drawn of whom nothing was
    confirmed are left out of that; where nobody is left it is nobody's, and so is what those drawn
    and disqualified would have had.

    Args:
        line: candidates and reserves that stand and of whom something was confirmed, with their
            coldkeys.
        winning: the winners' coldkeys.
        lot: those drawn among the others.
    """
    by_coldkey: dict[Coldkey, list[Hotkey]] = {}
    for hotkey, coldkey in sorted(line.items()):
        if coldkey not in winning:
            by_coldkey.setdefault(coldkey, []).append(hotkey)
    heads = len(by_coldkey) + lot.coldkeys
    each = SHARED // heads if heads else 0
    shares = {h: Ppm(each // len(hotkeys)) for hotkeys in by_coldkey.values() for h in hotkeys}
    parts = len(lot.paid) + lot.disqualified
    return shares | {h: Ppm(each * lot.coldkeys // parts) for h in lot.paid}


def weights_of(
    winners: Sequence[Hotkey], shares: Mapping[Hotkey, Ppm], *, burn: Hotkey, rules: Rules
) -> dict[Hotkey, Ppm]:
    """Weights by hotkey; they sum to 1,000,000.

    Args:
        winners: at most three, best first.
        shares: the others' parts of what is shared.
        burn: the subnet owner's hotkey, to which goes what nobody claims.
        rules: of the assignment; ``unclaimed`` says whether the rest is burnt or the claimed
            part scaled up instead.
    """
    weights: dict[Hotkey, int] = {**dict(zip(winners, PRIZES, strict=False)), **shares}
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
