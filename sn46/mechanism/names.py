"""The domain's words as types, so that a signature reads as a sentence."""

from typing import NewType

Hotkey = NewType("Hotkey", str)
"""An ss58 address of the key that signs for a miner or a validator."""

Coldkey = NewType("Coldkey", str)
"""An ss58 address of the key that owns hotkeys."""

ZipCode = NewType("ZipCode", str)
"""Five digits, a string everywhere, so that 08701 keeps its zero."""

EpochId = NewType("EpochId", str)
"""``%Y-%m-%d-%H:%M`` of an epoch's start in UTC."""

Ppm = NewType("Ppm", int)
"""Millionths, 0 to 1,000,000. All scores and weights are in this unit."""

Uid = NewType("Uid", int)
"""A neuron's place in the metagraph. Re-used by the chain: never a key for state."""

PPM = 1_000_000
