"""Getting all of a search out of a portal that shows only its first thousand results.

A search with more matches than the portal shows is cut in two, by date and, within a single day,
by price, until each part is under the limit. Homes that two parts both show count once.

The first page of a part tells how many there are; the others are read several at a time, and given
in their order. How many requests are really under way, the pace and limits of the source decide.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final

from sn46.sources.base import SourceError

_FIRST_PRICE_CUT: Final = 500_000
_LAST_PRICE_CUT: Final = 1 << 31
PAGES_AT_ONCE: Final = 8


class IncompleteSearch(SourceError):
    """All that could be had was given, and it was not everything: the source counts ``missing``
    homes more than it shows. Raised after the last batch; the batches before it are good."""

    def __init__(self, found: int, missing: int) -> None:
        super().__init__(
            f"The source counts {found + missing} homes and showed {found} of them; {missing} are "
            "missing. It shows too few for one day and price, its results moved meanwhile, or some "
            "are of a form that is not known."
        )
        self.found = found
        self.missing = missing


@dataclass(frozen=True)
class Part:
    """A piece of a search. All bounds are inclusive; prices in USD, ``max_price`` None is open."""

    sold_from: date
    sold_to: date
    min_price: int = 0
    max_price: int | None = None

    def halves(self) -> "tuple[Part, Part] | None":
        """Two parts that together are this one, without overlap; None where it is one day and
        one price and cannot be cut."""
        if self.sold_from < self.sold_to:
            middle = self.sold_from + (self.sold_to - self.sold_from) // 2
            return (
                replace(self, sold_to=middle),
                replace(self, sold_from=middle + timedelta(days=1)),
            )
        return self._price_halves()

    def _price_halves(self) -> "tuple[Part, Part] | None":
        cut = self._price_cut()
        if cut is None:
            return None
        return replace(self, max_price=cut - 1), replace(self, min_price=cut)

    def _price_cut(self) -> int | None:
        """The lowest price of the upper half."""
        if self.max_price is None:
            cut = max(_FIRST_PRICE_CUT, 2 * self.min_price)
            return cut if cut <= _LAST_PRICE_CUT else None
        if self.min_price >= self.max_price:
            return None
        return (self.min_price + self.max_price) // 2 + 1


@dataclass(frozen=True)
class DatePart(Part):
    """A part of a search at a source that cannot search between two sale prices."""

    def halves(self) -> "tuple[Part, Part] | None":
        return super().halves() if self.sold_from < self.sold_to else None


@dataclass(frozen=True)
class PricePart(Part):
    """A part of a search at a source that cannot search between two dates: its dates stay."""

    def halves(self) -> "tuple[Part, Part] | None":
        return self._price_halves()


@dataclass(frozen=True)
class ResultPage:
    """One page of a part. ``total`` counts all matches, ``limit`` how many of them the source
    shows over all pages, ``size`` how many on each. ``others`` are matches on this page that are
    no homes, such as whole buildings."""

    rows: Sequence[dict[str, Any]]
    total: int
    limit: int
    size: int
    others: int = 0


PageReader = Callable[[Part, int], Awaitable[ResultPage]]
"""Reads one page (from 1) of a part; raises SourceError kinds."""


async def search_whole(
    whole: Part, read: PageReader, *, pages_at_once: int = PAGES_AT_ONCE
) -> AsyncGenerator[list[dict[str, Any]]]:
    """Every row of a search in batches, each ``listing_id`` once. A part's pages after the first
    are read once its first batch was taken, ``pages_at_once`` at a time.

    Raises:
        IncompleteSearch: at the end, where the source counted more than it showed.
        SourceError: whatever ``read`` raises; batches given before it are good.
    """
    seen, missing = set[str](), 0
    async with aclosing(_parts(whole, read)) as parts:
        async for part, first in parts:
            shown: set[str] = set()
            others, total = 0, first.total
            async with aclosing(_pages(part, first, read, pages_at_once)) as pages:
                async for page in pages:
                    shown.update(row["listing_id"] for row in page.rows)
                    others, total = others + page.others, page.total
                    fresh = _unseen(page.rows, seen)
                    if fresh:
                        yield fresh
            missing += max(0, total - len(shown) - others)
    if missing:
        raise IncompleteSearch(len(seen), missing)


async def _parts(whole: Part, read: PageReader) -> AsyncGenerator[tuple[Part, ResultPage]]:
    """The parts that are cut no further, each with its first page. The first pages of both halves
    are asked for at once. Whatever ends it, no reading is left under way."""
    waiting = [(whole, asyncio.ensure_future(read(whole, 1)))]
    try:
        while waiting:
            first = await waiting[-1][1]
            part, _ = waiting.pop()
            halves = part.halves() if first.total > first.limit else None
            if halves is None:
                yield part, first
                continue
            reading = [(half, asyncio.ensure_future(read(half, 1))) for half in halves]
            waiting.extend(reversed(reading))
    finally:
        for _, future in waiting:
            future.cancel()
        await asyncio.gather(*(future for _, future in waiting), return_exceptions=True)


async def _pages(
    part: Part, first: ResultPage, read: PageReader, at_once: int
) -> AsyncGenerator[ResultPage]:
    """The pages of a part in their order, up to the last or to one that shows nothing. Whatever
    ends it, no reading is left under way."""
    reading: deque[asyncio.Future[ResultPage]] = deque()
    page, asked = first, 1
    try:
        while True:
            yield page
            if not page.rows and not page.others:
                return
            last = -(-min(page.total, page.limit) // page.size)
            while asked < last and len(reading) < at_once:
                asked += 1
                reading.append(asyncio.ensure_future(read(part, asked)))
            if not reading:
                return
            page = await reading.popleft()
    finally:
        for future in reading:
            future.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


def _unseen(rows: Sequence[dict[str, Any]], seen: set[str]) -> list[dict[str, Any]]:
    """The rows whose id was not seen yet, each once; they are seen from now on."""
    fresh: list[dict[str, Any]] = []
    for row in rows:
        if row["listing_id"] not in seen:
            seen.add(row["listing_id"])
            fresh.append(row)
    return fresh
