"""Setting an epoch's weights: until they are on the chain, and never twice in doubt.

The chain itself tells what an attempt came to: it records when a hotkey last set or committed
weights. An epoch's weights can come only after its evidence deadline, E + L/2, and those of the
epoch before only until E; so an update later than E + L/4 is this epoch's, whoever remembers it:
this process, one that was killed, or a machine that is gone. In a commit, which only the chain can
open, there is nothing else to go by.

An attempt whose end is unknown is waited for as long as it may still be included, and only then
made again.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sn46.chain.base import SUBMISSION_BLOCKS, Chain
from sn46.chain.errors import (
    ExtrinsicRefused,
    NoPermit,
    NotRegistered,
    RateLimited,
    SubmissionUnknown,
    WeightsMismatch,
)
from sn46.clock import Clock
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.names import Hotkey, Ppm
from sn46.mechanism.times import format_time
from sn46.validator.journal import Journal

DOUBT_BLOCKS: Final = 2 * SUBMISSION_BLOCKS
"""So many final blocks after an attempt was begun, it is on the chain or never will be: its own
time, and as much again for what happened between the note of it and its signature."""


class Weighing:
    """One epoch's weights, as often as it is tried."""

    def __init__(
        self, chain: Chain, journal: Journal, *, clock: Clock, hotkey: Hotkey, epoch: Epoch
    ) -> None:
        self._chain = chain
        self._journal = journal
        self._clock = clock
        self._hotkey = hotkey
        self._epoch = epoch

    async def attempt(self, weights: Mapping[Hotkey, Ppm]) -> dict[str, Any]:
        """Find the weights on the chain, or set them; what is to be recorded of that: ``block``,
        ``committed_only``, ``on_chain``, and ``found_on_chain`` where nothing was sent.

        Raises:
            SubmissionUnknown: where an earlier attempt may still be included.
            ChainError: where it did not succeed this time.
        """
        found = await self._find(weights)
        if found is not None:
            return found
        await self._wait_for_earlier()
        await self._begin()
        try:
            receipt = await self._chain.set_weights(weights)
        except WeightsMismatch as error:
            self._settle(error, wrong_until=error.block)
            raise
        except (ExtrinsicRefused, NoPermit, NotRegistered, RateLimited) as error:
            self._settle(error)
            raise
        return {
            "block": receipt.block,
            "committed_only": receipt.committed_only,
            "on_chain": dict(receipt.on_chain),
        }

    @property
    def _begins(self) -> datetime:
        """What was set later than this is of this epoch."""
        return self._epoch.end + self._epoch.length / 4

    async def _find(self, weights: Mapping[Hotkey, Ppm]) -> dict[str, Any] | None:
        update = await self._chain.last_update(self._hotkey)
        wrong_until = int((self._journal.get("attempt") or {}).get("wrong_until", 0))
        if update is None or update.at < self._begins or update.block <= wrong_until:
            return None
        on_chain: Mapping[Hotkey, Ppm] = {}
        if not update.committed:
            if not await self._chain.stands(weights):
                return None
            on_chain = await self._chain.weights_of(self._hotkey)
        return {
            "block": update.block,
            "committed_only": update.committed,
            "on_chain": dict(on_chain),
            "found_on_chain": True,
        }

    async def _wait_for_earlier(self) -> None:
        earlier = self._journal.get("attempt")
        if earlier is None or earlier.get("settled") is not None:
            return
        begun, newest = int(earlier.get("block", 0)), (await self._chain.block()).number
        if newest <= begun + DOUBT_BLOCKS:
            raise SubmissionUnknown(
                f"What came of the weights that were sent after block {begun} is not known. They "
                f"are looked for until block {begun + DOUBT_BLOCKS} is final (now: {newest}), "
                "and only then sent again."
            )

    async def _begin(self) -> None:
        block = (await self._chain.block()).number
        self._put({"at": format_time(self._clock.now()), "block": block, "settled": None})

    def _settle(self, error: Exception, *, wrong_until: int | None = None) -> None:
        """Note that an attempt came to nothing, so that the next one need not wait for it."""
        known = {} if wrong_until is None else {"wrong_until": wrong_until}
        self._put({"settled": str(error), **known})

    def _put(self, changes: Mapping[str, Any]) -> None:
        self._journal.put("attempt", {**(self._journal.get("attempt") or {}), **changes})
