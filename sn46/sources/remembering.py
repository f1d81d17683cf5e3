"""Searches that go on where they were: each answer is kept before the next request is made.

A search that a crash cut short is begun again with the same memory. Its walk is the same as
before, and takes every page that it has from there, so nothing that was answered is asked again.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, Final, cast

from sn46.sources.base import SearchMemory, SearchQuery, SourceChanged, SourceError
from sn46.sources.splitting import PageReader, Part, ResultPage

Row = dict[str, Any]
_DETAILS: Final = "details"
MOST_ODD: Final = 5
"""So many homes one after the other whose own records cannot be read: the source has changed."""


class Remembering:
    """One source's part of a query's memory; without one, nothing is remembered.

    Args:
        source: the source's name: a combined search has several sources and one memory.
    """

    def __init__(self, query: SearchQuery, source: str) -> None:
        self._memory: SearchMemory | None = query.memory
        self._zipcode = query.zipcode
        self._source = source
        self._odd = 0

    async def once(self, name: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        """What ``ask`` answered, now or before; it must not be None."""
        if self._memory is None:
            return await ask()
        kept = await self._memory.recall(f"{self._source} {name}")
        if kept is None:
            kept = await ask()
            await self._memory.keep(f"{self._source} {name}", kept)
        return kept

    def pages(self, read: PageReader) -> PageReader:
        """The same pages, each asked for once. A page of homes elsewhere alone, as portals in
        trouble show, is no answer, and asked for again."""
        memory = self._memory
        if memory is None:
            return read

        async def reading(part: Part, number: int) -> ResultPage:
            name = f"{self._source} {part_name(part)} page {number}"
            kept = await memory.recall(name)
            if kept is not None:
                return ResultPage(**kept)
            page = await read(part, number)
            if not page.rows or any(row.get("zipcode") == self._zipcode for row in page.rows):
                await memory.keep(name, {f.name: getattr(page, f.name) for f in fields(page)})
            return page

        return reading

    async def filled(
        self, rows: list[Row], details: Callable[[Row], Awaitable[Mapping[str, Any] | None]]
    ) -> SourceError | None:
        """Fill what rows lack from the homes' own records, in place; ``details`` gives a record,
        None where the source has none (any more). A home whose record has a form that is not known
        stays as it is; ``MOST_ODD`` of them in a row are the source's fault.

        Returns:
            what stopped it, if anything did: the rows are good without, and are not to be lost.
        """
        for number, row in enumerate(rows):

            async def added(row: Row = row) -> Row:
                record = await details(row) or {}
                return {k: v for k, v in record.items() if row[k] is None and v is not None}

            try:
                rows[number] = row | await self.once(f"{_DETAILS} {row['listing_id']}", added)
                self._odd = 0
            except SourceChanged as error:
                self._odd += 1
                if self._odd >= MOST_ODD:
                    return error
            except SourceError as error:
                return error
        return None


def remembered_rows(entries: Iterable[tuple[str, Any]], zipcode: str) -> list[Row]:
    """The sales of a ZIP in what searches kept, each ``listing_id`` once: what is there to show
    for a search that was never finished."""
    rows: dict[str, Row] = {}
    for name, value in entries:
        words = name.split(" ")
        if not isinstance(value, dict):
            continue
        answer = cast(dict[str, Any], value)
        if words[1:2] == [_DETAILS]:
            row = rows.get(words[2], {})
            row.update({k: v for k, v in answer.items() if row and row.get(k) is None})
            continue
        for row in answer.get("rows", ()):
            if row.get("zipcode") == zipcode and row.get("sale_price") and row.get("sale_date"):
                rows.setdefault(row["listing_id"], dict(row))
    return list(rows.values())


def part_name(part: Part) -> str:
    """The same for the same part of a search, in every run."""
    top = "" if part.max_price is None else part.max_price
    return f"{part.sold_from}..{part.sold_to} {part.min_price}..{top}"
