"""Getting all of a search out of a portal that shows only its first thousand results.

A search with more matches than the portal shows is cut in two, by date and, within a single day,
by price, until each part is under the limit. Homes that two parts both show count once.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final

from sn46.sources.base import SourceError

_FIRST_PRICE_CUT: Final = 500_000
_LAST_PRICE_CUT: Final = 1 << 31


class IncompleteSearch(SourceError):
    """All that could be had was given, and it was not everything: the source counts ``missing``
    homes more than it shows. Raised after the last batch; the batches before it are good."""

    def __init__(self, found: int, missing: int) -> None:
        super().__init__(
            f"The source counts {found + missing} homes and showed {found} of them; {missing} are "
            "missing. It shows too few for one day and price, or its results moved meanwhile."
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


async def search_whole(whole: Part, read: PageReader) -> AsyncIterator[list[dict[str, Any]]]:
    """Every row of a search in batches, each ``listing_id`` once.

    Raises:
        IncompleteSearch: at the end, where the source counted more than it showed.
        SourceError: whatever ``read`` raises; batches given before it are good.
    """
    waiting, seen, missing = [whole], set[str](), 0
    while waiting:
        part = waiting.pop()
        page = await read(part, 1)
        halves = part.halves() if page.total > page.limit else None
        if halves:
            waiting.extend(reversed(halves))
            continue
        shown: set[str] = set()
        number, others = 1, 0
        while True:
            shown.update(row["listing_id"] for row in page.rows)
            others += page.others
            fresh = _unseen(page.rows, seen)
            if fresh:
                yield fresh
            if (not page.rows and not page.others) or number * page.size >= min(
                page.total, page.limit
            ):
                break
            number += 1
            page = await read(part, number)
        missing += max(0, page.total - len(shown) - others)
    if missing:
        raise IncompleteSearch(len(seen), missing)


def _unseen(rows: Sequence[dict[str, Any]], seen: set[str]) -> list[dict[str, Any]]:
    """The rows whose id was not seen yet, each once; they are seen from now on."""
    fresh: list[dict[str, Any]] = []
    for row in rows:
        if row["listing_id"] not in seen:
            seen.add(row["listing_id"])
            fresh.append(row)
    return fresh
