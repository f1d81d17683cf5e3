"""The dashboard over a running API, as the API's own tests have it."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "api"))

from apinet import Net, World, api_over, make_buckets, open_world

from sn46.store.s3 import S3Access


@pytest.fixture(scope="session")
def buckets(s3_access: S3Access) -> tuple[str, str]:
    return make_buckets(s3_access)


@pytest.fixture
async def world(
    tmp_path: Path, s3_access: S3Access, buckets: tuple[str, str]
) -> AsyncIterator[World]:
    async with open_world(tmp_path, s3_access, buckets) as made:
        yield made


@pytest.fixture
async def net(world: World) -> AsyncIterator[Net]:
    async with api_over(world) as running:
        await running.ready()
        yield running
