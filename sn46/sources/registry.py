"""Sources by name: ``portal:http://127.0.0.1:1234`` in a setting becomes a ``ListingSource``.

``combined:`` takes several such settings with ``+`` between them. ``#details`` at the end of a
location of ``zillow:`` or ``realtor:`` asks for each home's own page as well.

A source that comes with another package names its factory as an entry point of the group
``sn46.sources``; the entry point's name is the part of the setting before the colon.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Final, cast

from sn46.clock import Clock
from sn46.sources.base import ListingSource
from sn46.sources.browser import BrowserTransport, has_browser
from sn46.sources.combined import CombinedSource
from sn46.sources.fetch import plain_transport
from sn46.sources.options import SourceOptions
from sn46.sources.portal import PortalSource
from sn46.sources.realtor import RealtorSource
from sn46.sources.zillow import ZillowSource

ENTRY_POINT_GROUP: Final = "sn46.sources"

SourceFactory = Callable[[str, Clock, SourceOptions], ListingSource]
"""Makes a source of the setting's part after the colon; raises ValueError where it cannot."""


class SourceSettingError(Exception):
    """A source setting that names no source, or one that cannot be made."""


_DETAILS: Final = "#details"


def _portal(location: str, clock: Clock, options: SourceOptions) -> ListingSource:
    return PortalSource(location, clock=clock, options=options)


def _zillow(location: str, clock: Clock, options: SourceOptions) -> ListingSource:
    url, options = _with_details(location, options)
    if url.startswith("https:") and not has_browser():
        raise ValueError("Zillow needs a browser's connections: pip install 'sn46[zillow]'")
    transport = BrowserTransport if has_browser() else plain_transport
    return ZillowSource(url, clock=clock, options=options, transport=transport)


def _realtor(location: str, clock: Clock, options: SourceOptions) -> ListingSource:
    url, options = _with_details(location, options)
    return RealtorSource(url, clock=clock, options=options)


def _combined(location: str, clock: Clock, options: SourceOptions) -> ListingSource:
    parts = [part.strip() for part in location.split("+")]
    return CombinedSource([open_source(part, clock=clock, options=options) for part in parts])


def _with_details(location: str, options: SourceOptions) -> tuple[str, SourceOptions]:
    if not location.endswith(_DETAILS):
        return location, options
    return location.removesuffix(_DETAILS), replace(options, fetch_details=True)


_BUILT_IN: Final[Mapping[str, SourceFactory]] = {
    "combined": _combined,
    "portal": _portal,
    "realtor": _realtor,
    "zillow": _zillow,
}


def source_kinds() -> tuple[str, ...]:
    """The names that a source setting may begin with, sorted."""
    return tuple(sorted({*_BUILT_IN, *entry_points(group=ENTRY_POINT_GROUP).names}))


def open_source(
    setting: str, *, clock: Clock, options: SourceOptions | None = None
) -> ListingSource:
    """The source that ``KIND:LOCATION`` names.

    Raises:
        SourceSettingError: where there is no such kind, its package is broken, or it cannot use
            the location.
    """
    kind, colon, location = setting.partition(":")
    factory = _factory(kind) if colon else None
    if factory is None:
        raise SourceSettingError(
            f"The source {kind!r} {'is not known' if colon else 'has no location'}. It is written "
            "KIND:LOCATION, such as portal:http://127.0.0.1:1234; known kinds: "
            f"{', '.join(source_kinds())}."
        )
    try:
        return factory(location, clock, options or SourceOptions())
    except ValueError as error:
        raise SourceSettingError(f"The source {kind!r} cannot be used: {error}.") from error


def _factory(kind: str) -> SourceFactory | None:
    if kind in _BUILT_IN:
        return _BUILT_IN[kind]
    for point in entry_points(group=ENTRY_POINT_GROUP, name=kind):
        try:
            return cast(SourceFactory, point.load())
        except (ImportError, AttributeError) as error:
            raise SourceSettingError(
                f"The source {kind!r} is installed, but {point.value} cannot be loaded: {error}."
            ) from error
    return None
