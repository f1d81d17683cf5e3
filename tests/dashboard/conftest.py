"""The dashboard over a running API, as the API's own tests have it."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "api"))

from apinet import Net, World, api_over, make_world

from sn46.store.s3 import S3Access
from sn46.store.setup import prepare_buckets


@pytest.fixture(scope="session")
def buckets(s3_access: S3Access) -> tuple[str, str]:
    names = (f"miners-{secrets.token_hex(4)}", f"results-{secrets.token_hex(4)}")
    asyncio.run(prepare_buckets(s3_access, miner_bucket=names[0], results_bucket=names[1]))
    return names


@pytest.fixture
async def world(
    tmp_path: Path, s3_access: S3Access, buckets: tuple[str, str]
) -> AsyncIterator[World]:
    made = make_world(tmp_path, s3_access, buckets)
    yield made
    await made.miners.close()
    await made.results.close()
    made.chain.close()


@pytest.fixture
async def net(world: World) -> AsyncIterator[Net]:
    async with api_over(world) as running:
        await running.ready()
        yield running
