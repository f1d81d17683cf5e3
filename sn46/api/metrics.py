"""What the server counts, for Prometheus. Labels have few values by construction: routes are
templates and codes those of problem documents; no hotkey, address or epoch is one."""

from datetime import timedelta

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """One process's figures, in a registry of its own. Replicas are scraped one by one."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._by_way: dict[tuple[str, str], Counter] = {}
        self._answered: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._requests = Counter(
            "sn46_api_requests",
            "Answered requests.",
            ("method", "route", "status"),
            registry=registry,
        )
        self._refusals = Counter(
            "sn46_api_refusals",
            "Requests answered with a problem document, by its code.",
            ("route", "status", "code"),
            registry=registry,
        )
        self._signed = Counter(
            "sn46_api_authenticated_requests",
            "Requests of registered hotkeys, by the way they were signed.",
            ("route", "way"),
            registry=registry,
        )
        self._seconds = Histogram(
            "sn46_api_request_seconds",
            "Time from a request's head to the end of its answer.",
            ("route",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._chain_age = Gauge(
            "sn46_api_chain_view_age_seconds",
            "Age of the view of the chain; -1 before the first.",
            registry=registry,
        )
        self._neurons = Gauge(
            "sn46_api_registered_hotkeys", "Hotkeys in the view of the chain.", registry=registry
        )
        self._heartbeat = Gauge(
            "sn46_api_scheduler_heartbeat_age_seconds",
            "Time since the scheduler's last round; -1 before the first.",
            registry=registry,
        )
        self._drawn = Gauge(
            "sn46_api_epoch_drawn", "1 where the running epoch is drawn.", registry=registry
        )

    def answered(
        self, *, method: str, route: str, status: int, seconds: float, code: str | None
    ) -> None:
        """Count one answer; ``route`` is a template, ``OTHER`` for a path that is none."""
        method = method if method in _METHODS else OTHER
        answered = self._answered.get((method, route, status))
        if answered is None:
            answered = self._answered[method, route, status] = (
                self._requests.labels(method, route, str(status)),
                self._seconds.labels(route),
            )
        answered[0].inc()
        answered[1].observe(seconds)
        if code is not None:
            self._refusals.labels(route, str(status), code).inc()

    def authenticated(self, *, route: str, way: str) -> None:
        signed = self._by_way.get((route, way))
        if signed is None:
            signed = self._by_way[route, way] = self._signed.labels(route, way)
        signed.inc()

    def exposition(
        self, *, chain_age: timedelta | None, neurons: int, heartbeat_age: timedelta | None,
        epoch_drawn: bool,
    ) -> bytes:  # fmt: skip
        """All figures in Prometheus' text format, with how the server's parts are now."""
        self._chain_age.set(_seconds(chain_age))
        self._neurons.set(neurons)
        self._heartbeat.set(_seconds(heartbeat_age))
        self._drawn.set(int(epoch_drawn))
        return generate_latest(self._registry)


def _seconds(age: timedelta | None) -> float:
    return -1 if age is None else max(0.0, age.total_seconds())
