"""A miner's process through a whole epoch over each adapter of a real portal, one of another
package too, from the API's assignment to a submission that validators find valid."""

import csv
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import site_doubles
import test_realtor
from minernet import Competition, plain, process, read_status, real_now
from site_doubles import serving, zillow, zillow_home
from test_realtor import realtor, realtor_home
from wires import forward_proxies

from sn46.localnet.portal import Home, read_homes
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.names import PPM

ALONE = 10
PAGE = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()


def homes_of(assignment: Assignment) -> list[Home]:
    """Real homes of the ZIPs that were drawn."""
    zips = {zip_.zipcode for zip_ in assignment.zipcodes}
    return [home for home in read_homes() if home.zipcode in zips]


def at_zillow(homes: Sequence[Home]) -> list[Any]:
    return [
        zillow_home(
            number,
            home.zipcode,
            home.latest.price,
            home.latest.sold_on,
            streetAddress=f"{number} Alder St",
            latitude=home.latitude,
            longitude=home.longitude,
        )
        for number, home in enumerate(homes, 1)
    ]


def at_realtor(homes: Sequence[Home]) -> list[Any]:
    found: list[Any] = []
    for number, home in enumerate(homes, 1):
        line, sale = f"{number} Alder Street", home.latest
        one = realtor_home(str(number), line, sale.price, sale.sold_on)
        one["location"]["address"] |= {
            "postal_code": home.zipcode,
            "coordinate": {"lat": home.latitude, "lon": home.longitude},
        }
        found.append(one)
    return found


@asynccontextmanager
async def sources(
    kind: str, homes: Sequence[Home], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[dict[str, str]]:
    """The settings of a miner that asks these portals, by several ways: none is asked more often
    than once a second over one."""
    zips = sorted({home.zipcode for home in homes})
    monkeypatch.setattr(site_doubles, "REGIONS", {z: int(z) for z in zips})
    monkeypatch.setattr(test_realtor, "ZIPS", tuple(zips))
    ours, theirs = at_zillow(homes), at_realtor(homes)
    if kind == "combined":
        # Some homes are at the one portal alone, some at the other, and some at both.
        ours, theirs = [*ours[:ALONE], *ours[ALONE::2]], theirs[ALONE:]
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(serving(zillow(ours, real_now().date())))
        other = await stack.enter_async_context(serving(realtor(theirs)))
        ways = await stack.enter_async_context(forward_proxies(8))
        setting = {
            "zillow": f"zillow:{one.url}",
            "realtor": f"realtor:{other.url}",
            "combined": f"combined:realtor:{other.url}+zillow:{one.url}",
        }[kind]
        yield {"SOURCES": setting, "PROXIES": ",".join(ways)}


async def mined(competition: Competition, folder: Path, **changes: str) -> str:
    """The log of a miner that has done the epoch."""
    data = folder / "data"
    environment = competition.environment("ann", data, **changes)
    async with process(environment, cwd=folder) as running:

        async def done() -> bool:
            return read_status(data).get("last_result") is not None

        await competition.net.until(done, seconds=90)
        running.terminate()
        _, log = await running.communicate()
    return plain(log)


@pytest.mark.parametrize(
    ("kind", "origins"),
    [("zillow", {"zillow"}), ("realtor", {"realtor"}), ("combined", {"realtor", "zillow"})],
)
async def test_a_whole_epoch(
    competition: Competition,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    origins: set[str],
) -> None:
    assignment = await competition.assignment()
    homes = homes_of(assignment)
    async with sources(kind, homes, monkeypatch) as changes:
        log = await mined(competition, tmp_path, **changes)
    judged = await competition.judged(assignment)
    assert (judged.reasons, judged.participant, judged.volume) == ((), True, PPM), log
    assert judged.rows == judged.rows_kept == len(homes)
    rows = await competition.kept_rows(assignment)
    assert {row["source"] for row in rows} == origins
    assert all(row["listing_id"].startswith(f"{row['source']}:") for row in rows)
    by_number = {row["listing_id"].partition(":")[2]: row for row in rows}
    for number, home in enumerate(homes, 1):
        row = by_number[str(number)]
        assert (row["zipcode"], row["sale_price"], row["sale_date"]) == (
            home.zipcode, home.latest.price, home.latest.sold_on,
        )  # fmt: skip
    if kind == "combined":
        assert Counter(row["source"] for row in rows)["zillow"] == ALONE
        # Zillow alone tells the lot; it fills the homes that both have.
        with_lot = sum(row["lot_sqft"] is not None for row in rows)
        assert with_lot == ALONE + len(homes[ALONE::2])


async def test_a_whole_epoch_over_another_packages_source(
    competition: Competition, tmp_path: Path
) -> None:
    """The page's own example, installed as its reader would."""
    pytest.importorskip("setuptools")
    site = await installed(tmp_path)
    assignment = await competition.assignment()
    homes = homes_of(assignment)
    sales = tmp_path / "sales.csv"
    with sales.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["parcel", "address", "city", "zip", "price", "sold"])
        for home in homes:
            sale = home.latest
            out.writerow([home.id, f"{home.id} Alder St", home.city, home.zipcode, sale.price,
                          sale.sold_on])  # fmt: skip
    log = await mined(competition, tmp_path, SOURCES=f"county:{sales}", PYTHONPATH=str(site))
    judged = await competition.judged(assignment)
    assert (judged.reasons, judged.participant, judged.volume) == ((), True, PPM), log
    rows = await competition.kept_rows(assignment)
    assert {row["source"] for row in rows} == {"county"}
    assert len(rows) == len(homes)


async def installed(folder: Path) -> Path:
    """The package of docs/sources.md, built and installed by pip, without any network."""
    code, points = (
        re.search(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
        for language in ("python", "toml")
    )
    assert code
    assert points
    project, site = folder / "project", folder / "site"
    project.mkdir()
    (project / "county_listings.py").write_text(code[1])
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "county-listings"\nversion = "1.0"\n'
        f'{points[1]}[tool.setuptools]\npy-modules = ["county_listings"]\n'
    )
    pip = ("-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation", "--quiet")
    async with process(
        {"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        cwd=folder,
        command=(*pip, "--target", str(site), str(project)),
    ) as running:
        _, errors = await running.communicate()
    assert running.returncode == 0, errors.decode()
    return site
