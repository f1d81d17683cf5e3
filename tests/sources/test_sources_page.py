"""What docs/sources.md tells works as it stands there."""

import importlib
import re
import tomllib
from datetime import date
from pathlib import Path

import pytest
from source_doubles import ManualClock

from sn46.mechanism.listings import listings_frame
from sn46.mechanism.verdicts import Verdict, compare
from sn46.sources.base import Lookup, SearchQuery, SourceUnavailable
from sn46.sources.registry import open_source, source_kinds

PAGE = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
SALES = """parcel,address,city,zip,price,sold
0042,12 Alder St,Seattle,98101,925000,2026-02-10
0043,14 Alder St,Seattle,98101,935000,2019-02-10
0044,9 Elm Ave,Seattle,98102,505000,2026-02-11
"""


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


@pytest.fixture
def county(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's package, installed as it says, and a file of sales."""
    (points,) = tomllib.loads(block("toml"))["project"]["entry-points"].items()
    module = next(iter(points[1].values())).partition(":")[0]
    (tmp_path / f"{module}.py").write_text(block("python"))
    info = tmp_path / "county_listings-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: county-listings\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in points[1].items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{points[0]}]", *lines, ""]))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    sales = tmp_path / "sales.csv"
    sales.write_text(SALES)
    return sales


async def test_the_pages_source_collects_and_checks(county: Path, clock: ManualClock) -> None:
    source = open_source(f"county:{county}", clock=clock)
    query = SearchQuery("98101", date(2023, 3, 1), date(2026, 3, 1))
    rows = [row async for batch in source.search(query) for row in batch]
    assert [row["listing_id"] for row in rows] == ["county:0042"]
    assert listings_frame(rows).height == 1
    detail = await source.detail("county:0042")
    assert compare(rows[0], detail.row)[0] is Verdict.CONFIRMED
    assert (await source.detail("county:7")).lookup is Lookup.NOT_FOUND
    await source.close()


async def test_the_pages_source_raises_what_it_owes(county: Path, clock: ManualClock) -> None:
    source = open_source(f"county:{county}.gone", clock=clock)
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        await source.detail("county:7")


def test_the_page_is_short_and_names_every_kind() -> None:
    code = [line for line in block("python").splitlines() if line.strip()]
    assert len(code) <= 30
    for kind in source_kinds():
        assert f"`{kind}:" in PAGE
