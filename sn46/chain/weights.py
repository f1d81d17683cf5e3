"""Weights between the mechanism's ppm and the chain's u16, in integers."""

from collections.abc import Mapping, Sequence

from sn46.chain.errors import ChainError
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.names import PPM, Hotkey, Ppm

U16_MAX = 65_535


def to_ppm(values: Mapping[Hotkey, int]) -> dict[Hotkey, Ppm]:
    """A row of u16 weights as ppm that sum to 1,000,000, by the largest remainder; equal
    remainders go by hotkey, so that every machine gets the same. A row of zeros is empty."""
    total = sum(values.values())
    if total == 0:
        return {}
    shares = {hotkey: divmod(value * PPM, total) for hotkey, value in values.items()}
    missing = PPM - sum(floor for floor, _ in shares.values())
    order = sorted(shares, key=lambda hotkey: (-shares[hotkey][1], hotkey))
    raised = set(order[:missing])
    return {
        hotkey: Ppm(floor + (hotkey in raised))
        for hotkey, (floor, _) in sorted(shares.items())
        if floor or hotkey in raised
    }


def by_uid(weights: Mapping[Hotkey, Ppm], view: ChainView) -> dict[int, int]:
    """The uids that the hotkeys hold in ``view``, with their ppm. The shares of hotkeys that are
    no longer registered go to the subnet owner's hotkey.

    Raises:
        ChainError: where nothing is above zero, a weight is negative, or a share falls to the
            owner's hotkey and that one is not registered either.
    """
    if any(ppm < 0 for ppm in weights.values()) or not any(weights.values()):
        raise ChainError("Weights must not be negative, and one at least must be above zero.")
    uids: dict[int, int] = {}
    for hotkey, ppm in weights.items():
        if ppm == 0:
            continue
        neuron = view.by_hotkey.get(hotkey) or view.by_hotkey.get(view.owner_hotkey)
        if neuron is None:
            raise ChainError(
                f"{hotkey} is no longer registered on subnet {view.netuid}, and neither is the "
                f"subnet owner's hotkey {view.owner_hotkey}, to which its share would fall. "
                "The owner's hotkey must be registered before these weights can be set."
            )
        uids[neuron.uid] = uids.get(neuron.uid, 0) + ppm
    return dict(sorted(uids.items()))


def rows_equal(expected: Sequence[tuple[int, int]], actual: Sequence[tuple[int, int]]) -> bool:
    """Whether two rows of (uid, u16) say the same, whatever their order."""
    return sorted(expected) == sorted((int(uid), int(value)) for uid, value in actual)
