"""A folder of published epochs, and what is kept of it."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sn46.cli import main
from sn46.data.decoder import Decoder

Ask = Callable[..., Any]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def decoder() -> AsyncIterator[Decoder]:
    """The process that decodes, one for all tests."""
    made = Decoder(seconds=60)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, no .env, and no settings of the machine's."""
    monkeypatch.chdir(tmp_path)
    for name in ("S3_ENDPOINT_URL", "S3_ACCESS_KEY", "S3_SECRET_KEY", "TRUSTED_VALIDATORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def ask(capfd: pytest.CaptureFixture[str]) -> Ask:
    """Asks a folder through the command line; the answer's rows."""

    def ask_(folder: Path, sql: str, *options: str) -> list[dict[str, Any]]:
        code = main(["data", "query", sql, "--from", str(folder), "--format", "json", *options])
        said = capfd.readouterr()
        assert code == 0, said.err
        return json.loads(said.out)

    return ask_
