"""How the proxies of the miner's sources fare, for its status and for Prometheus."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from sn46.sources.base import ListingSource
from sn46.sources.pools import pools_of
from sn46.sources.routes import Circuit

MOST_SHOWN: Final = 50
"""Routes in a status; the metrics have all."""

_LABELS: Final = ("source", "proxy")


@dataclass(frozen=True)
class RouteStatus:
    """One way to a source: its proxy's ``host:port``, or ``direct``. ``rate`` is the most requests
    a second that it is asked at present, ``latency`` the seconds that an answer takes (None before
    the first); ``answered``, ``refused`` and ``lost`` count its requests since the start."""

    source: str
    proxy: str
    circuit: str
    rate: float
    latency: float | None
    answered: int
    refused: int
    lost: int
    under_way: int


def routes_of(sources: Iterable[ListingSource]) -> tuple[RouteStatus, ...]:
    """Every way to every source, in the order of SOURCES."""
    return tuple(
        RouteStatus(
            source=name,
            proxy=health.label,
            circuit=health.circuit.value,
            rate=round(health.rate, 2),
            latency=None if health.latency is None else round(health.latency, 3),
            answered=health.successes,
            refused=health.refusals,
            lost=health.failures - health.refusals,
            under_way=health.under_way,
        )
        for name, pool in pools_of(sources)
        for health in pool.health()
    )


def shown_routes(routes: tuple[RouteStatus, ...]) -> tuple[RouteStatus, ...]:
    """Those to show where there are too many: the ones with the most trouble first."""
    if len(routes) <= MOST_SHOWN:
        return routes
    return tuple(sorted(routes, key=_trouble, reverse=True)[:MOST_SHOWN])


def route_lines(routes: Iterable[RouteStatus]) -> Iterator[str]:
    """A line each."""
    for route in routes:
        latency = "no answer yet" if route.latency is None else f"{1000 * route.latency:.0f} ms"
        resting = "" if route.circuit == Circuit.CLOSED else f", {route.circuit.replace('_', ' ')}"
        yield (
            f"  {route.source} over {route.proxy}: {route.answered} answered, {route.refused} "
            f"refused, {route.lost} lost, {latency}, at most {route.rate:g} a second{resting}"
        )


def route_metrics(routes: Iterable[RouteStatus]) -> Iterator[Metric]:
    """The same for Prometheus. The labels hold no credentials."""
    requests = CounterMetricFamily(
        "sn46_miner_proxy_requests",
        "Requests over a proxy since the start.",
        labels=[*_LABELS, "result"],
    )
    rate = GaugeMetricFamily(
        "sn46_miner_proxy_rate", "Most requests a second over a proxy at present.", labels=_LABELS
    )
    latency = GaugeMetricFamily(
        "sn46_miner_proxy_latency_seconds", "How long an answer takes of late.", labels=_LABELS
    )
    resting = GaugeMetricFamily(
        "sn46_miner_proxy_resting", "1 for a proxy that rests or is tried again.", labels=_LABELS
    )
    for route in routes:
        way = (route.source, route.proxy)
        for result in ("answered", "refused", "lost"):
            requests.add_metric([*way, result], getattr(route, result))
        rate.add_metric(way, route.rate)
        resting.add_metric(way, float(route.circuit != Circuit.CLOSED))
        if route.latency is not None:
            latency.add_metric(way, route.latency)
    yield from (requests, rate, latency, resting)


def _trouble(route: RouteStatus) -> tuple[bool, int]:
    return route.circuit != Circuit.CLOSED, route.refused + route.lost
