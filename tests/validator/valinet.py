"""Validators in this process over the real parts, and time that moves when all of them wait."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from apinet import NETUID, MovedClock, Net
from minernet import Competition

from sn46.certificates import trusted
from sn46.chain.base import Chain
from sn46.chain.connect import open_chain
from sn46.chain.errors import SubmissionUnknown
from sn46.clock import Clock
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.names import Hotkey
from sn46.mechanism.report import report_key
from sn46.sources.options import SourceOptions
from sn46.sources.politeness import PaceSettings, RetryPolicy
from sn46.sources.portal import PortalSource
from sn46.sources.routes import BreakerSettings
from sn46.store.s3 import S3Bucket
from sn46.validator.checking import RecordCache, SpotChecker
from sn46.validator.epoch_run import EpochRun, Parts
from sn46.validator.examiner import Examiner
from sn46.validator.progress import Progress

HASTY = PaceSettings(start=500, minimum=200, maximum=500, longest_hold=0.05)
"""Manners of one who minds refusals little, so that a source that refuses is soon given up."""


def quick_source(portal: str, clock: Clock, address: str) -> PortalSource:
    """A portal asked from an address of this machine."""
    return PortalSource(
        portal,
        clock=clock,
        options=SourceOptions(
            pace=HASTY,
            breaker=BreakerSettings(rest=0.02, longest_rest=0.02),
            local_address=address,
            retry=RetryPolicy(attempts=2, first_pause=0.01, longest_pause=0.02),
        ),
    )


class Together:
    """The world's clock for people who do things at the same time: once all of them sleep, it
    goes to the moment at which the first wakes."""

    def __init__(self, clock: MovedClock) -> None:
        self._clock = clock
        self._people: set[object] = set()
        self._wake_at: dict[object, datetime] = {}
        self.sleeps = 0
        self.on_sleep: Callable[[int], None] = lambda number: None

    def now(self) -> datetime:
        return self._clock.now()

    def join(self) -> "OwnClock":
        person = OwnClock(self)
        self._people.add(person)
        return person

    def leave(self, person: object) -> None:
        self._people.discard(person)
        self._move()

    async def sleep(self, person: object, duration: timedelta) -> None:
        self.sleeps += 1
        self.on_sleep(self.sleeps)
        wake = self.now() + duration
        self._wake_at[person] = wake
        self._move()
        try:
            await self._clock.sleep(wake - self.now())
            await asyncio.sleep(0)
        finally:
            self._wake_at.pop(person, None)

    def _move(self) -> None:
        waking = list(self._wake_at.values())
        if waking and self._people <= set(self._wake_at) and min(waking) > self.now():
            self._clock.advance_to(min(waking))


class OwnClock:
    """One person's view of a ``Together``."""

    def __init__(self, together: Together) -> None:
        self._together = together

    def now(self) -> datetime:
        return self._together.now()

    async def sleep(self, duration: timedelta) -> None:
        await self._together.sleep(self, duration)

    def leave(self) -> None:
        self._together.leave(self)


class Crash(BaseException):
    """The process dies here, in this process."""


class CrashingProgress(Progress):
    """Dies as a phase begins, once."""

    def __init__(self, path: Path, clock: Any, phase: str | None) -> None:
        super().__init__(path, clock)
        self._crash_at = phase
        self.phases: list[str] = []

    def show(
        self, phase: str, done: int = 0, of: int = 0, *, note: str = "", epoch_id: str = ""
    ) -> None:
        super().show(phase, done, of, note=note, epoch_id=epoch_id)
        if phase not in self.phases:
            self.phases.append(phase)
        if phase == self._crash_at:
            raise Crash(phase)


