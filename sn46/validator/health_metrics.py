"""The validator's figures for Prometheus. No label holds a hotkey or an epoch: phases, results,
reasons, verdicts and parts are few."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sn46.mechanism.names import PPM
from sn46.mechanism.times import parse_time
from sn46.validator.progress import Progress

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class _Figures(Collector):
    """The figures as they are at a moment."""

    def __init__(self, progress: Progress, parts: Mapping[str, bool], now: datetime) -> None:
        self._progress = progress
        self._parts = parts
        self._now = now

    def collect(self) -> Iterable[Metric]:
        progress, now = self._progress, self._now
        yield GaugeMetricFamily(
            "sn46_validator_heartbeat_age_seconds",
            "Time since the epoch loop was heard of.",
            value=(now - progress.heart.beat_at).total_seconds(),
        )
        yield GaugeMetricFamily(
            "sn46_validator_heartbeat_due_seconds",
            "Time until the epoch loop is to be heard of again; negative where it is overdue.",
            value=(progress.heart.due - now).total_seconds(),
        )
        phase = GaugeMetricFamily(
            "sn46_validator_phase", "1 for the present phase.", labels=["phase"]
        )
        phase.add_metric([progress.phase], 1)
        yield phase
        if progress.deadline is not None:
            yield GaugeMetricFamily(
                "sn46_validator_seconds_to_deadline",
                "Time left for the epoch that is worked on, or until the next one ends.",
                value=(progress.deadline - now).total_seconds(),
            )
        if progress.until is not None:
            yield GaugeMetricFamily(
                "sn46_validator_seconds_to_wake",
                "Time until the moment that is waited for.",
                value=(parse_time(progress.until) - now).total_seconds(),
            )
        parts = GaugeMetricFamily(
            "sn46_validator_part_ok", "1 where a part is well.", labels=["part"]
        )
        for name, ok in self._parts.items():
            parts.add_metric([name], float(ok))
        yield parts
        if progress.relay is not None:
            yield GaugeMetricFamily(
                "sn46_validator_assignment_agreement",
                "Share of the validators' stake that holds the leading assignment, 0 to 1.",
                value=int(progress.relay["share"]) / PPM,
            )
        yield from self._counters()

    def _counters(self) -> Iterable[Metric]:
        counts = self._progress.counts
        epochs = CounterMetricFamily(
            "sn46_validator_epochs",
            "Epochs since the start by how they ended; the reason is the step that was not done.",
            labels=["result", "reason"],
        )
        for (result, reason), count in counts.endings.items():
            epochs.add_metric([result.value, reason], count)
        yield epochs
        checks = CounterMetricFamily(
            "sn46_validator_checks",
            "Rows checked at their source since the start.",
            labels=["verdict"],
        )
        for verdict, count in counts.checks.items():
            checks.add_metric([verdict.value], count)
        yield checks
        weights = CounterMetricFamily(
            "sn46_validator_weights",
            "Epochs since the start whose weights are on the chain: set, committed, or found.",
            labels=["how"],
        )
        for how, count in counts.weights.items():
            weights.add_metric([how], count)
        yield weights


def exposition(progress: Progress, parts: Mapping[str, bool], now: datetime) -> bytes:
    """All figures in Prometheus' text format; ``parts`` says which are well."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(progress, parts, now))
    return generate_latest(registry)
