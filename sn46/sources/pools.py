"""The pools of sources that say how their requests fare."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from sn46.sources.base import ListingSource
from sn46.sources.combined import CombinedSource
from sn46.sources.routes import ProxyPool


@runtime_checkable
class Pooled(Protocol):
    """A source that shows the routes over which it asks."""

    @property
    def pool(self) -> ProxyPool: ...


def pools_of(sources: Iterable[ListingSource]) -> list[tuple[str, ProxyPool]]:
    """Each source's name and pool, combined ones by their parts; sources without a pool are left
    out."""
    found: list[tuple[str, ProxyPool]] = []
    for source in sources:
        for part in source.parts if isinstance(source, CombinedSource) else (source,):
            if isinstance(part, Pooled):
                found.append((part.name, part.pool))
    return found
