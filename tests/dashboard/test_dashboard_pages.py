"""The pages as they are sent: what stands in them, what never does, and how they are kept."""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from mechanism.builders import hotkey
from snapshots import (
    ANN,
    BOB,
    CID,
    EPOCH,
    NOW,
    VALIDATORS,
    announced,
    before,
    busy,
    miner_row,
    published,
    snapshot,
    stats,
    usual,
    with_reports,
)

import sn46.dashboard
from sn46.dashboard.alerts import Thresholds
from sn46.dashboard.app import Pages, create_app
from sn46.dashboard.country import country_svg
from sn46.dashboard.snapshot import Look, Part, ReasonRow, Snapshot
from sn46.zipcodes import load_bundled_table

PATHS = (
    "/", "/draws", f"/draws/{before(2).id}", f"/draws/{EPOCH.id}", "/miners", f"/miners/{ANN}",
    f"/miners/{CID}", "/miners?hotkey=5", "/agreement", f"/agreement/{before(2).id}",
    f"/agreement/{EPOCH.id}", "/alerts",
)  # fmt: skip
STATIC = ("style.css", "live.js", "country.svg", "icon.svg")
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'


class Still:
    """A clock that stands."""

    def __init__(self, now: datetime) -> None:
        self.at = now

    def now(self) -> datetime:
        return self.at

    async def sleep(self, duration: timedelta) -> None:
        self.at += duration


class Shown:
    """The application over a snapshot that a test changes, at a moment that it moves."""

    def __init__(self) -> None:
        self.clock = Still(NOW)
        self.snapshot = busy()
        self.pages = Pages(
            lambda: self.snapshot, clock=self.clock, limits=Thresholds(), every_seconds=20
        )
        transport = httpx.ASGITransport(create_app(self.pages))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://dashboard")

    async def get(self, path: str) -> str:
        answer = await self.http.get(path)
        assert answer.status_code == 200, path
        return answer.text


@pytest.fixture
async def shown() -> AsyncIterator[Shown]:
    made = Shown()
    async with made.http:
        yield made


