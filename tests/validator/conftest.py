"""The validator's parts for tests: an examiner, a portal, and a competition for each test."""

import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
import stamina

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "store"))
sys.path.insert(0, str(Path(__file__).parent.parent / "portal"))
sys.path.insert(0, str(Path(__file__).parent.parent / "miner"))
sys.path.insert(0, str(Path(__file__).parent.parent / "api"))

from apinet import World, api_over, make_buckets, make_world, open_world
from exports import Scene, make_scene
from minernet import RULES, Competition, roomy_epoch, write_county_table
from portal_process import CALM, portal

from sn46.store.s3 import S3Access
from sn46.validator.examiner import Examiner


@pytest.fixture(scope="session")
def examiner() -> Iterator[Examiner]:
    """One for all tests: what it decodes leaves nothing behind."""
    made = Examiner(seconds=60, memory_mb=3_000)
    yield made
    made.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def first_scene(examiner: Examiner) -> Scene:
    return await make_scene(examiner)


@pytest.fixture
def scene(first_scene: Scene) -> Scene:
    """An export made by hand, whose objects a test may change."""
    return first_scene.copy()


@pytest.fixture
def no_pauses() -> Iterator[None]:
    """Retries of single requests come at once, so that a store that is down is soon given up."""
    stamina.set_testing(True, attempts=2)
    yield
    stamina.set_testing(False)


@pytest.fixture(scope="session")
def portal_url() -> Iterator[str]:
    with portal(*CALM) as url:
        yield url


@pytest.fixture(scope="session")
def validator_buckets(s3_access: S3Access) -> tuple[str, str]:
    return make_buckets(s3_access)


@pytest.fixture
async def world(
    tmp_path: Path, s3_access: S3Access, validator_buckets: tuple[str, str]
) -> AsyncIterator[World]:
    async with open_world(tmp_path, s3_access, validator_buckets) as made:
        write_county_table(made)
        made.chain.set_stake(made.hotkey("poor"), 22_000 * 10**9)
        yield made


@pytest.fixture
async def competition(world: World, portal_url: str, tmp_path: Path) -> AsyncIterator[Competition]:
    async with api_over(world, metagraph_max_age_seconds=7_200, **RULES) as net:
        await net.ready()
        yield Competition(net, portal_url, tmp_path)


@pytest.fixture
async def present(
    tmp_path: Path, s3_access: S3Access, validator_buckets: tuple[str, str], portal_url: str
) -> AsyncIterator[Competition]:
    """A competition of the present day, for validators in other processes."""
    now = datetime.now(UTC)
    made = make_world(tmp_path, s3_access, validator_buckets, start=now)
    write_county_table(made)
    async with api_over(made, epoch_seconds=roomy_epoch(now).seconds, **RULES) as net:
        await net.ready()
        yield Competition(net, portal_url, tmp_path)
    await made.miners.close()
    await made.results.close()
    made.chain.close()
