"""A chain on one machine: one subnet in an SQLite file that all processes share.

The bittensor SDK runs over it unchanged, through ``substrate.LocalSubstrate``. Blocks need no
daemon: their numbers follow from the wall clock.
"""

from sn46.chain.local.admin import LocalChain, LocalNeuron, create_local_chain
from sn46.chain.local.errors import LocalChainError
from sn46.chain.local.faults import Fault

__all__ = ["Fault", "LocalChain", "LocalChainError", "LocalNeuron", "create_local_chain"]