def words(html: str) -> str:
    """The text of a page, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


# Every page --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
async def test_every_page_needs_nothing_from_elsewhere(path: str, shown: Shown) -> None:
    answer = await shown.http.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    loaded = re.findall(r'(?:src|href|action)="([^"]*)"', answer.text)
    assert loaded
    assert [address for address in loaded if not address.startswith((".", "#"))] == []
    assert "style=" not in answer.text
    assert "<style" not in answer.text
    assert not re.search(r"\son\w+=", answer.text)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", PATHS)
async def test_links_lead_somewhere_from_every_page(path: str, shown: Shown) -> None:
    links = set(re.findall(r'href="(\.[^"]*)"', await shown.get(path)))
    for link in links:
        target = httpx.URL(f"http://dashboard{path}").join(link)
        assert (await shown.http.get(target)).status_code == 200, link


async def test_the_pages_stand_below_any_path(shown: Shown) -> None:
    """Every link is relative, so a proxy may put them wherever it likes."""
    page = httpx.URL("https://example.org/sn46/draws/x")
    links = re.findall(r'href="(\.[^"]*)"', await shown.get(f"/draws/{before(2).id}"))
    assert all(str(page.join(link)).startswith("https://example.org/sn46/") for link in links)


@pytest.mark.parametrize("made", [snapshot(stats=None, looks={}, ready=()), snapshot()])
async def test_every_page_is_there_while_nothing_is_known(made: Snapshot, shown: Shown) -> None:
    shown.snapshot = made
    for path in ("/", "/draws", "/miners", "/agreement", "/alerts"):
        assert "SN46" in await shown.get(path)
    assert (await shown.http.get(f"/miners/{ANN}")).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/x", "/x/y/z", "/draws/2020-01-01-00:00", "/draws/<b>", "/miners/5F", "/agreement/x",
        f"/miners/{'5' * 5_000}", "/static/../app.py", "/static/app.py", "/draws/",
    ],
)  # fmt: skip
async def test_what_is_not_there_is_a_page_that_says_so(path: str, shown: Shown) -> None:
    answer = await shown.http.get(path)
    assert answer.status_code == 404
    assert "There is no such page" in answer.text
    assert "<b>" not in answer.text.replace("<b>SN46</b>", "").replace("<b></b>", "")
    assert "content-security-policy" in answer.headers


async def test_it_only_reads(shown: Shown) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for path in ("/", "/draws", "/healthz"):
            assert (await shown.http.request(method, path)).status_code == 405
    assert (await shown.http.head("/")).status_code == 200


# What others write -------------------------------------------------------------------------------


async def test_hostile_texts_are_text(shown: Shown) -> None:
    made = busy()
    reasons = (ReasonRow(HOSTILE, 1, HOSTILE),)
    rows = {ANN: miner_row(reasons=reasons), BOB: miner_row(rank=2, valid=False, reasons=reasons)}
    shown.snapshot = replace(
        made,
        api_url=f"http://api.example/{HOSTILE}",
        published={e: published(before(2), rows) for e in made.published},
        stats=stats(draw_error=HOSTILE, statuses={HOSTILE: 3}),
        looks={**made.looks, Part.REPORTS: Look(None, NOW - timedelta(hours=1), HOSTILE)},
        unreadable={before(3).id: HOSTILE},
        ready=tuple(replace(part, ok=False, detail=HOSTILE) for part in made.ready),
    )
    hits = 0
    for path in (*PATHS, f"/miners?hotkey={HOSTILE}", f"/agreement/{before(3).id}"):
        page = await shown.get(path)
        assert "<script>alert" not in page, path
        assert "<img" not in page, path
        hits += page.count("&lt;script&gt;alert(1)&lt;/script&gt;")
    assert hits > 20


# Figures -----------------------------------------------------------------------------------------


async def test_now(shown: Shown) -> None:
    page = words(await shown.get("/"))
    for text in (
        EPOCH.id, "3:00:00 until the deadline at 20:00:00 UTC", "Grace", "Quick validation",
        "9,812 homes to find, target 10,000", "-1.9 % off the target", "12 ZIPs of 6,720 eligible",
        "41 miners fetched upload credentials", "12 done, as they say",
        f"{before(2).id} : 3 reports, all agree.", "40 miners took part",
        "30 of them reached 95 %",
    ):  # fmt: skip
        assert text in page, text


async def test_a_stale_page_shows_no_countdown(shown: Shown) -> None:
    await shown.clock.sleep(timedelta(minutes=10))
    page = await shown.get("/")
    assert "These figures are not live." in words(page)
    assert "10 min ago" in words(page)
    assert "data-until" not in page
    assert "until the deadline" not in page
    assert 'class="stale"' in page
    for path in PATHS:
        assert "These figures are not live." in words(await shown.get(path)), path


async def test_the_draws(shown: Shown) -> None:
    page = words(await shown.get("/draws"))
    assert f"{EPOCH.id} 10,000 9,800 12" in page
    assert "open until its end" in page
    assert "PA, WA, FL" in page
    one = await shown.get(f"/draws/{before(2).id}")
    assert one.count("<circle") == 3
    assert "33101 Miami Allegheny FL emerging 400" in words(one)
    assert f"sn46 audit {before(2).id} --api http://api.example" in words(one)
    assert f"as {before(3).id} had announced" in words(one)
    assert "public once the epoch has ended" in words(await shown.get(f"/draws/{EPOCH.id}"))


async def test_the_running_draw_shows_no_zip(shown: Shown) -> None:
    """Not even where the API had told it."""
    made = busy()
    leaked = {**made.draws, EPOCH.id: replace(made.draws[before(1).id], epoch_id=EPOCH.id)}
    shown.snapshot = replace(made, draws=leaked)
    assert "15213" not in await shown.get(f"/draws/{EPOCH.id}")


async def test_the_miners(shown: Shown) -> None:
    page = words(await shown.get("/miners"))
    first = page.index(f"{ANN[:6]}…{ANN[-4:]}")
    assert first < page.index(f"{BOB[:6]}…{BOB[-4:]}") < page.index(f"{CID[:6]}…{CID[-4:]}")
    assert "50 % 94.18 95.35 % yes" in page
    assert "disqualified: a home that does not exist" in page
    found = words(await shown.get(f"/miners?hotkey={BOB[:9]}"))
    assert f"{BOB[:6]}…" in found
    assert f"{ANN[:6]}…" not in found
    assert "No miner's hotkey begins with" in words(await shown.get("/miners?hotkey=6"))


async def test_one_miner_reads_why(shown: Shown) -> None:
    page = words(await shown.get(f"/miners/{ANN}"))
    for text in (
        "Place 1 of 2: 94.18 of 100 points, 50.00 % of the epoch's rewards.",
        "Speed: 100.00 %, which is 40.00 of 40 points.",
        "Quality: 86.45 %, which is 34.58 of 40 points",
        "38 were confirmed, 2 contradicted, 0 do not exist",
        "Its record leaves 95.35 % of the score",
        f"sn46 explain {ANN} --from DIR --epoch {before(2).id}",
    ):
        assert text in page, text
    cheat = words(await shown.get(f"/miners/{CID}"))
    assert "DISQUALIFIED by deep validation" in cheat
    assert "fake_listing (1): portal:77 does not exist as submitted." in cheat


async def test_without_reports_a_miner_reads_its_places_and_where_scores_are(shown: Shown) -> None:
    shown.snapshot = replace(busy(), published={}, reads_reports=False)
    page = words(await shown.get(f"/miners/{ANN}"))
    assert "Epochs among the first three" in page
    assert f"{before(2).id} 1" in page
    assert "VALIDATED_BUCKET is not set" in page


async def test_agreement(shown: Shown) -> None:
    reports = usual()
    reports[2] = announced(before(2), other=VALIDATORS[2:])
    reports[3] = announced(before(3), VALIDATORS[:1])
    shown.snapshot = with_reports(reports)
    page = await shown.get("/agreement")
    assert re.search(rf'<tr class="bad"><td><a[^>]*>{before(2).id}', page)
    assert not re.search(rf'<tr class="bad"><td><a[^>]*>{before(3).id}', page)
    text = words(page)
    order = sorted(VALIDATORS)
    letters = " ".join("B" if v == VALIDATORS[2] else "A" for v in sorted(order))
    assert f"{before(2).id} 3 66.67 % 100 %" in text
    assert sorted(letters.split()) == ["A", "A", "B"]
    assert f"{before(1).id} awaited" in text
    one = words(await shown.get(f"/agreement/{before(2).id}"))
    assert one.count(f"{ANN[:6]}…{ANN[-4:]}") == 3
    assert "Same result 66.67 %" in one


async def test_alerts_stand_on_top_and_are_counted(shown: Shown) -> None:
    shown.snapshot = busy(stats=stats(draw_error="Only 3 ZIPs are eligible."))
    for path in ("/", "/alerts"):
        page = await shown.get(path)
        assert "Only 3 ZIPs are eligible." in page
        assert "What to do:" in page
        assert "<code>sn46 api check</code>" in page
    assert "<title>(1) Draws" in await shown.get("/draws")
    shown.snapshot = replace(busy(), version=99)
    assert "There is none." in await shown.get("/alerts")


# Keeping -----------------------------------------------------------------------------------------


async def test_a_page_is_not_sent_again_to_who_has_it(shown: Shown) -> None:
    first = await shown.http.get("/miners")
    tag = first.headers["etag"]
    again = await shown.http.get("/miners", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    shown.snapshot = replace(busy(), version=8, leaders=())
    changed = await shown.http.get("/miners", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    for name in STATIC:
        answer = await shown.http.get(f"/static/{name}")
        assert answer.status_code == 200
        tag = answer.headers["etag"]
        again = await shown.http.get(f"/static/{name}", headers={"If-None-Match": tag})
        assert again.status_code == 304


async def test_pages_that_are_kept_are_bounded(shown: Shown) -> None:
    for number in range(600):
        await shown.http.get(f"/miners?hotkey={number}")
        await shown.http.get(f"/draws/{number}")
    kept: dict[str, Any] = shown.pages._kept
    assert len(kept) == 256
    assert sum(len(one.body) for one in kept.values()) == shown.pages._bytes
    many = {hotkey(f"miner {n}"): miner_row(rank=n) for n in range(1, 290)}
    shown.snapshot = replace(
        busy(), version=8, published={before(2).id: published(before(2), many)}
    )
    for _ in range(3):
        for key in many:
            for length in (1, 2, 3, 4):
                await shown.http.get(f"/miners?hotkey={key[:length]}")
    assert sum(len(one.body) for one in kept.values()) == shown.pages._bytes <= 8 * 1024 * 1024


@pytest.mark.parametrize(
    ("change", "live", "age"),
    [
        (lambda s: s, True, 0.0),
        (lambda s: replace(s, looks={}), False, None),
        (
            lambda s: replace(s, looks={Part.STATS: Look(NOW - timedelta(hours=1))}),
            False,
            3_600.0,
        ),
    ],
)
async def test_health(
    change: Callable[[Snapshot], Snapshot], live: bool, age: float | None, shown: Shown
) -> None:
    shown.snapshot = change(busy())
    answer = await shown.http.get("/healthz")
    assert answer.status_code == 200
    said = answer.json()
    assert (said["status"], said["live"]) == ("ok", live)
    assert (said["age_seconds"] is None) == (age is None)
    if age is not None:
        assert said["age_seconds"] >= age


def test_the_picture_of_the_country_is_that_of_the_table() -> None:
    folder = Path(sn46.dashboard.__file__).parent / "static"
    assert (folder / "country.svg").read_text() == country_svg(load_bundled_table())
    assert {file.name for file in folder.iterdir()} == set(STATIC)
