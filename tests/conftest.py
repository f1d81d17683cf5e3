"""Fixtures for the real parts that tests of several rooms talk to."""

import asyncio
import gc
import io
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator

import httpx
import pytest
from hypothesis import settings

from sn46.certificates import trusted
from sn46.logs import configure_logs
from sn46.store.s3 import S3Access, S3Bucket
from sn46.store.seaweed import SeaweedServer
from sn46.store.setup import prepare_buckets

BucketMaker = Callable[[], Awaitable[S3Bucket]]


# How long an example takes says how busy the machine is: tests run beside one another.
settings.register_profile("beside others", deadline=None)
settings.load_profile("beside others")


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the garbage collector need not walk through it again, nor come
    by after every 700 new objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def pytest_unconfigure() -> None:
    """At the end it may go: what is not let go of there, some libraries complain of."""
    gc.unfreeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say of a test that took too long what its tasks wait for: threads tell nothing of them."""
    report = yield
    if call.excinfo is not None and "Timeout" in str(call.excinfo.value):
        stacks = io.StringIO()
        for task in [found for found in gc.get_objects() if isinstance(found, asyncio.Task)]:
            if not task.done():
                task.print_stack(file=stacks)
        report.sections.append(("Tasks that wait", stacks.getvalue()))
    return report


@pytest.fixture(scope="session", autouse=True)
def quiet_logs() -> None:
    """Services in this process log as in operation, but only what is wrong."""
    configure_logs("json", "warning")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    """A real S3 server, one for each process that runs tests."""
    with SeaweedServer(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_access(s3_server: SeaweedServer) -> S3Access:
    return s3_server.access


@pytest.fixture
async def new_bucket(s3_access: S3Access) -> AsyncIterator[BucketMaker]:
    """Makes empty buckets, set up as the API's are, for one test each."""
    made: list[S3Bucket] = []

    async def make() -> S3Bucket:
        name = f"test-{secrets.token_hex(6)}"
        await prepare_buckets(s3_access, miner_bucket=name, results_bucket=name)
        made.append(S3Bucket(s3_access, name))
        return made[-1]

    yield make
    for bucket in made:
        await bucket.close()


@pytest.fixture
async def bucket(new_bucket: BucketMaker) -> S3Bucket:
    """An empty bucket that keeps versions."""
    return await new_bucket()


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(verify=trusted()) as client:
        yield client
