"""The pages in a real browser: on a desk and on a phone, by day and by night."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from apinet import Net, free_port
from dashnet import collecting, entry, publish
from playwright.async_api import Browser, Page, async_playwright

from sn46.dashboard.alerts import Thresholds
from sn46.dashboard.app import Pages, create_app
from sn46.dashboard.collector import Collector
from sn46.serving import serve_app

HOSTILE = '<img src=x onerror="document.title=\'taken\'"><script>document.title="taken"</script>'
PHONE = {"width": 360, "height": 740}
PATHS = ("", "draws", "miners", "agreement", "alerts")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str | None:
    """The browser of this machine; CHROMIUM names another."""
    named = os.environ.get("CHROMIUM")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


pytestmark = pytest.mark.skipif(
    chromium() is None,
    reason="no Chromium is there: apt-get install chromium, or set CHROMIUM to one",
)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        # Whoever runs tests as root has no sandbox; nothing but our own pages is opened.
        opened = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield opened
        await opened.close()


class Seen:
    """A browser's page over a running dashboard, and all that it complained of or asked for."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    async def goto(self, path: str) -> str:
        """What a person reads there."""
        await self.page.goto(f"{self.url}/{path}")
        return await self.page.inner_text("body")

    async def overflows(self) -> bool:
        return await self.page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )


@asynccontextmanager
async def served(
    collector: Collector, net: Net, browser: Browser, *, every: int = 60, **context: Any
) -> AsyncIterator[Seen]:
    """The dashboard on a port of its own, and one who looks at it."""
    pages = Pages(
        lambda: collector.snapshot, clock=net.clock, limits=Thresholds(), every_seconds=every
    )
    port, stop = free_port(), asyncio.Event()
    serving = asyncio.create_task(serve_app(create_app(pages), "127.0.0.1", port, stop))
    viewer = await browser.new_context(**context)
    try:
        seen = Seen(await viewer.new_page(), f"http://127.0.0.1:{port}")

        async def up() -> bool:
            answer = await viewer.request.get(f"{seen.url}/healthz", fail_on_status_code=False)
            return answer.ok

        await until(up)
        yield seen
    finally:
        await viewer.close()
        stop.set()
        await serving


