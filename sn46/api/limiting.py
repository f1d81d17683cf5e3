"""How often who may call, and which signed requests were seen: shared between replicas."""

import time
from functools import lru_cache
from math import ceil
from typing import NamedTuple, Protocol

import limits
from limits.aio.storage import Storage
from limits.storage import storage_from_string

from sn46.api.problems import Problem

IN_MEMORY = "memory://"
_VALKEY_SECONDS = 5
"""How long Valkey may take to answer; without an end, requests would wait for ever."""

REPEATS = 20
"""How often one signed request is answered again at no cost to its hotkey's allowance."""


class Allowance(NamedTuple):
    """What is left of a limit; ``reset_seconds`` until it is whole again."""

    limit: int
    remaining: int
    reset_seconds: int

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """As they go over the wire."""
        return [
            (b"ratelimit-limit", b"%d" % self.limit),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % self.reset_seconds),
        ]

    def headers(self) -> dict[str, str]:
        """The same as texts."""
        return {name.decode(): value.decode() for name, value in self.raw_headers()}


class Counters(Protocol):
    """What is asked of the library's storages, and of our own."""

    async def incr(self, key: str, expiry: int) -> int:
        """Add one, to end ``expiry`` seconds after the first; the new count."""
        ...

    async def get(self, key: str) -> int: ...

    async def get_expiry(self, key: str) -> float:
        """When the counter ends, in seconds since 1970."""
        ...

    async def check(self) -> bool:
        """Whether the counters can be reached."""
        ...


class MemoryCounters:
    """Counters of one process.

    The library's own sweeps all of its keys again and again; with one key for every signed
    request of the last minute, that cost more than all else of a request. Here a counter is
    dropped once, in the second after its end. Plain numbers are kept, since the garbage collector
    walks through everything else.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._ends: dict[str, float] = {}
        self._ending: dict[int, list[str]] = {}
        self._swept = 0

    async def incr(self, key: str, expiry: int) -> int:
        now = time.time()
        self._sweep(int(now))
        if self._ends.get(key, 0) > now:
            self._counts[key] += 1
        else:
            self._counts[key] = 1
            self._ends[key] = end = now + expiry
            self._ending.setdefault(int(end), []).append(key)
        return self._counts[key]

    async def get(self, key: str) -> int:
        return self._counts[key] if self._ends.get(key, 0) > time.time() else 0

    async def get_expiry(self, key: str) -> float:
        return self._ends.get(key, time.time())

    async def check(self) -> bool:
        return True

    @property
    def size(self) -> int:
        """How many counters are kept."""
        return len(self._counts)

    def _sweep(self, second: int) -> None:
        """Drop what ended before this second."""
        if second == self._swept:
            return
        self._swept = second
        for ended in [s for s in self._ending if s < second]:
            for key in self._ending.pop(ended):
                # A key that began anew has a later end, and stands in its list as well.
                if self._ends.get(key, second) < second:
                    del self._ends[key], self._counts[key]


class Limiter:
    """Counters in memory or in Valkey.

    A window begins with its first request. Every method raises ``limits.errors.StorageError``
    where Valkey cannot be reached.
    """

    def __init__(self, storage: str) -> None:
        """``storage`` is ``memory://`` or ``valkey://…``."""
        self._storage: Counters = MemoryCounters()
        if storage != IN_MEMORY:
            made = storage_from_string(
                f"async+{storage}",
                wrap_exceptions=True,
                socket_timeout=_VALKEY_SECONDS,
                socket_connect_timeout=_VALKEY_SECONDS,
            )
            assert isinstance(made, Storage)
            self._storage = made

    async def count(self, limit: str, name: str, who: str) -> Allowance:
        """Count one request.

        Args:
            limit: such as ``10/hour``.
            name: which limit this is, for the key and the message.
            who: a hotkey or an address.

        Raises:
            Problem: 429, where the allowance is used up.
        """
        item = _parsed(limit)
        window, key = item.get_expiry(), f"limit/{name}/{who}/{limit}"
        used = await self._storage.incr(key, window)
        # The library dates its windows by the machine's own clock.
        seconds = window
        if used > 1:
            seconds = max(1, ceil(await self._storage.get_expiry(key) - time.time()))
        allowance = Allowance(item.amount, max(0, item.amount - used), seconds)
        if used <= item.amount:
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
        return await self._storage.check()


@lru_cache(maxsize=64)
def _parsed(limit: str) -> limits.RateLimitItem:
    return limits.parse(limit)
