"""Several sources as one: each home once, as the first source has it, with what only the others
know. Every row keeps its own source, id and page, so that it is checked where it came from."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import polars as pl

from sn46.mechanism.addresses import normalize_addresses
from sn46.mechanism.listings import OPTIONAL
from sn46.sources.base import Detail, ListingSource, SearchQuery, SourceError
from sn46.sources.splitting import IncompleteSearch

OF_THE_SALE: Final = frozenset({"list_price", "days_on_market", "mls_id"})
"""Filled only where both sources mean the same sale; the rest is the home's own."""

SAME_SALE: Final = timedelta(days=7)
"""The tolerance that checks have for a sale's day (mechanism 7)."""

_Key = tuple[str, str]


@dataclass
class _Gathered:
    """What one source gave, by normalised address and ZIP, and what went wrong."""

    rows: list[tuple[_Key | None, dict[str, Any]]] = field(
        default_factory=list[tuple[_Key | None, dict[str, Any]]]
    )
    by_key: dict[_Key, dict[str, Any]] = field(default_factory=dict[_Key, dict[str, Any]])
    fault: SourceError | None = None


class CombinedSource:
    """A ``ListingSource`` over several.

    Args:
        sources: the most trusted first. A home that two of them know is the first one's.

    Raises:
        ValueError: for fewer than two, or two of one name.
    """

    def __init__(self, sources: Sequence[ListingSource]) -> None:
        names = [source.name for source in sources]
        if len(sources) < 2 or len(set(names)) < len(names):
            raise ValueError("two or more sources of different names are needed")
        self.parts = tuple(sources)

    @property
    def name(self) -> str:
        """Not a prefix of any id: rows keep the names of their sources."""
        return "combined"

    async def search(self, query: SearchQuery) -> AsyncIterator[list[dict[str, Any]]]:
        """See ``ListingSource.search``. All but the first source are read before the first batch,
        at the same time.

        Raises:
            IncompleteSearch: after the last batch, where sources count more than they show, and
                none has another fault.
            SourceError: after the last batch, naming each source that had a fault.
        """
        first, *others = self.parts
        gathered = await _gather_all(others, query)
        faults = {s.name: g.fault for s, g in zip(others, gathered, strict=True) if g.fault}
        given: set[_Key] = set()
        try:
            async for batch in first.search(query):
                keys = _keys(batch)
                given.update(key for key in keys if key)
                pairs = zip(keys, batch, strict=True)
                yield [_filled(key, row, gathered) for key, row in pairs]
        except SourceError as error:
            faults = {first.name: error} | faults
        for number, one in enumerate(gathered):
            fresh = [(key, row) for key, row in one.rows if key is None or key not in given]
            given.update(one.by_key)
            if fresh:
                yield [_filled(key, row, gathered[number + 1 :]) for key, row in fresh]
        if faults:
            raise _one_fault(faults)

    async def detail(self, listing_id: str) -> Detail:
        """See ``ListingSource.detail``: the record of the source that the id names."""
        name = listing_id.partition(":")[0]
        for source in self.parts:
            if source.name == name:
                return await source.detail(listing_id)
        raise SourceError(f"None of the combined sources is {name[:40]!r}.")

    async def close(self) -> None:
        async with AsyncExitStack() as stack:
            for source in self.parts:
                stack.push_async_callback(source.close)


def by_name(sources: Iterable[ListingSource]) -> dict[str, ListingSource]:
    """Sources by the prefix of their ids, combined ones by those of their parts."""
    named: dict[str, ListingSource] = {}
    for source in sources:
        parts = source.parts if isinstance(source, CombinedSource) else (source,)
        named.update({part.name: part for part in parts})
    return named


async def _gather_all(sources: Sequence[ListingSource], query: SearchQuery) -> list[_Gathered]:
    """All of what several sources give, asked at the same time. An error that is no source's,
    such as a full disk, ends all of them."""
    tasks = [asyncio.ensure_future(_gather(source, query)) for source in sources]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _gather(source: ListingSource, query: SearchQuery) -> _Gathered:
    gathered = _Gathered()
    try:
        async for batch in source.search(query):
            for key, row in zip(_keys(batch), batch, strict=True):
                gathered.rows.append((key, row))
                if key:
                    gathered.by_key.setdefault(key, row)
    except SourceError as error:
        gathered.fault = error
    return gathered


def _keys(rows: Sequence[Mapping[str, Any]]) -> list[_Key | None]:
    """What makes rows the same home (mechanism 6); None where a row does not say."""
    frame = pl.DataFrame(
        {
            "address": [row.get("address") for row in rows],
            "zipcode": [row.get("zipcode") for row in rows],
        },
        schema={"address": pl.String, "zipcode": pl.String},
    ).with_columns(normalize_addresses(pl.col("address")))
    return [(address, zip_) if address and zip_ else None for address, zip_ in frame.iter_rows()]


def _filled(key: _Key | None, row: dict[str, Any], others: Iterable[_Gathered]) -> dict[str, Any]:
    """The row with the optional fields that only another source has for this home."""
    if key is None:
        return row
    full = dict(row)
    for other in others:
        theirs = other.by_key.get(key)
        if theirs is None:
            continue
        same_sale = _same_sale(row, theirs)
        for name in OPTIONAL:
            if full.get(name) is None and (same_sale or name not in OF_THE_SALE):
                full[name] = theirs.get(name)
    return full


def _same_sale(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    mine, theirs = one.get("sale_date"), other.get("sale_date")
    return mine is not None and theirs is not None and abs(mine - theirs) <= SAME_SALE


def _one_fault(faults: Mapping[str, SourceError]) -> SourceError:
    incomplete = [fault for fault in faults.values() if isinstance(fault, IncompleteSearch)]
    if len(incomplete) == len(faults):
        return IncompleteSearch(
            sum(fault.found for fault in incomplete), sum(fault.missing for fault in incomplete)
        )
    return SourceError("; ".join(f"{name}: {fault}" for name, fault in faults.items()))