async def until(condition: Any, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while True:
            try:
                if await condition():
                    return
            except Exception as error:
                if "ECONNREFUSED" not in str(error):
                    raise
            await asyncio.sleep(0.02)


async def a_subnet_at_work(net: Net, detail: str = "It came after the deadline.") -> str:
    """An ended epoch with the reports of two validators; its id."""
    epoch = net.epoch
    await net.advance_to(epoch.end + timedelta(hours=1))
    late = {"code": "late", "count": 1, "detail": detail}
    miners = {
        net.hotkey("ann"): entry(reasons=[late]),
        net.hotkey("bob"): entry(rank=2, final=800_000, weight=300_000),
    }
    for name in ("vali", "other"):
        await publish(net, name, epoch, miners)
    return epoch.id


async def test_figures_are_the_apis_and_texts_of_others_stay_texts(
    net: Net, browser: Browser
) -> None:
    ended = await a_subnet_at_work(net, HOSTILE)
    answer = (await net.http.get("/api/v1/zipcode-assignments/stats")).json()
    async with collecting(net) as collector:
        await collector.round()
        async with served(collector, net, browser) as seen:
            text = await seen.goto("")
            current = answer["current_epoch"]
            assert current["epoch_id"] in text
            assert f"{current['total_expected_listings']:,}" in text
            assert f"target {current['target_listings']:,}" in text
            assert f"of {current['eligible_zipcodes']:,} eligible" in text
            for name, tier in answer["tiers"].items():
                assert f"{name}\t{tier['zipcodes']}\t{tier['listings']:,}" in text
            assert f"{ended}: 2 reports, all agree." in text
            text = await seen.goto("draws")
            rows = (await net.http.get("/api/v1/epochs")).json()["epochs"]
            for row in rows:
                assert f"{row['epoch_id']}\t10,000\t{row['total_listings']:,}" in text
            text = await seen.goto("miners")
            assert "50 %\t94.16\t100 %\tyes, but late" in text
            text = await seen.goto(f"miners/{net.hotkey('ann')}")
            assert HOSTILE in text
            assert "taken" not in await seen.page.title()
            assert await seen.page.locator("main img").count() == 0
            text = await seen.goto(f"agreement/{ended}")
            assert text.count(net.hotkey("ann")[:6]) == 2
            await seen.goto(f"draws/{ended}")
            await seen.page.locator("circle.dot").last.hover()
            assert "homes" in await seen.page.inner_text("figure output")
            assert seen.said == []
            assert [url for url in seen.asked if not url.startswith(seen.url)] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_phone_by_day_and_by_night(scheme: str, net: Net, browser: Browser) -> None:
    ended = await a_subnet_at_work(net, "a" * 290)
    async with collecting(net) as collector:
        await collector.round()
        async with served(
            collector, net, browser, viewport=PHONE, color_scheme=scheme, device_scale_factor=1
        ) as seen:
            more = (f"miners/{net.hotkey('ann')}", f"draws/{ended}", f"agreement/{ended}", "none")
            for path in (*PATHS, *more):
                await seen.goto(path)
                assert not await seen.overflows(), path
                assert await lowest_contrast(seen.page) >= 4.5, path
            await seen.goto("")
            back = await seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
            brightness = sum(int(part) for part in back[4:-1].split(","))
            assert (brightness < 200) == (scheme == "dark")


async def lowest_contrast(page: Page) -> float:
    """The least contrast of a text with what is behind it, as WCAG reckons it."""
    return await page.evaluate(
        """() => {
          const parts = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
          const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
            .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
          let lowest = 99;
          for (const el of document.querySelectorAll("body *")) {
            const own = [...el.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
            if (!own || el.closest("svg, script, .skip, output")) continue;
            let back = el;
            while (back && (parts(getComputedStyle(back).backgroundColor)[3] ?? 1) === 0) back = back.parentElement;
            const a = light(parts(getComputedStyle(el).color));
            const b = light(parts(back ? getComputedStyle(back).backgroundColor : "rgb(255,255,255)"));
            lowest = Math.min(lowest, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
          }
          return lowest;
        }"""  # noqa: E501
    )


async def test_a_page_that_stays_open_follows_and_says_when_it_is_old(
    net: Net, browser: Browser
) -> None:
    async with collecting(net) as collector:
        await collector.round()
        async with served(collector, net, browser, every=1) as seen:
            await seen.goto("")
            state = seen.page.locator("#state")
            assert "live" in await state.inner_text()
            first = net.epoch.id
            await seen.page.get_by_text(f"Epoch {first}").wait_for()
            await net.advance_to(net.epoch.end + timedelta(minutes=1))
            await collector.round()
            await seen.page.get_by_text(f"Epoch {net.epoch.id}").wait_for()
            # Nothing is read any more, and time goes on.
            net.clock.advance(timedelta(minutes=20))
            await seen.page.get_by_text("These figures are not live.").wait_for()
            assert "not live" in await state.inner_text()
            assert await seen.page.get_by_text("until the deadline at").count() == 0
            # The dashboard itself goes away.
            await seen.page.route("**/*", lambda route: route.abort())
            await seen.page.get_by_text("The dashboard does not answer.").wait_for()


async def test_all_can_be_reached_by_keyboard(net: Net, browser: Browser) -> None:
    async with collecting(net) as collector:
        await collector.round()
        async with served(collector, net, browser) as seen:
            await seen.goto("miners")
            reached: list[str] = []
            for _ in range(8):
                await seen.page.keyboard.press("Tab")
                reached.append(
                    await seen.page.evaluate(
                        "document.activeElement.textContent || document.activeElement.name"
                    )
                )
            assert reached[:2] == ["To the content", "Now"]
            assert reached[6:] == ["hotkey", "Find"]
            await seen.page.fill("input", "5zzz")
            await seen.page.keyboard.press("Enter")
            await seen.page.get_by_text("No miner's hotkey begins with '5zzz'.").wait_for()


async def test_without_a_script_the_page_still_says_everything(
    net: Net, browser: Browser, tmp_path: Path
) -> None:
    async with collecting(net) as collector:
        await collector.round()
        async with served(collector, net, browser, java_script_enabled=False) as seen:
            text = await seen.goto("")
            assert net.epoch.id in text
            assert "until the deadline" in text
