"""How often who may call, and which signed requests were seen: shared between replicas."""

import time
from dataclasses import dataclass
from math import ceil

import limits
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.storage import storage_from_string

from sn46.api.problems import Problem

REPEATS = 20
"""How often one signed request is answered again at no cost to its hotkey's allowance."""


@dataclass(frozen=True)
class Allowance:
    """What is left of a limit; ``reset_seconds`` until it is whole again."""

    limit: int
    remaining: int
    reset_seconds: int

    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_seconds),
        }


class Limiter:
    """Counters in memory or in Valkey.

    A window begins with its first request. Every method raises ``limits.errors.StorageError``
    where Valkey cannot be reached.
    """

    def __init__(self, storage: str) -> None:
        """``storage`` is ``memory://`` or ``valkey://…``."""
        made = storage_from_string(f"async+{storage}", wrap_exceptions=True)
        assert isinstance(made, Storage)
        self._storage = made
        self._window = FixedWindowRateLimiter(made)

    async def count(self, limit: str, name: str, who: str) -> Allowance:
        """Count one request.

        Args:
            limit: such as ``10/hour``.
            name: which limit this is, for the key and the message.
            who: a hotkey or an address.

        Raises:
            Problem: 429, where the allowance is used up.
        """
        item = limits.parse(limit)
        within = await self._window.hit(item, name, who)
        reset_at, remaining = await self._window.get_window_stats(item, name, who)
        # The library dates its windows by the machine's own clock.
        seconds = max(1, ceil(reset_at - time.time()))
        allowance = Allowance(item.amount, int(remaining), seconds)
        if within:
            return allowance
        raise Problem(
            429,
            "too_many_requests",
            f"At most {item.amount} such requests are answered per "
            f"{item.multiples if item.multiples > 1 else ''}{item.GRANULARITY.name}. "
            f"Wait {seconds} s.",
            retry_after=seconds,
            headers=allowance.headers(),
        )

    async def first_seen(self, key: str, keep_seconds: int) -> bool:
        """Whether a key was never shown before within ``keep_seconds``. It is remembered."""
        return await self._storage.incr(f"seen/{key}", keep_seconds) == 1

    async def is_free_repeat(self, key: str) -> bool:
        """Whether this very request was answered before, and not yet too often."""
        return 0 < await self._storage.get(f"repeat/{key}") <= REPEATS

    async def note_answered(self, key: str, keep_seconds: int) -> None:
        """Remember that a signed request was let through."""
        await self._storage.incr(f"repeat/{key}", keep_seconds)

    async def check(self) -> bool:
        """Whether the counters can be reached."""
        return bool(await self._storage.check())
