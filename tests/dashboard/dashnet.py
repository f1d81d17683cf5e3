"""The dashboard's collector beside a running API, and validators that publish."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from apinet import Net

from sn46.clock import Clock
from sn46.dashboard.alerts import Thresholds
from sn46.dashboard.app import Pages, create_app
from sn46.dashboard.asking import Asker
from sn46.dashboard.collector import Collector, Manners
from sn46.dashboard.published import BucketReports
from sn46.mechanism.agreement import consensus_hash
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.names import PPM, EpochId, Hotkey
from sn46.mechanism.submission import validator_prefix
from sn46.store.base import StoreError

MANY = 1_000


@asynccontextmanager
async def collecting(
    net: Net, *, manners: Manners | None = None, most: int = MANY, url: str | None = None
) -> AsyncGenerator[Collector]:
    """A collector that asks the API, and reads reports out of its bucket."""
    access = net.world.results.access
    address = url or net.url
    async with Asker(address, clock=net.clock, most_a_minute=most) as asker:
        yield Collector(
            asker,
            api_url=address,
            clock=net.clock,
            manners=manners,
            reports=BucketReports(access, net.world.results.name),
        )


async def rounds(collector: Collector, clock: Any, count: int = 4) -> None:
    """So many rounds, each when it is due."""
    for _ in range(count):
        clock.advance(await collector.round())


def looking(
    collector: Collector, clock: Clock, limits: Thresholds | None = None
) -> tuple[Pages, httpx.AsyncClient]:
    """The pages over a collector, and one who looks at them."""
    pages = Pages(
        lambda: collector.snapshot, clock=clock, limits=limits or Thresholds(), every_seconds=20
    )
    transport = httpx.ASGITransport(create_app(pages))
    return pages, httpx.AsyncClient(transport=transport, base_url="http://dashboard")


def entry(**changes: Any) -> dict[str, Any]:
    """A miner's part of a report."""
    return {
        "valid": True, "participant": True, "candidate": True, "reserve": False,
        "disqualified": False, "submission_time": None, "rows": 900, "rows_kept": 890,
        "duplicates": 5, "out_of_range": 5, "zipcodes": 9, "speed": PPM, "completeness": 900_000,
        "volume": 980_000, "preliminary": 950_000, "accuracy": 960_000, "quality": 864_000,
        "credibility": PPM, "credibility_epochs": 3, "final": 941_600, "rank": 1,
        "weight": 500_000,
        "checks": {"confirmed": 24, "contradicted": 1, "fake": 0, "inconclusive": 2},
        "reasons": [],
    } | changes  # fmt: skip


def report_of(
    validator: str,
    epoch_id: EpochId,
    assignment_hash: str,
    miners: Mapping[str, Mapping[str, Any]],
    **changes: Any,
) -> dict[str, Any]:
    """A report that holds together."""
    weights = {key: miner["weight"] for key, miner in miners.items() if miner["weight"]}
    scores = {Hotkey(key): miner["final"] for key, miner in miners.items()}
    ranked = sorted((m["rank"], key) for key, m in miners.items() if m["rank"])
    return {
        "epoch_id": epoch_id,
        "validator_hotkey": validator,
        "consensus_hash": consensus_hash(epoch_id, scores, weights),  # type: ignore[arg-type]
        "assignment_hash": assignment_hash,
        "top_3_winners": [{"rank": r, "miner_hotkey": key} for r, key in ranked[:3]],
        "miners": miners,
        "weights": weights,
        **changes,
    }


async def publish(
    net: Net, name: str, epoch: Epoch, miners: Mapping[str, Mapping[str, Any]], **changes: Any
) -> dict[str, Any]:
    """A validator publishes a report on an ended epoch, and announces it."""
    client = net.client(name)
    assignment_hash = (await client.epoch(epoch.id)).assignment.hash
    report = report_of(net.hotkey(name), epoch.id, assignment_hash, miners, **changes)
    prefix = validator_prefix(net.hotkey(name), epoch.id)
    for file, body in (
        ("validated_data.parquet", b"rows"),
        ("epoch_metadata.json", b"{}"),
        ("validation_report.json", json.dumps(report).encode()),
    ):
        await net.world.results.put(f"{prefix}{file}", body)
    await client.announce(
        epoch_id=epoch.id,
        consensus_hash=report["consensus_hash"],
        assignment_hash=assignment_hash,
        top_3=[],
        participants=0,
        reached_95=0,
    )
    return report


class Bodies:
    """Reports by validator, of which a test says what they are."""

    def __init__(self, bodies: Mapping[str, bytes | Exception] | None = None) -> None:
        self.bodies = dict(bodies or {})
        self.asked: list[str] = []

    async def read(self, validator: Hotkey, epoch_id: EpochId) -> bytes:
        self.asked.append(validator)
        found = self.bodies.get(validator, StoreError("the bucket cannot be reached"))
        if isinstance(found, Exception):
            raise found
        return found
