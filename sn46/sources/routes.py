"""The ways to a source: a route for each proxy, or the direct one where there are none.

Each route has a pace, a circuit breaker and a number of requests that it may carry at once; the
pool of them keeps the limits of the source as a whole.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sn46.clock import Clock
from sn46.sources.politeness import Pace, PaceSettings
from sn46.sources.proxies import Proxy, ProxyList

DIRECT: Final = "direct"
_NO_PROXY_YET: Final = timedelta(seconds=2)
_SAME_WAIT: Final = 0.25
"""Seconds. Routes whose waits differ by less take turns."""

_LATENCY_SHARE: Final = 0.2
"""How much the newest answer counts in a route's latency."""

_MOST_SESSIONS: Final = 10_000


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


@dataclass(frozen=True)
class Limits:
    """How much a source is asked for at most: ``route_at_once`` requests under way over one route
    (browsers have six connections to a host), ``source_at_once`` over all of them, and
    ``source_per_second`` requests a second over all of them."""

    route_at_once: int = 6
    source_at_once: int = 64
    source_per_second: float = 100.0

    def __post_init__(self) -> None:
        if min(self.route_at_once, self.source_at_once) < 1 or self.source_per_second <= 0:
            raise ValueError("limits need 1 or more requests at once and more than 0 a second")


class Rotation(StrEnum):
    """ROTATING: each request takes the route that is free first. STICKY: the requests of one
    session (one ZIP) keep to one route, until it refuses or fails."""

    ROTATING = "rotating"
    STICKY = "sticky"


