"""Where listings come from: the protocol that every adapter fulfils."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any, Protocol


class SourceError(Exception):
    """A source could not be asked. Never a statement about a home."""


class Blocked(SourceError):
    """The source refuses us: 403, 429 or a captcha. ``retry_after`` is in seconds, if it said."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SourceUnavailable(SourceError):
    """A time-out, a 5xx, a connection that broke."""


class SourceChanged(SourceError):
    """An answer that does not have the form that this adapter knows."""


class SearchMemory(Protocol):
    """What one search has learnt, kept by whoever asks, so that a search that is begun again goes
    on at the first request that it has no answer to. Values are of JSON, and may hold dates and
    aware times. Whatever ``keep`` raises passes through the search."""

    async def recall(self, name: str) -> Any:
        """What was kept under a name; None where nothing was."""
        ...

    async def keep(self, name: str, value: Any) -> None:
        """Keep a value that is not None. It is safe once this returns."""
        ...


@dataclass(frozen=True)
class SearchQuery:
    """What to search: the sold homes of one ZIP, sold between two dates (inclusive).

    ``memory`` is of this query alone. A source keeps each answer in it before its next request,
    by ``sn46.sources.remembering``; one that does not starts at the beginning when it is asked
    again.
    """

    zipcode: str
    sold_from: date
    sold_to: date
    memory: SearchMemory | None = field(default=None, compare=False, repr=False)


class Lookup(StrEnum):
    """What a source says of one id. There is no third answer: anything else is an error."""

    FOUND = "found"
    NOT_FOUND = "not_found"


@dataclass(frozen=True)
class Detail:
    """The source's own record of one id, as a listing row (mechanism 5), or that it
    positively knows no such property. ``row`` is None exactly when ``lookup`` is NOT_FOUND."""

    lookup: Lookup
    row: Mapping[str, Any] | None


class ListingSource(Protocol):
    """A portal of sold homes. All methods raise SourceError kinds and nothing else."""

    @property
    def name(self) -> str:
        """The prefix of its listing ids: ``{name}:{id}``."""
        ...

    def search(self, query: SearchQuery) -> AsyncIterator[list[dict[str, Any]]]:
        """Every sold home of the query in batches of rows (mechanism 5, without those that the
        source lacks), each home once, split below the source's result limit where needed."""
        ...

    async def detail(self, listing_id: str) -> Detail:
        """The source's record of one ``{name}:{id}``, fetched now."""
        ...

    async def close(self) -> None: ...
