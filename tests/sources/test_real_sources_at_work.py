"""A validator's checks of rows of real portals, one and combined: three-valued, never a guess."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from site_doubles import CAPTCHA, serving, zillow, zillow_home
from source_doubles import ManualClock
from test_realtor import realtor, realtor_home

from sn46.mechanism.names import Hotkey
from sn46.mechanism.sampling import SampledRow
from sn46.mechanism.verdicts import Verdict
from sn46.sources.base import ListingSource, SearchQuery
from sn46.sources.options import SourceOptions
from sn46.sources.politeness import RetryPolicy
from sn46.sources.registry import open_source
from sn46.validator.checking import RecordCache, SpotChecker

TODAY = date(2026, 3, 1)
SOLD = date(2026, 2, 10)
QUERY = SearchQuery("98101", TODAY - timedelta(days=1094), TODAY)
ONCE = SourceOptions(retry=RetryPolicy(attempts=1))
ZILLOW = [zillow_home(n, "98101", 500_000 + n, SOLD) for n in (1, 2, 3, 4)]
REALTOR = [realtor_home("71", "9 Elm Ave", 500_500, SOLD)]


async def checked(
    source: ListingSource, rows: list[dict[str, Any]], clock: ManualClock, folder: Path
) -> dict[str, Verdict]:
    cache = RecordCache(folder / "records.sqlite", clock)
    checker = SpotChecker([source], cache, clock, concurrency=2)
    sampled = [
        (SampledRow(Hotkey("miner"), row["listing_id"], n, 0, (), 0), row)
        for n, row in enumerate(rows)
    ]
    until = clock.now() + timedelta(days=1)
    checks = await checker.check(sampled, until=until, report=lambda done, of: None)
    cache.close()
    return {check.listing_id: check.verdict for check in checks}


@pytest.mark.parametrize("kind", ["zillow:{0}", "combined:zillow:{0}+realtor:{1}"])
async def test_rows_are_checked_where_they_came_from(
    clock: ManualClock, tmp_path: Path, kind: str
) -> None:
    async with serving(zillow(ZILLOW, TODAY)) as one, serving(realtor(REALTOR)) as other:
        source = open_source(kind.format(one.url, other.url), clock=clock, options=ONCE)
        rows = [row async for batch in source.search(QUERY) for row in batch]
        honest, dearer, elsewhere, refused = rows[:4]
        dearer["sale_price"] = 900_000
        elsewhere["address"] = "1 Nowhere Rd"
        one.always[f"/homedetails/{refused['listing_id'][7:]}_"] = CAPTCHA
        invented = honest | {"listing_id": "zillow:999"}
        verdicts = await checked(source, [*rows, invented], clock, tmp_path)
        await source.close()
    assert [verdicts.pop(row["listing_id"]) for row in [*rows[:4], invented]] == [
        Verdict.CONFIRMED,
        Verdict.CONTRADICTED,
        Verdict.MISIDENTIFIED,
        Verdict.INCONCLUSIVE,
        Verdict.NOT_FOUND,
    ]
    assert verdicts == ({"realtor:71": Verdict.CONFIRMED} if "realtor" in kind else {})
