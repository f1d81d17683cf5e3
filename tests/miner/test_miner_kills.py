"""kill -9 at random moments of a ZIP with 5,000 sales: no part that is on disk is asked for again,
and nothing is uploaded twice."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import polars as pl
import pytest
from apinet import World, api_over, make_world
from minernet import (
    RULES,
    Competition,
    plain,
    process,
    read_status,
    real_now,
    roomy_epoch,
    write_county_table,
)
from portal_process import CALM, portal
from wires import wire

from sn46.localnet.portal import bundled_sales_path
from sn46.mechanism.names import PPM
from sn46.mechanism.submission import miner_prefix
from sn46.store.s3 import S3Access

SALES = 5_000
IN_FLIGHT = 16
"""Requests that were answered, or nearly, and whose rows were not yet on disk at a kill: up to a
page for each place at the portal, for each of two ZIPs."""


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real sales of King County, most of them moved to one ZIP."""
    raw = pl.read_parquet(bundled_sales_path()).unique("id").sort("id")
    near = raw.filter(pl.col("zipcode").is_between(98101, 98199)).head(SALES)
    assert near.height == SALES
    other = raw.filter(pl.col("zipcode") == 98004).head(60)
    path = tmp_path_factory.mktemp("sales") / "sales.parquet"
    pl.concat([near.with_columns(zipcode=pl.lit(98103, pl.Int64)), other]).write_parquet(path)
    return path


@pytest.fixture
async def big(
    tmp_path: Path, s3_access: S3Access, miner_buckets: tuple[str, str], sales: Path
) -> AsyncIterator[Competition]:
    world: World = make_world(tmp_path, s3_access, miner_buckets, start=real_now())
    write_county_table(world, sales)
    rules = {**RULES, "target_listings": SALES, "max_zipcode_listings": 2 * SALES}
    seconds = roomy_epoch(world.clock.now()).seconds
    async with api_over(world, epoch_seconds=seconds, **rules) as net:
        await net.ready()
        with portal(*CALM, "--data", str(sales), "--result-limit", "1000") as url:
            yield Competition(net, url, tmp_path)
    await world.miners.close()
    await world.results.close()
    world.chain.close()


@pytest.mark.timeout(240)
async def test_five_thousand_sales_through_many_kills(big: Competition, tmp_path: Path) -> None:
    assignment = await big.assignment()
    assert max(z.expected_listings for z in assignment.zipcodes) == SALES
    chance, data = random.Random("kills"), tmp_path / "data"
    runs: list[list[str]] = []
    async with wire(big.portal, delay=0.02) as laid:
        environment = big.environment("ann", data, SOURCES=f"portal:{laid.url}")
        while not read_status(data).get("last_result"):
            begun, most = len(laid.targets), chance.randint(5, 60)
            async with process(environment, cwd=tmp_path) as running:

                async def far_enough(begun: int = begun, most: int = most) -> bool:
                    return len(laid.targets) >= begun + most or bool(
                        read_status(data).get("last_result")
                    )

                await big.net.until(far_enough, seconds=60)
                running.kill()
                _, log = await running.communicate()
            # What was under way when it died counts to this run.
            await big.net.until(laid.is_idle)
            runs.append(laid.targets[begun:])
            assert len(runs) < 40, plain(log)
    assert len(runs) >= 4
    kept: set[str] = set()
    for run in runs:
        assert len(run) == len(set(run))
        assert not kept & set(run)
        kept |= set(run[:-IN_FLIGHT])
    judged = await big.judged(assignment)
    assert (judged.reasons, judged.volume, judged.rows) == ((), PPM, judged.rows_kept)
    assert judged.rows == assignment.total_expected_listings
    written = await big.versions(miner_prefix(big.net.hotkey("ann"), assignment.epoch_id))
    assert written <= len(assignment.zipcodes) + 1 + 1
