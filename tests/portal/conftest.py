import sys
from collections.abc import Generator
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from portal_process import CALM, portal

from sn46.localnet.portal import bundled_sales_path


@pytest.fixture(scope="session")
def calm_portal() -> Generator[str]:
    with portal(*CALM) as url:
        yield url


@pytest.fixture(scope="session")
def latest_sales() -> pl.DataFrame:
    """The raw file with each home's latest sale, found in another way than the portal does."""
    raw = pl.read_parquet(bundled_sales_path())
    return raw.filter(pl.col("date") == pl.col("date").max().over("id"))
