"""``sn46 miner once``: one epoch's scraping as the service does it, without uploading.

It works in a spool of its own, ``DATA_DIR/trial/``, so it never meets the service.
"""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from sn46.chain.wallets import load_hotkey
from sn46.client.api import ApiClient, Retries
from sn46.clock import Clock, sleep_until
from sn46.mechanism.signing import address_of
from sn46.mechanism.times import format_time
from sn46.miner.apiclock import ApiClock, ask_the_time
from sn46.miner.checkup import Checkup, check_up
from sn46.miner.collecting import Collector
from sn46.miner.live import Attach
from sn46.miner.pipeline import Pipeline
from sn46.miner.process import manners_of, opened_sources
from sn46.miner.progress import Phase, Progress
from sn46.miner.service import stop_scraping_at
from sn46.miner.settings import MinerSettings
from sn46.miner.spool import Spool

TRIAL: Final = "trial"
_log = structlog.get_logger()


def trial_dir(settings: MinerSettings) -> Path:
    """Where a trial's spool is."""
    return settings.data_dir / TRIAL


async def try_once(
    settings: MinerSettings,
    machine: Clock,
    *,
    zips: int | None = None,
    limit: timedelta | None = None,
    pipeline: Pipeline | None = None,
    attach: Attach | None = None,
) -> Checkup:
    """Scrape the running epoch's ZIPs and judge what was found. Cancelled while scraping, it
    judges what was found until then.

    Args:
        zips: only so many, the first of the pipeline's order.
        limit: only so long.
        attach: given the progress to show.

    Raises:
        WalletError: where the hotkey cannot be read.
        SourceSettingError: where a source cannot be used.
        ApiError, ApiUnavailable, AssignmentError: where there is no assignment to be had now.
        SpoolError: where DATA_DIR cannot be used, or another trial is under way.
        NothingToCheck: where no row was found.
    """
    signer = load_hotkey(settings.wallet_name, settings.wallet_hotkey, settings.wallet_path)
    clock = ApiClock(machine, lambda ahead: None)
    hotkey, steps = address_of(signer), pipeline or Pipeline()
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(
            ApiClient(
                settings.api_url,
                api_hotkey=settings.api_hotkey,
                signer=signer,
                clock=clock,
                retries=Retries(attempts=2),
                heard=clock.heard,
            )
        )
        await ask_the_time(settings.api_url, clock)
        received = await api.current()
        assignment = received.assignment
        sources = await stack.enter_async_context(opened_sources(settings, clock))
        spool = Spool(trial_dir(settings), hotkey)
        stack.callback(spool.close)
        spool.clear()
        spool.save_assignment(received.document)
        work = spool.epoch(assignment)
        progress = Progress(hotkey, clock)
        progress.update(
            phase=Phase.SCRAPING,
            epoch_id=assignment.epoch_id,
            deadline=format_time(assignment.submission_deadline),
        )
        if attach is not None:
            attach(progress)
        await sleep_until(clock, assignment.epoch.start)
        until = stop_scraping_at(assignment.epoch)
        if limit is not None:
            until = min(until, clock.now() + limit)
        collector = Collector(sources, clock=clock, progress=progress, manners=manners_of(settings))
        try:
            await collector.collect(assignment, steps.order(assignment)[:zips], work, until)
        except asyncio.CancelledError:
            _log.warning("the trial was interrupted; this is what it found until then")
        return check_up(assignment, work, clock.now(), steps)
