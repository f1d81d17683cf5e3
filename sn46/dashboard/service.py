"""The dashboard's process: one collector and one HTTP server until it is told to stop."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog
from starlette.applications import Starlette

from sn46.background import kept_running
from sn46.clock import Clock, SystemClock
from sn46.dashboard.app import Pages, create_app
from sn46.dashboard.asking import Asker
from sn46.dashboard.collector import Collector, Manners
from sn46.dashboard.published import BucketReports
from sn46.dashboard.settings import DashboardSettings
from sn46.logs import configure_logs
from sn46.serving import StartError, check_port, serve_app

EXIT_FAILED = 1
_WHERE = "DASHBOARD_HOST and DASHBOARD_PORT"
_log = structlog.get_logger("sn46.dashboard")


@asynccontextmanager
async def opened(settings: DashboardSettings, clock: Clock) -> AsyncGenerator[Collector]:
    """A collector over what the settings name."""
    reports = None
    if settings.validated_bucket:
        reports = BucketReports(settings.access(), settings.validated_bucket)
    async with Asker(
        settings.api_url, clock=clock, most_a_minute=settings.dashboard_requests_a_minute
    ) as asker:
        yield Collector(
            asker,
            api_url=settings.api_url,
            clock=clock,
            manners=Manners(
                refresh=timedelta(seconds=settings.dashboard_refresh_seconds),
                epochs=settings.dashboard_epochs,
                api_hotkey=settings.api_hotkey,
            ),
            reports=reports,
        )


def app_over(collector: Collector, settings: DashboardSettings, clock: Clock) -> Starlette:
    """The application over a collector."""
    pages = Pages(
        lambda: collector.snapshot,
        clock=clock,
        limits=settings.thresholds(),
        every_seconds=max(2, round(settings.dashboard_refresh_seconds)),
    )
    return create_app(pages)


async def serve(settings: DashboardSettings, clock: Clock, stop: asyncio.Event) -> None:
    """Collect and serve until ``stop`` is set.

    Raises:
        StartError: where the port is taken.
    """
    host, port = settings.dashboard_host, settings.dashboard_port
    check_port(host, port, settings=_WHERE)
    async with opened(settings, clock) as collector:
        app = app_over(collector, settings, clock)
        work = asyncio.create_task(kept_running("collector", collector.run))
        _log.info("dashboard_started", address=f"http://{host}:{port}", api=settings.api_url)
        try:
            await serve_app(app, host, port, stop, settings=_WHERE)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
    _log.info("dashboard_stopped")


async def _until_signal(settings: DashboardSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, SystemClock(), stop)


def run_dashboard(settings: DashboardSettings) -> int:
    """Run the dashboard in this process. Returns the exit code: 0 after a signal, 1 where it could
    not start, with one line on standard error."""
    configure_logs(settings.log_format, settings.log_level)
    try:
        asyncio.run(_until_signal(settings))
    except StartError as error:
        print(f"sn46 dashboard: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0
