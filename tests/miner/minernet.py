"""A competition over the portal's own ZIPs, for miners in this process and in others: the API,
S3, the chain and the portal are the real ones."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from apinet import NETUID, Net, World

from sn46.certificates import trusted
from sn46.chain.connect import open_chain
from sn46.localnet.portal import Home, expected_counts, read_homes
from sn46.localnet.strategies import pipeline_of
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.draw import ZipRow
from sn46.mechanism.epochs import Epoch, epoch_at
from sn46.mechanism.names import Hotkey
from sn46.mechanism.quick import QuickResult, Upload, examine, kept_listings
from sn46.mechanism.submission import manifest_key, miner_prefix
from sn46.miner.collecting import Collector, Manners
from sn46.miner.delivery import Delivery, PolicyGiver
from sn46.miner.desk import Desk
from sn46.miner.pipeline import Pipeline
from sn46.miner.progress import Progress
from sn46.miner.service import Miner
from sn46.miner.spool import Spool
from sn46.sources.options import SourceOptions
from sn46.sources.politeness import PaceSettings, RetryPolicy
from sn46.sources.portal import PortalSource
from sn46.zipcodes import MasterTable, save_table

RULES: Mapping[str, Any] = {
    "target_listings": 500,
    "tolerance_percent": 15,
    "min_zipcode_listings": 50,
    "max_state_share": 100,
    "max_region_share": 100,
    "lookback_days": 20_000,
    "cooldown_hours": 0,
}
"""Draws of a few ZIPs of the one county that the portal has."""

FAST = PaceSettings(start=500, minimum=1, maximum=500)


def roomy_epoch(now: datetime) -> Epoch:
    """The epoch that has the most time left before miners stop scraping, of all that run now and
    in which the grace, with what is kept of it for uploading, does not end within the next
    minutes."""
    lengths = [seconds for seconds in range(600, 43_201, 60) if 86_400 % seconds == 0]
    epochs = [epoch_at(now, seconds) for seconds in lengths]
    soon = timedelta(minutes=10)
    epochs = [e for e in epochs if not -soon < now - (e.start + e.length * 0.45) < timedelta(0)]
    return max(epochs, key=lambda e: min(e.end - now - e.length / 20, timedelta(hours=1)))


@cache
def _county(sales: Path | None) -> tuple[tuple[Home, int], ...]:
    """A home of each ZIP of a file of sales, and how many there are: reading them takes seconds."""
    homes = {home.zipcode: home for home in read_homes(sales)}
    return tuple((homes[zipcode], count) for zipcode, count in expected_counts(sales).items())


def write_county_table(world: World, sales: Path | None = None) -> None:
    """The portal's ZIPs as the master table, each with what a complete scrape finds."""
    rows = [
        ZipRow(
            zipcode=home.zipcode,
            expected_listings=count,
            state="WA",
            city=home.city,
            county=home.county,
            latitude=home.latitude,
            longitude=home.longitude,
            population=20_000,
            property_count=8_000,
            home_value=400_000 + number,
            updated_on=world.clock.now().date(),
        )
        for number, (home, count) in enumerate(_county(sales))
    ]
    save_table(MasterTable(tuple(rows)), world.folder / "zipcodes.parquet")


