"""Sources by their setting, built in or from another package."""

import importlib
import sys
from datetime import date
from pathlib import Path

import pytest
from site_doubles import serving, zillow, zillow_home
from source_doubles import ManualClock

from sn46.sources.base import Lookup, SearchQuery
from sn46.sources.options import SourceOptions
from sn46.sources.registry import SourceSettingError, open_source, source_kinds


async def test_a_setting_becomes_a_working_source(calm_portal: str, clock: ManualClock) -> None:
    options = SourceOptions(local_address="127.0.0.33")
    source = open_source(f"portal:{calm_portal}", clock=clock, options=options)
    assert source.name == "portal"
    assert (await source.detail("portal:7129300520")).lookup is Lookup.FOUND
    await source.close()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("redfin:x", "'redfin' is not known"),
        ("zillow:x", "not the URL of Zillow"),
        ("realtor:x", "not the URL of Realtor"),
        ("combined:portal:http://127.0.0.1:1", "two or more sources"),
        ("combined:portal:http://127.0.0.1:1+portal:http://127.0.0.1:2", "different names"),
        ("combined:portal:http://127.0.0.1:1+redfin:x", "'redfin' is not known"),
        ("portal", "'portal' has no location"),
        ("", "'' has no location"),
        ("portal:127.0.0.1:80", "not the URL of a portal"),
    ],
)
def test_a_setting_that_names_no_source_is_refused(
    clock: ManualClock, setting: str, said: str
) -> None:
    with pytest.raises(SourceSettingError, match=said):
        open_source(setting, clock=clock)


@pytest.mark.parametrize(
    ("package", "setting", "said"),
    [
        ("curl_cffi", "zillow:https://127.0.0.1", "sn46\\[zillow\\]"),
        ("homeharvest.core.scrapers", "realtor:https://127.0.0.1", "sn46\\[realtor\\]"),
    ],
)
def test_an_extra_that_is_not_installed_is_named(
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    setting: str,
    said: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SourceSettingError, match=said):
        open_source(setting, clock=clock)


def test_another_homeharvest_is_refused_at_the_start(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("homeharvest.core.scrapers.realtor.RealtorScraper.general_search")
    with pytest.raises(SourceSettingError, match="needs homeharvest"):
        open_source("realtor:https://127.0.0.1", clock=clock)


async def test_a_setting_asks_for_details(clock: ManualClock) -> None:
    async with serving(zillow([HOME], date(2026, 3, 1))) as site:
        source = open_source(f"zillow:{site.url}#details", clock=clock)
        query = SearchQuery("98101", date(2026, 1, 1), date(2026, 3, 1))
        rows = [row async for batch in source.search(query) for row in batch]
        await source.close()
    assert [row["year_built"] for row in rows] == [1986]


HOME = zillow_home(101, "98101", 925_000, date(2026, 2, 10))
PLUGIN = """
class Kept:
    name = "kept"
    def __init__(self, location, clock, options):
        if not location:
            raise ValueError("a folder is needed")
        self.location, self.clock, self.options = location, clock, options
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package installed beside this one, with a good source and a broken one."""
    (tmp_path / "kept_listings.py").write_text(PLUGIN)
    info = tmp_path / "kept_listings-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kept-listings\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[sn46.sources]\nkept = kept_listings:Kept\nbroken = no_such_module:Source\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()


@pytest.mark.usefixtures("plugins")
def test_another_package_brings_a_source(clock: ManualClock) -> None:
    assert {"broken", "kept", "portal"} <= set(source_kinds())
    source = open_source("kept:/data/x:y", clock=clock)
    assert (source.name, vars(source)["location"]) == ("kept", "/data/x:y")
    assert vars(source)["clock"] is clock
    with pytest.raises(SourceSettingError, match="a folder is needed"):
        open_source("kept:", clock=clock)


@pytest.mark.usefixtures("plugins")
def test_a_broken_package_is_named(clock: ManualClock) -> None:
    with pytest.raises(SourceSettingError, match="no_such_module:Source cannot be loaded"):
        open_source("broken:x", clock=clock)
