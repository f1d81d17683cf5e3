"""The ways to a source: proxies with a circuit breaker each, or the direct way where none are.

A proxy's credentials are in its ``url`` alone. Its ``str`` and ``repr`` are ``host:port``, and no
error quotes the text that a proxy was read from.
"""

import re
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from sn46.clock import Clock
from sn46.sources.politeness import Pace, PaceSettings

DIRECT: Final = "direct"
_SCHEMES: Final = ("http", "https")
_FOUR_PARTS: Final = re.compile(r"([^:/@\s]+):(\d{1,5}):([^:@\s]+):(\S+)")


class ProxyError(Exception):
    """A proxy setting that cannot be used. The text names its place, never its content."""


@dataclass(frozen=True)
class Proxy:
    """One proxy. ``url`` holds its credentials and is for the connection alone."""

    url: str = field(repr=False)
    label: str = field(init=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, urlsplit("")
        if parts.scheme not in _SCHEMES or not host or port is None:
            raise ProxyError(
                "a proxy is written http://user:password@host:port (https:// too), host:port or "
                "host:port:user:password"
            )
        object.__setattr__(self, "label", f"{host}:{port}")

    def __str__(self) -> str:
        return self.label


def parse_proxy(text: str) -> Proxy:
    """One proxy from ``http://user:password@host:port``, ``host:port`` or
    ``host:port:user:password``.

    Raises:
        ProxyError: where it is none of these.
    """
    text = text.strip()
    if match := _FOUR_PARTS.fullmatch(text):
        host, port, user, password = match.groups()
        return Proxy(f"http://{quote(user, safe='')}:{quote(password, safe='')}@{host}:{port}")
    return Proxy(text if "://" in text else f"http://{text}")


def proxies_from(entries: Iterable[str | SecretStr]) -> tuple[Proxy, ...]:
    """Proxies from a list, each once.

    Raises:
        ProxyError: naming the entry by its number.
    """
    found: dict[Proxy, None] = {}
    for number, entry in enumerate(entries, 1):
        text = entry.get_secret_value() if isinstance(entry, SecretStr) else entry
        try:
            found[parse_proxy(text)] = None
        except ProxyError as error:
            raise ProxyError(f"Proxy {number} of the list cannot be read: {error}.") from None
    return tuple(found)


def proxies_from_setting(value: str | SecretStr) -> tuple[Proxy, ...]:
    """Proxies from one setting, separated by commas or blanks; empty for none.

    Raises:
        ProxyError: as :func:`proxies_from`.
    """
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return proxies_from(text.replace(",", " ").split())


def read_proxy_file(path: Path) -> tuple[Proxy, ...]:
    """Proxies from a file, one a line; blank lines and lines that start with ``#`` are skipped.

    Raises:
        ProxyError: where the file cannot be read, or naming the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ProxyError(f"The proxy file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise ProxyError(f"The proxy file {path} is not a text file.") from None
    found: dict[Proxy, None] = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                found[parse_proxy(line)] = None
            except ProxyError as error:
                raise ProxyError(f"{path}, line {number}: {error}.") from None
    return tuple(found)


@dataclass(frozen=True)
class BreakerSettings:
    """After ``failures`` failures in a row a proxy rests for ``rest`` seconds, twice as long each
    time it fails again after that, at most ``longest_rest``."""

    failures: int = 3
    rest: float = 30.0
    longest_rest: float = 900.0

    def __post_init__(self) -> None:
        if self.failures < 1 or not 0 < self.rest <= self.longest_rest:
            raise ValueError("a breaker needs failures >= 1 and 0 < rest <= longest_rest")


class Circuit(StrEnum):
    """CLOSED: in use. OPEN: resting. HALF_OPEN: rested, and tried with one request."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True)
class RouteHealth:
    """One route as an operator sees it. ``rate`` in requests a second."""

    label: str
    circuit: Circuit
    rate: float
    successes: int
    failures: int


class AllResting(Exception):
    """Every proxy rests. ``until`` is when the first may be tried again."""

    def __init__(self, until: datetime) -> None:
        super().__init__("Every proxy rests after repeated failures.")
        self.until = until


class Route:
    """One way to the source, with its pace and its breaker. The direct way never rests: there is
    nothing else to use, and its pace slows down by itself."""

    def __init__(
        self,
        proxy: Proxy | None,
        label: str,
        clock: Clock,
        pace: PaceSettings,
        breaker: BreakerSettings,
    ) -> None:
        self.proxy = proxy
        self.label = label
        self.pace = Pace(clock, pace)
        self._clock = clock
        self._breaker = breaker
        self._in_a_row = 0
        self._rests = 0
        self._open_until: datetime | None = None
        self._on_trial = False
        self._successes = 0
        self._failures = 0

    @property
    def circuit(self) -> Circuit:
        if self._open_until is None:
            return Circuit.CLOSED
        return Circuit.OPEN if self._clock.now() < self._open_until else Circuit.HALF_OPEN

    @property
    def open_until(self) -> datetime | None:
        """When its rest ends; None where it does not rest."""
        return self._open_until

    @property
    def available(self) -> bool:
        match self.circuit:
            case Circuit.CLOSED:
                return True
            case Circuit.OPEN:
                return False
            case Circuit.HALF_OPEN:
                return not self._on_trial

    def succeeded(self) -> None:
        self._successes += 1
        self._in_a_row = self._rests = 0
        self._open_until = None
        self.pace.succeeded()

    def refused(self, asked_at: datetime, retry_after: float | None) -> None:
        """The source refused what came this way."""
        self.pace.refused(asked_at, retry_after)
        self.failed()

    def failed(self) -> None:
        """What came this way did not reach the source, or got no proper answer."""
        self._failures += 1
        self._in_a_row += 1
        if self.proxy is None:
            return
        if self._on_trial or self._in_a_row >= self._breaker.failures:
            rest = min(self._breaker.longest_rest, self._breaker.rest * 2.0 ** min(self._rests, 30))
            self._open_until = self._clock.now() + timedelta(seconds=rest)
            self._rests += 1
            self._in_a_row = 0

    @contextmanager
    def in_use(self) -> Generator["Route"]:
        """Use the route for one request; of a rested one, that request is the trial."""
        trial = self.circuit is Circuit.HALF_OPEN
        self._on_trial = self._on_trial or trial
        try:
            yield self
        finally:
            if trial:
                self._on_trial = False

    def health(self) -> RouteHealth:
        return RouteHealth(
            self.label, self.circuit, self.pace.rate, self._successes, self._failures
        )


class ProxyPool:
    """All ways to one source; without proxies, the direct way alone. The available ones take
    turns, so that the load is spread."""

    def __init__(
        self,
        proxies: Iterable[Proxy] = (),
        *,
        clock: Clock,
        pace: PaceSettings | None = None,
        breaker: BreakerSettings | None = None,
    ) -> None:
        self._pace = pace or PaceSettings()
        self.routes = tuple(
            Route(proxy, label, clock, self._pace, breaker or BreakerSettings())
            for proxy, label in _labelled(proxies)
        )
        self._line = list(self.routes)

    @property
    def longest_hold(self) -> float:
        """The longest wait, in seconds, that is made for a source or a proxy."""
        return self._pace.longest_hold

    @property
    def has_other_way(self) -> bool:
        """Whether a request that was refused on one route has another one to try."""
        return len(self.routes) > 1 and any(route.available for route in self.routes)

    def choose(self) -> Route:
        """The available route that was chosen longest ago.

        Raises:
            AllResting: where none is available.
        """
        for route in self._line:
            if route.available:
                self._line.remove(route)
                self._line.append(route)
                return route
        raise AllResting(min(route.open_until for route in self._line if route.open_until))

    def health(self) -> tuple[RouteHealth, ...]:
        return tuple(route.health() for route in self.routes)


def _labelled(proxies: Iterable[Proxy]) -> list[tuple[Proxy | None, str]]:
    """Each way with a name of its own: gateways sell many sessions at one ``host:port``."""
    seen: Counter[str] = Counter()
    ways: list[tuple[Proxy | None, str]] = []
    for proxy in proxies:
        seen[proxy.label] += 1
        number = seen[proxy.label]
        ways.append((proxy, proxy.label if number == 1 else f"{proxy.label}#{number}"))
    return ways or [(None, DIRECT)]
