"""The miner's process: settings in, parts opened, mining until it is told to stop."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import httpx
import structlog
from rich.console import Console

from sn46.certificates import trusted
from sn46.chain.base import ChainError
from sn46.chain.wallets import load_hotkey
from sn46.client.api import ApiClient
from sn46.client.proxyfeed import followed_options
from sn46.clock import Clock, SystemClock
from sn46.configuration import SettingsError
from sn46.logs import configure_logs
from sn46.mechanism.signing import Signer, address_of
from sn46.miner.apiclock import ApiClock, ask_the_time
from sn46.miner.collecting import Collector, Manners
from sn46.miner.delivery import Delivery
from sn46.miner.desk import Desk
from sn46.miner.live import Attach, live_view
from sn46.miner.metrics import MetricsError, serving_metrics
from sn46.miner.pipeline import Pipeline
from sn46.miner.progress import Progress
from sn46.miner.relay import validators_of
from sn46.miner.service import Miner, Staggered, immediately
from sn46.miner.settings import MinerSettings, load_settings
from sn46.miner.spool import Spool, SpoolError
from sn46.sources.base import ListingSource
from sn46.sources.registry import SourceSettingError, open_source

EXIT_FAILED = 1
EXIT_SETTINGS = 2
_log = structlog.get_logger()


def _show_clock(progress: Progress, ahead: timedelta) -> None:
    progress.update(clock_ahead_seconds=round(ahead.total_seconds(), 1))


def _unseen(progress: Progress) -> None:
    pass


@asynccontextmanager
async def opened(
    settings: MinerSettings, pipeline: Pipeline, machine: Clock, attach: Attach = _unseen
) -> AsyncGenerator[Miner]:
    """A miner of the real parts that the settings name; ``attach`` is given its progress. Where
    the machine's clock is wrong, all of them go by the API's.

    Raises:
        MetricsError: where METRICS_PORT cannot be listened at.
        WalletError: where the hotkey cannot be read.
        SourceSettingError: where a source cannot be used.
        SpoolError: where DATA_DIR cannot be used.
    """
    signer = load_hotkey(settings.wallet_name, settings.wallet_hotkey, settings.wallet_path)
    async with AsyncExitStack() as stack:
        hotkey = address_of(signer)
        spool = Spool(settings.data_dir, hotkey)
        stack.callback(spool.close)
        clock = ApiClock(machine, lambda ahead: _show_clock(progress, ahead))
        progress = Progress(hotkey, clock, settings.status_path(hotkey))
        attach(progress)
        stack.enter_context(serving_metrics(progress, settings.metrics_host, settings.metrics_port))
        await ask_the_time(settings.api_url, clock)
        sources = await stack.enter_async_context(opened_sources(settings, clock))
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, verify=trusted()))
        api = await stack.enter_async_context(
            ApiClient(
                settings.api_url,
                api_hotkey=settings.api_hotkey,
                signer=signer,
                clock=clock,
                heard=clock.heard,
            )
        )
        validators = validators_of(settings, signer, clock)
        stack.push_async_callback(validators.close)
        desk = Desk(api, api_hotkey=settings.api_hotkey, spool=spool, clock=clock, relay=validators)
        stack.push_async_callback(desk.close)
        yield _miner(settings, pipeline, clock, signer, sources, http, desk, spool, progress)


@asynccontextmanager
async def opened_sources(
    settings: MinerSettings, clock: Clock
) -> AsyncGenerator[list[ListingSource]]:
    """The sources that the settings name, closed at the end. Until then their proxies follow
    PROXY_FILE and PROXIES_URL.

    Raises:
        SourceSettingError: where one cannot be used.
    """
    async with AsyncExitStack() as stack:
        options = await stack.enter_async_context(followed_options(settings, clock))
        sources: list[ListingSource] = []
        for setting in settings.sources:
            source = open_source(setting, clock=clock, options=options)
            stack.push_async_callback(source.close)
            sources.append(source)
        yield sources


def _miner(
    settings: MinerSettings,
    pipeline: Pipeline,
    clock: Clock,
    signer: Signer,
    sources: list[ListingSource],
    http: httpx.AsyncClient,
    desk: Desk,
    spool: Spool,
    progress: Progress,
) -> Miner:
    hotkey = address_of(signer)
    staggered = settings.upload_strategy == "staggered"
    return Miner(
        signer,
        desk=desk,
        collector=Collector(sources, clock=clock, progress=progress, manners=manners_of(settings)),
        delivery=Delivery(
            hotkey=hotkey, policies=desk.policy, http=http, clock=clock, progress=progress
        ),
        spool=spool,
        clock=clock,
        progress=progress,
        pipeline=pipeline,
        upload_moment=Staggered(hotkey) if staggered else immediately,
    )


def manners_of(settings: MinerSettings) -> Manners:
    """How the settings say to scrape."""
    return Manners(concurrency=settings.concurrency, attempts=settings.zip_attempts)


async def mine(
    settings: MinerSettings, pipeline: Pipeline, clock: Clock, attach: Attach = _unseen
) -> None:
    """Mine until SIGTERM or SIGINT. Raises as :func:`opened`."""
    async with opened(settings, pipeline, clock, attach) as miner:
        _log.info("the miner starts", api=settings.api_url, netuid=settings.netuid)
        running = asyncio.ensure_future(miner.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        try:
            await running
        except asyncio.CancelledError:
            if not running.done():
                running.cancel()
                raise
    _log.info("the miner stopped; its work is kept")


@contextmanager
def watched(settings: MinerSettings) -> Generator[Attach]:
    """Logs, and on a terminal a picture of the progress under them."""
    console = Console(stderr=True)
    if not (console.is_terminal and settings.log_format == "console"):
        configure_logs(settings.log_format, settings.log_level)
        yield _unseen
        return
    with live_view(console) as attach:
        # Now, so that the log is written above the picture.
        configure_logs(settings.log_format, settings.log_level)
        yield attach


def run_miner(settings: MinerSettings, pipeline: Pipeline | None = None) -> int:
    """Run a miner in this process until SIGTERM or SIGINT.

    Returns:
        The exit code: 0 after a signal; 1 where it could not start, 2 where that is due to a
        setting, each with a line on standard error.
    """
    try:
        with watched(settings) as attach:
            asyncio.run(mine(settings, pipeline or Pipeline(), SystemClock(), attach))
    except (ChainError, MetricsError, SourceSettingError) as error:
        print(f"sn46 miner: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    except SpoolError as error:
        print(f"sn46 miner: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def main(pipeline: Pipeline | None = None, **overrides: Any) -> int:
    """Read the settings from the environment and run. Returns the exit code, 2 for settings."""
    try:
        settings = load_settings(**overrides)
    except SettingsError as error:
        for line in error.lines:
            print(f"sn46 miner: {line}", file=sys.stderr)
        return EXIT_SETTINGS
    return run_miner(settings, pipeline)
