import sys
from collections.abc import Generator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "portal")]

from portal_process import CALM, portal  # noqa: E402
from source_doubles import ManualClock  # noqa: E402


@pytest.fixture(scope="session")
def calm_portal() -> Generator[str]:
    with portal(*CALM) as url:
        yield url


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