class WatchedChain:
    """A chain that counts how often weights are set, and can die before or after it, or lose the
    answer."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.sent = 0
        self.crash: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    async def set_weights(self, weights: Any) -> Any:
        crash, self.crash = self.crash, None
        if crash == "before":
            raise Crash(crash)
        self.sent += 1
        receipt = await self._chain.set_weights(weights)
        if crash == "after":
            raise Crash(crash)
        if crash == "unknown":
            raise SubmissionUnknown(
                "The answer was lost, and the chain was not looked at for long."
            )
        return receipt


@dataclass
class Trial:
    """An epoch with submissions, and its validators."""

    competition: Competition
    examiner: Examiner
    assignment: Assignment
    time: Together = field(init=False)

    def __post_init__(self) -> None:
        self.time = Together(self.net.clock)

    @property
    def net(self) -> Net:
        return self.competition.net

    @property
    def epoch(self) -> Epoch:
        return self.assignment.epoch

    def data_dir(self, name: str) -> Path:
        return self.competition.folder / f"validator-{name}"

    @asynccontextmanager
    async def parts(
        self,
        name: str,
        *,
        http: httpx.AsyncClient | None = None,
        crash_at: str | None = None,
        crash_chain: str | None = None,
        portal: str | None = None,
        address: str = "127.0.0.1",
    ) -> AsyncIterator[Parts]:
        """A validator's parts, as its service makes them."""
        clock = self.time.join()
        signer = self.competition.world.wallets[name].hotkey
        folder = self.data_dir(name)
        folder.mkdir(exist_ok=True)
        async with AsyncExitStack() as stack:
            stack.callback(clock.leave)
            endpoint = self.net.services.settings.chain_endpoint
            chain = WatchedChain(open_chain(endpoint, netuid=NETUID, signer=signer, clock=clock))
            chain.crash = crash_chain
            stack.push_async_callback(chain.close)
            source = quick_source(portal or self.competition.portal, self.net.clock, address)
            stack.push_async_callback(source.close)
            cache = RecordCache(folder / "records.sqlite", clock)
            stack.callback(cache.close)
            if http is None:
                http = await stack.enter_async_context(httpx.AsyncClient(verify=trusted()))
            yield Parts(
                api=self.net.client(name),
                chain=chain,
                http=http,
                signer=signer,
                checker=SpotChecker([source], cache, clock, concurrency=8),
                examiner=self.examiner,
                clock=clock,
                progress=CrashingProgress(folder / "status.json", clock, crash_at),
                data_dir=folder,
                api_hotkey=self.net.hotkey("api"),
            )

    async def run(self, name: str, **options: Any) -> Parts:
        """Run the epoch as one validator; its parts, to look at."""
        async with self.parts(name, **options) as parts:
            await EpochRun(parts, self.epoch).run()
        return parts

    async def run_all(self, *names: str) -> None:
        """Run the epoch as several validators at the same time."""
        async with AsyncExitStack() as stack:
            given = [await stack.enter_async_context(self.parts(name)) for name in names]

            async def one(parts: Parts) -> None:
                try:
                    await EpochRun(parts, self.epoch).run()
                finally:
                    parts.clock.leave()  # pyright: ignore[reportAttributeAccessIssue]

            await asyncio.gather(*(one(parts) for parts in given))

    async def published(self, name: str) -> dict[str, Any]:
        """A validator's report as it lies in the bucket."""
        key = report_key(self.net.hotkey(name), self.epoch.id)
        return json.loads(await self.competition.world.results.get(key))

    async def announced(self) -> dict[str, Any]:
        """The announced reports by validator."""
        shown = await self.net.http.get(f"/api/v1/validation-results/{self.epoch.id}")
        return {r["validator_hotkey"]: r for r in shown.json()["reports"]}

    async def chain_weights(self, name: str) -> dict[Hotkey, int]:
        endpoint = self.net.services.settings.chain_endpoint
        chain = open_chain(endpoint, netuid=NETUID, clock=self.net.clock)
        try:
            return dict(await chain.weights_of(Hotkey(self.net.hotkey(name))))
        finally:
            await chain.close()

    async def versions(self, name: str) -> dict[str, int]:
        """How often each of a validator's objects of this epoch was written, by its last name."""
        bucket = self.competition.world.results
        prefix = f"validators/{self.net.hotkey(name)}/epoch={self.epoch.id}/"
        found = await asyncio.to_thread(_versions, bucket, prefix)
        return {key.rsplit("/", 1)[-1]: found.count(key) for key in sorted(set(found))}


def _versions(bucket: S3Bucket, prefix: str) -> list[str]:
    client = bucket.access.client()
    try:
        pages = client.get_paginator("list_object_versions").paginate(
            Bucket=bucket.name, Prefix=prefix
        )
        return [entry["Key"] for page in pages for entry in page.get("Versions", [])]
    finally:
        client.close()


async def mined(
    competition: Competition, examiner: Examiner, strategies: Mapping[str, str]
) -> Trial:
    """An epoch that has just ended, with these miners and what each does."""
    assignment = await competition.assignment()
    for name, strategy in strategies.items():
        async with competition.miner(name, strategy=strategy) as miner:
            assert (await miner.mine(assignment)).result == "submitted"
    await competition.net.advance_to(assignment.epoch.end + timedelta(seconds=10))
    return Trial(competition, examiner, assignment)
