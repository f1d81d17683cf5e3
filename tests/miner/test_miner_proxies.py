"""A miner whose proxies come from PROXIES_URL, as its owner sees it."""

import socket
from datetime import date
from pathlib import Path

from portal_process import CALM, portal
from site_doubles import serving
from source_doubles import http, running_proxy

from sn46.clock import SystemClock
from sn46.finding import Finding
from sn46.miner.doctor import Doctor
from sn46.miner.process import opened_sources
from sn46.miner.settings import MinerSettings, load_settings
from sn46.sources.base import SearchQuery


def settings_for(portal_url: str, list_url: str, folder: Path) -> MinerSettings:
    return load_settings(
        _env_file=None,
        api_url="http://127.0.0.1:9",
        api_hotkey="5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
        sources=f"portal:{portal_url}",
        proxies_url=list_url.replace("//", "//ann:s3cret@"),
        wallet_path=folder / "none",
        data_dir=folder / "data",
    )


async def doctor_says(settings: MinerSettings) -> dict[str, Finding]:
    doctor = Doctor(settings, SystemClock())
    return {finding.part.partition(" portal")[0]: finding async for finding in doctor.look()}


async def test_doctor_tries_the_proxies_that_are_listed(tmp_path: Path) -> None:
    with socket.socket() as held, portal(*CALM) as url:
        held.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{held.getsockname()[1]}"
        async with running_proxy("u:right") as proxy:
            lines = f"127.0.0.1:{proxy.port}:u:right\n{dead}\nwhat is this\n"
            async with serving(lambda _: http(200, lines)) as site:
                said = await doctor_says(settings_for(url, site.url, tmp_path))
    assert said["PROXIES_URL"] == Finding(
        "PROXIES_URL", True, "it lists 2 proxies; 1 of its lines are none"
    )
    assert said["source"].ok
    assert not said[f"proxy 2 ({dead})"].ok
    assert said["proxies"].ok
    assert "1 of 2 work, answering in " in said["proxies"].text
    assert proxy.forwarded
    assert not any("s3cret" in finding.text or "right" in finding.text for finding in said.values())


async def test_doctor_says_that_the_list_cannot_be_had(tmp_path: Path) -> None:
    with portal(*CALM) as url:
        async with serving(lambda _: http(401)) as site:
            said = await doctor_says(settings_for(url, site.url, tmp_path))
    assert said["PROXIES_URL"].text == (
        "PROXIES_URL (127.0.0.1) answers 401; a list of proxies is needed."
    )
    assert not said["source"].ok
    assert "over proxies only" in said["source"].text
    assert not said["proxies"].ok


async def test_a_miner_asks_over_the_listed_proxies(tmp_path: Path) -> None:
    with portal(*CALM) as url:
        async with running_proxy() as one, running_proxy() as two:
            lines = f"127.0.0.1:{one.port}\n127.0.0.1:{two.port}\n"
            async with serving(lambda _: http(200, lines)) as site:
                settings = settings_for(url, site.url, tmp_path)
                async with opened_sources(settings, SystemClock()) as (source,):
                    query = SearchQuery("98103", date(2010, 1, 1), date(2020, 1, 1))
                    rows = [row async for batch in source.search(query) for row in batch]
    assert len(rows) == 600
    assert len(one.forwarded) + len(two.forwarded) == 15
    assert min(len(one.forwarded), len(two.forwarded)) >= 4