@dataclass
class Competition:
    """A running API over the county, with a portal."""

    net: Net
    portal: str
    folder: Path
    _made: int = field(default=0)

    @property
    def world(self) -> World:
        return self.net.world

    async def assignment(self) -> Assignment:
        return (await self.net.client("ann").current()).assignment

    @asynccontextmanager
    async def miner(
        self,
        name: str = "ann",
        *,
        strategy: str | None = None,
        pipeline: Pipeline | None = None,
        portal: str | None = None,
        policies: PolicyGiver | None = None,
        data_dir: Path | None = None,
        address: str = "127.0.0.1",
        status_file: Path | None = None,
        attempts: int = 1,
    ) -> AsyncIterator[Miner]:
        """A miner of the real parts in this process, under the test's clock."""
        self._made += 1
        clock, signer = self.net.clock, self.world.wallets[name].hotkey
        hotkey = Hotkey(signer.ss58_address)
        async with AsyncExitStack() as stack:
            spool = Spool(data_dir or self.folder / f"spool{self._made}", hotkey)
            stack.callback(spool.close)
            source = PortalSource(
                portal or self.portal,
                clock=clock,
                options=SourceOptions(
                    local_address=address,
                    pace=FAST,
                    retry=RetryPolicy(attempts=3, first_pause=0.01, longest_pause=0.05),
                ),
            )
            stack.push_async_callback(source.close)
            http = await stack.enter_async_context(httpx.AsyncClient(verify=trusted()))
            api_hotkey = Hotkey(self.net.hotkey("api"))
            desk = Desk(self.net.client(name), api_hotkey=api_hotkey, spool=spool, clock=clock)
            stack.push_async_callback(desk.close)
            progress = Progress(hotkey, clock, status_file)
            yield Miner(
                signer,
                desk=desk,
                collector=Collector(
                    [source], clock=clock, progress=progress, manners=Manners(6, attempts)
                ),
                delivery=Delivery(
                    hotkey=hotkey,
                    policies=policies or desk.policy,
                    http=http,
                    clock=clock,
                    progress=progress,
                ),
                spool=spool,
                clock=clock,
                progress=progress,
                pipeline=pipeline or (pipeline_of(strategy) if strategy else Pipeline()),
            )

    async def frozen(
        self, assignment: Assignment, name: str = "ann"
    ) -> tuple[Upload | None, dict[str, Upload]]:
        """A submission as it lies in the store."""
        hotkey = self.net.hotkey(name)
        bucket = self.world.miners
        uploads = {
            info.key: Upload(info, await bucket.get(info.key))
            for info in await bucket.objects(miner_prefix(hotkey, assignment.epoch_id))
        }
        return uploads.pop(manifest_key(hotkey, assignment.epoch_id), None), uploads

    async def judged(self, assignment: Assignment, name: str = "ann") -> QuickResult:
        """A submission as validators judge it."""
        manifest, files = await self.frozen(assignment, name)
        chain = open_chain(
            self.net.services.settings.chain_endpoint, netuid=NETUID, clock=self.net.clock
        )
        try:
            view = await chain.view()
        finally:
            await chain.close()
        return examine(assignment, view, Hotkey(self.net.hotkey(name)), manifest, files)

    async def kept_rows(self, assignment: Assignment, name: str = "ann") -> list[dict[str, Any]]:
        manifest, files = await self.frozen(assignment, name)
        assert manifest is not None
        return kept_listings(assignment, Hotkey(self.net.hotkey(name)), manifest, files).to_dicts()

    async def versions(self, prefix: str) -> int:
        """How many times anything was written under a prefix."""
        client = self.world.miners.access.client()
        try:
            pages = await asyncio.to_thread(
                lambda: list(
                    client.get_paginator("list_object_versions").paginate(
                        Bucket=self.world.miners.name, Prefix=prefix
                    )
                )
            )
            return sum(len(page.get("Versions", [])) for page in pages)
        finally:
            client.close()

    async def asked(self, address: str, portal: str | None = None) -> int:
        """How many requests the portal has had from an address."""
        async with httpx.AsyncClient(verify=trusted()) as http:
            stats = (await http.get(f"{portal or self.portal}/stats")).json()
        return stats["clients"].get(address, {}).get("requests", 0)

    def environment(self, name: str, data_dir: Path, **changes: str) -> dict[str, str]:
        """The settings of a miner's process."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "API_URL": self.net.url,
            "API_HOTKEY": self.net.hotkey("api"),
            "NETUID": str(NETUID),
            "WALLET_NAME": f"{name}-cold",
            "WALLET_HOTKEY": name,
            "WALLET_PATH": str(self.world.folder / "wallets"),
            "SOURCES": f"portal:{self.portal}",
            "DATA_DIR": str(data_dir),
            "STATUS_FILE": str(data_dir / "status.json"),
            "REQUESTS_PER_SECOND": "500",
            **changes,
        }


@asynccontextmanager
async def process(
    environment: Mapping[str, str], *arguments: str, cwd: Path, command: Sequence[str] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A miner's process, of a module and its arguments or of a Python ``command``; killed where it
    still runs at the end."""
    python_path = os.pathsep.join([str(Path.cwd()), environment.get("PYTHONPATH", "")])
    started = await asyncio.create_subprocess_exec(
        sys.executable, *(command or ("-m", *(arguments or ("sn46.miner",)))),
        env={**environment, "PYTHONPATH": python_path}, cwd=cwd,
        stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.communicate()


def read_status(data_dir: Path) -> dict[str, Any]:
    """A process' status file; empty before it wrote one."""
    try:
        return json.loads((data_dir / "status.json").read_bytes())
    except FileNotFoundError:
        return {}


def files_in(folder: Path, pattern: str) -> list[Path]:
    """The files below a folder whose paths end like the pattern, while a miner works in it:
    ``rglob`` fails where a folder goes away as it looks."""
    found = (Path(top, name) for top, _, names in os.walk(folder) for name in names)
    return sorted(path for path in found if path.match(pattern))


def real_now() -> datetime:
    return datetime.now(UTC)


def plain(text: bytes) -> str:
    """A log without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text.decode())
