"""A competition for each test, over buckets and a portal that the tests of one process share."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "api"))
sys.path.insert(0, str(Path(__file__).parent.parent / "portal"))
sys.path.insert(0, str(Path(__file__).parent.parent / "sources"))

from apinet import World, api_over, make_world
from minernet import RULES, Competition, real_now, roomy_epoch, write_county_table
from portal_process import CALM, portal

from sn46.store.s3 import S3Access
from sn46.store.setup import prepare_buckets


@pytest.fixture(scope="session")
def miner_buckets(s3_access: S3Access) -> tuple[str, str]:
    names = (f"miners-{secrets.token_hex(4)}", f"results-{secrets.token_hex(4)}")
    asyncio.run(prepare_buckets(s3_access, miner_bucket=names[0], results_bucket=names[1]))
    return names


@pytest.fixture(scope="session")
def portal_url() -> Iterator[str]:
    with portal(*CALM) as url:
        yield url


@pytest.fixture
async def world(
    tmp_path: Path, s3_access: S3Access, miner_buckets: tuple[str, str]
) -> AsyncIterator[World]:
    """On real time, in an epoch that has some left: miners in other processes share it."""
    made = make_world(tmp_path, s3_access, miner_buckets, start=real_now())
    write_county_table(made)
    yield made
    await made.miners.close()
    await made.results.close()
    made.chain.close()


@pytest.fixture
async def competition(world: World, portal_url: str, tmp_path: Path) -> AsyncIterator[Competition]:
    seconds = roomy_epoch(world.clock.now()).seconds
    async with api_over(world, epoch_seconds=seconds, **RULES) as net:
        await net.ready()
        yield Competition(net, portal_url, tmp_path)
