"""Lots: an order that nobody could know, or work towards, while uploads were open.

They follow from ``validation_seed``, and so from a block after the deadline (mechanism 7).
"""

from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.names import Coldkey, Hotkey


def lot_of(seed: str, name: str) -> str:
    """hash(``{validation_seed}:{name}``); the smallest is drawn first."""
    return sha256_hex(f"{seed}:{name}")


def order_by_lot(seed: str, what: str, coldkey: Coldkey, hotkey: Hotkey) -> tuple[str, str]:
    """In which order miners stand where a lot decides ``what``: by
    hash(``{validation_seed}:{what}:{coldkey}``), so that more hotkeys are not more lots, then by
    hash(``{validation_seed}:{what}:{hotkey}``).

    What is decided, a ``tie`` (docs/decisions/0062) or who is a ``reserve`` (0065), has lots of its
    own: who just missed one would else be the last in the next.
    """
    return lot_of(seed, f"{what}:{coldkey}"), lot_of(seed, f"{what}:{hotkey}")
