"""What the rest of the house sees of the chain."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from sn46.mechanism.chainview import Block, ChainView
from sn46.mechanism.names import Hotkey, Ppm

SUBMISSION_BLOCKS: Final = 8
"""Weights that were sent can be included for so many blocks, and never after them (their era)."""


class ChainError(Exception):
    """The chain could not be asked, or refused. The message says what to do."""


class BlockNotFinal(ChainError):
    """No finalized block at or after the moment asked for exists yet: ask again later."""


@dataclass(frozen=True)
class WeightsReceipt:
    """The outcome of setting weights.

    ``on_chain`` is what was read back from the chain, as hotkey to ppm (rounded from the
    chain's u16); it is empty while a timelocked commit has not been revealed, which
    ``committed_only`` says. ``block`` is where the extrinsic was included.
    """

    block: int
    on_chain: Mapping[Hotkey, Ppm]
    committed_only: bool


@dataclass(frozen=True)
class WeightsUpdate:
    """The newest weights that a hotkey set or committed: in which block, and when that was (by
    the chain's regular block time, so some seconds may be missing for each skipped slot).
    ``committed`` says that the subnet takes commits, which only the chain can open."""

    block: int
    at: datetime
    committed: bool


class Chain(Protocol):
    """One subnet of a Bittensor chain, seen as one wallet's hotkey (or read only).

    Every method raises ChainError where the chain cannot be reached or refuses.
    """

    async def view(self) -> ChainView:
        """The subnet at the newest finalized block."""
        ...

    async def view_at(self, moment: datetime) -> ChainView:
        """The subnet at the first finalized block whose timestamp is at or after ``moment``.

        Raises:
            BlockNotFinal: where there is none yet.
        """
        ...

    async def block(self) -> Block:
        """The newest finalized block."""
        ...

    async def set_weights(self, weights: Mapping[Hotkey, Ppm]) -> WeightsReceipt:
        """Set this wallet's weights, looked up by hotkey at this moment; a hotkey that is no
        longer registered gives its share to the subnet owner's. Returns once the extrinsic is
        included, and read back where the subnet is in plaintext mode. What was not included
        within ``SUBMISSION_BLOCKS`` never is."""
        ...

    async def last_update(self, hotkey: Hotkey) -> WeightsUpdate | None:
        """The newest weights that a validator set or committed, found by the chain's own record
        of it; None where it did neither since it was registered."""
        ...

    async def stands(self, weights: Mapping[Hotkey, Ppm]) -> bool:
        """Whether what this wallet has on the chain now is what ``set_weights`` would set there.
        What waits in a commit is not seen."""
        ...

    async def weights_of(self, hotkey: Hotkey) -> Mapping[Hotkey, Ppm]:
        """The weights that a validator has on the chain now, as hotkey to ppm; empty if none."""
        ...

    async def publish_endpoint(self, host: str, port: int) -> None:
        """Announce where this hotkey answers signed HTTP requests (an axon, in chain terms)."""
        ...

    async def endpoints(self) -> Mapping[Hotkey, tuple[str, int]]:
        """Hotkeys of the subnet that announced an endpoint, with host and port."""
        ...

    async def close(self) -> None: ...
