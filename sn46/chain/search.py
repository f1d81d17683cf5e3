"""Finding a block by its time, in few reads."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from sn46.mechanism.chainview import Block

_GUESSES = 12


async def first_block_at(
    moment: datetime,
    *,
    newest: Block,
    block_time: timedelta,
    read: Callable[[int], Awaitable[Block]],
) -> Block:
    """The first block whose timestamp is at or after ``moment``, given that ``newest``'s is.

    Block times are regular but for a few skipped slots, so a guess by the distance in time lands
    close, and the next one closer. After ``_GUESSES`` of them it halves what is left: never more
    than those and log2 of the chain's length reads. Block 0 is never the answer, since a chain's
    genesis has no timestamp.
    """
    high, low = newest, 0
    guess = high.number - (high.timestamp - moment) // block_time
    reads = 0
    while high.number - low > 1:
        inside = min(max(guess, low + 1), high.number - 1)
        probe = await read(inside if reads < _GUESSES else (low + high.number) // 2)
        reads += 1
        if probe.timestamp >= moment:
            high = probe
            # At least one back: the block before must be seen to be too early.
            guess = high.number - max(1, (high.timestamp - moment) // block_time)
        else:
            low = probe.number
            guess = low + max(1, -((probe.timestamp - moment) // block_time))
    return high
