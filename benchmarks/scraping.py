"""The miner's own scraping, in a process of its own: ``python -m benchmarks.scraping SALES``.

Its settings come from the environment, as a miner's do. SALES is the portal's file, which says how
many homes each ZIP has. It prints what it did as JSON.
"""

import asyncio
import json
import re
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.assigned import assigned
from sn46.clock import SystemClock
from sn46.localnet.portal import expected_counts
from sn46.logs import configure_logs
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.epochs import epoch_at
from sn46.mechanism.names import Hotkey
from sn46.mechanism.rules import Rules
from sn46.miner.collecting import Collector
from sn46.miner.pipeline import Pipeline
from sn46.miner.process import manners_of, opened_sources
from sn46.miner.progress import Progress
from sn46.miner.service import stop_scraping_at
from sn46.miner.settings import load_settings
from sn46.miner.spool import Spool
from sn46.sources.pools import pools_of
from sn46.sources.routes import Tally


def assignment(sales: Path, api_hotkey: Hotkey) -> Assignment:
    """The ZIPs of a file of sales, in the epoch of now that lasts longest."""
    now = datetime.now(UTC)
    epoch = max((epoch_at(now, hours * 3600) for hours in (4, 6, 8, 12)), key=lambda e: e.end)
    return assigned(expected_counts(sales), epoch, api_hotkey, Rules())


def memory_mb(name: str) -> float:
    """``VmRSS``, or ``VmHWM`` for its peak, of this process since it was started."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


async def scrape(sales: Path) -> dict[str, Any]:
    settings, clock = load_settings(_env_file=None), SystemClock()
    given = assignment(sales, settings.api_hotkey)
    spool = Spool(settings.data_dir, settings.api_hotkey)
    progress = Progress(settings.api_hotkey, clock)
    async with opened_sources(settings, clock) as sources:
        collector = Collector(sources, clock=clock, progress=progress, manners=manners_of(settings))
        work = spool.epoch(given)
        before, began, cpu = memory_mb("VmRSS"), time.perf_counter(), time.process_time()
        order = Pipeline().order(given)
        await collector.collect(given, order, work, stop_scraping_at(given.epoch))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        tally = sum((pool.tally() for _, pool in pools_of(sources)), Tally())
    records = work.scraped().values()
    lookback = timedelta(days=given.rules.lookback_days)
    spool.close()
    return {
        "days": [format(given.epoch.end.date() - lookback), format(given.epoch.end.date())],
        "seconds": seconds,
        "cpu_seconds": cpu,
        "rows": sum(record.rows for record in records),
        "expected": given.total_expected_listings,
        "zips": sum(record.complete for record in records),
        "requests": tally.answered + tally.refused + tally.lost,
        "refused": tally.refused,
        "lost": tally.lost,
        "latency_ms": 1000 * tally.seconds / tally.answered,
        "before_mb": before,
        "peak_mb": memory_mb("VmHWM"),
    }


if __name__ == "__main__":
    configure_logs("console", "warning")
    print(json.dumps(asyncio.run(scrape(Path(sys.argv[1])))))