class Circuit(StrEnum):
    """CLOSED: in use. OPEN: resting. HALF_OPEN: rested, and tried with one request."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True)
class RouteHealth:
    """One route as an operator sees it. ``rate`` is in requests a second and ``latency`` in
    seconds, a mean that forgets; None before the first answer. ``failures`` are requests that were
    refused or lost, ``refusals`` those of them that the source refused."""

    label: str
    circuit: Circuit
    rate: float
    successes: int
    failures: int
    refusals: int
    latency: float | None
    under_way: int


@dataclass(frozen=True)
class Tally:
    """Requests since the beginning over all routes, those included that are gone. ``seconds`` is
    what the answered ones took together."""

    answered: int = 0
    refused: int = 0
    lost: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.answered + other.answered,
            self.refused + other.refused,
            self.lost + other.lost,
            self.seconds + other.seconds,
        )

    def __sub__(self, other: "Tally") -> "Tally":
        return self + Tally(-other.answered, -other.refused, -other.lost, -other.seconds)


class AllResting(Exception):
    """No route can be used now. ``until`` is when one may be tried again."""

    def __init__(
        self, until: datetime, message: str = "Every proxy rests after repeated failures."
    ) -> None:
        super().__init__(message)
        self.until = until


_session: ContextVar[str | None] = ContextVar("session", default=None)


@contextmanager
def session(name: str) -> Generator[None]:
    """Requests made within this, and by tasks started within it, belong together; a sticky pool
    sends them over one route. It is of the task, as sources need not know of sessions."""
    token = _session.set(name)
    try:
        yield
    finally:
        _session.reset(token)


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
        at_once: int,
    ) -> None:
        self.proxy = proxy
        self.label = label
        self.pace = Pace(clock, pace)
        self.left = False
        self.under_way = 0
        self._clock = clock
        self._breaker = breaker
        self._at_once = at_once
        self._in_a_row = 0
        self._rests = 0
        self._fell_short_at: datetime | None = None
        self._open_until: datetime | None = None
        self._on_trial = False
        self._tally = Tally()
        self._latency: float | None = None

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
    def on_trial(self) -> bool:
        """Whether it rested and the request that tries it is under way."""
        return self._on_trial

    @property
    def available(self) -> bool:
        match self.circuit:
            case Circuit.CLOSED:
                return True
            case Circuit.OPEN:
                return False
            case Circuit.HALF_OPEN:
                return not self._on_trial

    @property
    def has_room(self) -> bool:
        """Whether it may carry one more request."""
        return self.under_way < self._at_once

    def readiness(self) -> float:
        """The less, the sooner it sends a request that is given to it now: its wait in seconds.
        One without room has its turn when an answer comes, which may take a second."""
        return self.pace.expected_wait + (0.0 if self.has_room else 1.0)

    @property
    def tally(self) -> Tally:
        """What became of its requests."""
        return self._tally

    @property
    def shortfalls(self) -> int:
        """Its requests that were refused or lost."""
        return self._tally.refused + self._tally.lost

    def succeeded(self, latency: float = 0.0) -> None:
        """An answer came, ``latency`` seconds after it was asked for."""
        self._tally += Tally(answered=1, seconds=latency)
        before = latency if self._latency is None else self._latency
        self._latency = before + _LATENCY_SHARE * (latency - before)
        self._in_a_row = self._rests = 0
        self._open_until = None
        self.pace.succeeded()

    def refused(self, asked_at: datetime, retry_after: float | None) -> None:
        """The source refused what came this way."""
        self._tally += Tally(refused=1)
        self.pace.refused(asked_at, retry_after)
        self._fell_short(asked_at)

    def failed(self, asked_at: datetime | None = None) -> None:
        """What came this way did not reach the source, or got no proper answer."""
        self._tally += Tally(lost=1)
        self._fell_short(asked_at)

    def _fell_short(self, asked_at: datetime | None) -> None:
        """Requests that were under way together fall short together; that counts once, and not
        once more after it made the route rest."""
        before = self._open_until or self._fell_short_at
        if asked_at is not None and before is not None and asked_at < before:
            return
        self._fell_short_at = self._clock.now()
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
            label=self.label,
            circuit=self.circuit,
            rate=self.pace.rate,
            successes=self._tally.answered,
            failures=self.shortfalls,
            refusals=self._tally.refused,
            latency=self._latency,
            under_way=self.under_way,
        )


class ProxyPool:
    """All routes to one source; without proxies, the direct one alone.

    Args:
        proxies: the proxies, or a list of them that changes: a proxy that leaves it is not asked
            again, one that joins it is asked from the next request on, and one that stays keeps
            its health.
        pace, breaker: of each route.
        limits: of each route, and of the source.
        rotation: which route a request takes.
    """

    def __init__(
        self,
        proxies: Iterable[Proxy] | ProxyList = (),
        *,
        clock: Clock,
        pace: PaceSettings | None = None,
        breaker: BreakerSettings | None = None,
        limits: Limits | None = None,
        rotation: Rotation = Rotation.ROTATING,
    ) -> None:
        self._listed = proxies if isinstance(proxies, ProxyList) else ProxyList(proxies)
        self._clock = clock
        self._pace = pace or PaceSettings()
        self._breaker = breaker or BreakerSettings()
        self._limits = limits or Limits()
        self._rotation = rotation
        self._routes: dict[Proxy | None, Route] = {}
        self._line: list[Route] = []
        self._left: list[Route] = []
        self._gone = Tally()
        self._sessions: OrderedDict[str, Route] = OrderedDict()
        self._version: int | None = None
        self._freed = asyncio.Event()
        self._room = asyncio.Semaphore(self._limits.source_at_once)
        most = self._limits.source_per_second
        self._source_pace = Pace(
            clock, PaceSettings(start=most, minimum=min(PaceSettings.minimum, most), maximum=most)
        )
        self._follow()

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes that there are now."""
        self._follow()
        return tuple(self._routes.values())

    @property
    def longest_hold(self) -> float:
        """The longest wait, in seconds, that is made for a source or a proxy."""
        return self._pace.longest_hold

    @property
    def has_other_way(self) -> bool:
        """Whether a request that was refused on one route has another one to try."""
        routes = self.routes
        return len(routes) > 1 and any(route.available for route in routes)

    def choose(self) -> Route:
        """The route for a request: of those that are available the one that could send it first;
        where several could, the one that was chosen longest ago. In a sticky pool, the session's.

        Raises:
            AllResting: where none is available.
        """
        route = self._best()
        self._take(route)
        return route

    async def ready(self) -> None:
        """Return when a route is available or being tried.

        Raises:
            AllResting: where none is, ``longest_hold`` seconds from now.
        """
        wait = timedelta(0)
        for last in (False, True):
            try:
                self._best()
            except AllResting as resting:
                wait = resting.until - self._clock.now()
                if any(route.on_trial for route in self._line):
                    return
                if last or wait > timedelta(seconds=self.longest_hold):
                    raise
                await self._clock.sleep(wait)
            else:
                return

    @asynccontextmanager
    async def way(self) -> AsyncGenerator[Route]:
        """A route for one request, once the limits leave room for it.

        Raises:
            AllResting: where none is available.
        """
        async with self._room:
            route = await self._with_room()
            route.under_way += 1
            short_before = route.shortfalls
            try:
                with route.in_use():
                    yield route
            finally:
                route.under_way -= 1
                if route.shortfalls > short_before:
                    self._leave(route)
                self._freed.set()
                self._freed.clear()

    async def turn(self, route: Route) -> datetime:
        """Wait for the turn of a request over a route, and of the source as a whole. Returns when
        it came."""
        await route.pace.turn()
        return await self._source_pace.turn()

    def health(self) -> tuple[RouteHealth, ...]:
        """The routes as of the latest request. May be called by another thread."""
        return tuple(route.health() for route in tuple(self._routes.values()))

    def tally(self) -> Tally:
        """What became of all requests."""
        return sum((route.tally for route in (*self._routes.values(), *self._left)), self._gone)

    async def _with_room(self) -> Route:
        while True:
            try:
                route = self._best()
            except AllResting:
                if not any(route.on_trial for route in self._line):
                    raise
                route = None
            if route is not None and route.has_room:
                self._take(route)
                return route
            # Every request ends, by its time-out at the latest, and wakes those that wait.
            await self._freed.wait()

    def _best(self) -> Route:
        self._follow()
        own = self._sessions.get(_session.get() or "") if self._is_sticky else None
        if own is not None and own.available and not own.pace.is_held:
            return own
        available: list[Route] = []
        for route in self._line:
            if route.available:
                if route.has_room and route.pace.expected_wait < _SAME_WAIT:
                    return route
                available.append(route)
        if available:
            return min(available, key=Route.readiness)
        if not self._line:
            raise AllResting(
                self._clock.now() + _NO_PROXY_YET,
                "No proxy is known yet, and this program is to ask over proxies only.",
            )
        raise AllResting(min(route.open_until for route in self._line if route.open_until))

    def _take(self, route: Route) -> None:
        self._line.remove(route)
        self._line.append(route)
        name = _session.get()
        if name is not None and self._is_sticky:
            self._sessions[name] = route
            self._sessions.move_to_end(name)
            if len(self._sessions) > _MOST_SESSIONS:
                self._sessions.popitem(last=False)

    def _leave(self, route: Route) -> None:
        """A session whose route refused or failed takes another one next."""
        name = _session.get()
        if name is not None and self._sessions.get(name) is route:
            del self._sessions[name]

    @property
    def _is_sticky(self) -> bool:
        return self._rotation is Rotation.STICKY

    def _follow(self) -> None:
        """Have the routes of the list as it is now."""
        if self._version == self._listed.version:
            return
        self._version = self._listed.version
        wanted: list[Proxy | None] = list(self._listed.proxies)
        if not wanted and not self._listed.required:
            wanted = [None]
        for proxy in [proxy for proxy in self._routes if proxy not in set(wanted)]:
            route = self._routes.pop(proxy)
            route.left = True
            self._line.remove(route)
            self._left.append(route)
        # Those that left count on while a request of theirs is under way.
        ended = [route for route in self._left if not route.under_way]
        self._gone = sum((route.tally for route in ended), self._gone)
        self._left = [route for route in self._left if route.under_way]
        self._sessions = OrderedDict(
            (name, route) for name, route in self._sessions.items() if not route.left
        )
        labels = {route.label for route in self._routes.values()}
        for proxy in wanted:
            if proxy not in self._routes:
                self._routes[proxy] = route = self._new_route(proxy, labels)
                labels.add(route.label)
                self._line.append(route)

    def _new_route(self, proxy: Proxy | None, labels: set[str]) -> Route:
        label = proxy.label if proxy else DIRECT
        number = 1
        # Gateways sell many sessions at one host:port; each gets a name of its own.
        while (name := label if number == 1 else f"{label}#{number}") in labels:
            number += 1
        at_once = self._limits.route_at_once
        return Route(proxy, name, self._clock, self._pace, self._breaker, at_once)
