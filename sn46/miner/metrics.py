"""The miner's figures for Prometheus. No label holds a hotkey, an epoch or a ZIP."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sn46.mechanism.times import parse_time
from sn46.miner.progress import Phase, Progress
from sn46.miner.ways import route_metrics

_GAUGES = {
    "zips_total": "ZIPs of this epoch.",
    "zips_done": "ZIPs of this epoch that are complete.",
    "zips_failed": "ZIPs of this epoch that are incomplete.",
    "rows": "Rows kept in this epoch.",
    "rows_expected": "Rows expected in this epoch.",
    "rows_per_minute": "Rows found a minute since scraping began.",
    "answered": "Requests of this epoch that the sources answered.",
    "refused": "Requests of this epoch that were refused or lost.",
    "files_uploaded": "Files of this epoch that the store has.",
    "clock_ahead_seconds": "Seconds by which this machine's clock is ahead of the API's.",
}


class MetricsError(Exception):
    """Metrics cannot be served. The message says what to do."""


class _StatusCollector(Collector):
    """The status as it is when asked for."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def collect(self) -> Iterable[Metric]:
        status = self._progress.status
        for name, text in _GAUGES.items():
            yield GaugeMetricFamily(f"sn46_miner_{name}", text, value=getattr(status, name))
        yield GaugeMetricFamily(
            "sn46_miner_heartbeat_seconds",
            "When the miner last said that it is alive, in seconds since 1970.",
            value=parse_time(status.updated_at).timestamp(),
        )
        phase = GaugeMetricFamily("sn46_miner_phase", "1 for the present phase.", labels=["phase"])
        for name in Phase:
            phase.add_metric([name.value], float(name is status.phase))
        yield phase
        ended = CounterMetricFamily(
            "sn46_miner_epochs", "Epochs that ended since the start.", labels=["result"]
        )
        for result, count in self._progress.ended.items():
            ended.add_metric([result], count)
        yield ended
        yield from route_metrics(self._progress.routes())


@contextmanager
def serving_metrics(progress: Progress, host: str, port: int | None) -> Generator[None]:
    """Answer Prometheus at a port, for as long as this lasts; None serves nothing.

    Raises:
        MetricsError: where the port cannot be listened at.
    """
    if port is None:
        yield
        return
    registry = CollectorRegistry()
    registry.register(_StatusCollector(progress))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise MetricsError(
            f"Metrics cannot be served at {host}:{port} ({error.strerror}). Give METRICS_PORT a "
            "free port, and METRICS_HOST an address of this machine."
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
