"""Lots: an order that nobody could know, or work towards, while uploads were open.

They follow from ``validation_seed``, and so from a block after the deadline (mechanism 7).
"""

from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.names import Coldkey, Hotkey


def lot_of(seed: str, name: str) -> str:
    """hash(``{validation_seed}:{name}``); the smallest is drawn first."""
    return sha256_hex(f"{seed}:{name}")


def tie_order(seed: str, coldkey: Coldkey, hotkey: Hotkey) -> tuple[str, str]:
    """In which order those with the same score stand (docs/decisions/0062): by
    hash(``{validation_seed}:tie:{coldkey}``), so that more hotkeys are not more lots, then by
    hash(``{validation_seed}:tie:{hotkey}``).

    It is another lot than the one by which those that are checked are drawn: who just missed the
    line would else be the last to be drawn.
    """
    return lot_of(seed, f"tie:{coldkey}"), lot_of(seed, f"tie:{hotkey}")


def reserve_order(seed: str, coldkey: Coldkey, hotkey: Hotkey) -> tuple[str, str]:
    """The same for the drawing of reserves (docs/decisions/0065), with ``reserve:``."""
    return lot_of(seed, f"reserve:{coldkey}"), lot_of(seed, f"reserve:{hotkey}")
