"""Keys of the arena's actors: a name gives a key pair, the same in every run."""

import hashlib
from functools import cache
from typing import Any

import bittensor_core

from sn46.mechanism.names import Hotkey
from sn46.mechanism.signing import Signer

_core: Any = bittensor_core  # a compiled module without type information


@cache
def signer(name: str) -> Signer:
    """The sr25519 key pair of a name."""
    seed = hashlib.sha256(f"arena:{name}".encode()).digest()
    return _core.Keypair.create_from_seed(seed, _core.CRYPTO_SR25519)


def hotkey_of(name: str) -> Hotkey:
    return Hotkey(signer(name).ss58_address)
