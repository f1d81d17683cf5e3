"""``sn46 api check``: a line for each part, and what to do where one is not well."""

import asyncio
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Any

import pytest
from apinet import NETUID, World

from sn46.api.check import check_api
from sn46.chain.base import Chain
from sn46.chain.connect import open_chain
from sn46.cli import main
from sn46.clock import SystemClock
from sn46.finding import Finding


async def findings(world: World, **changes: Any) -> dict[str, Finding]:
    settings = world.settings(**changes)
    return {found.part: found async for found in check_api(settings, world.clock)}


async def test_a_server_that_has_all_it_needs(world: World) -> None:
    found = await findings(world)
    assert [part for part in ("database", "ZIP table", "chain") if not found[part].ok] == []
    assert "eligible" in found["ZIP table"].text
    assert "with a validator permit" in found["chain"].text


@pytest.mark.parametrize(
    ("changes", "part", "words"),
    [
        ({"database_url": "sqlite+aiosqlite:////no/such/folder/api.db"}, "database", "folder"),
        ({"zipcode_table": "/no/such/table.parquet"}, "ZIP table", "ZIPCODE_TABLE"),
        ({"target_listings": 10_000_000}, "ZIP table", "TARGET_LISTINGS"),
        ({"chain_endpoint": "local:/no/such/chain.sqlite"}, "chain", "chain"),
        ({"netuid": 47}, "chain", "47"),
        ({"chain_endpoint": "moon"}, "chain", "moon"),
        ({"wallet_hotkey": "nobody"}, "wallet", "nobody"),
        (
            {"database_url": "postgresql+asyncpg://sn46:topsecret@127.0.0.1:9/sn46"},
            "database",
            "DATABASE_URL",
        ),
        ({"limits_storage": "valkey://:topsecret@127.0.0.1:9"}, "limits", "LIMITS_STORAGE"),
    ],
)
async def test_what_is_not_well_is_named(
    world: World, changes: dict[str, Any], part: str, words: str
) -> None:
    found = (await findings(world, **changes))[part]
    assert not found.ok
    assert words in found.text
    assert "\n" not in found.text
    assert "topsecret" not in found.text


async def test_a_store_that_cannot_be_used_says_nothing_of_wallet_and_chain(world: World) -> None:
    found = await findings(world, s3_region="")
    assert found["chain"].ok
    assert "wallet" not in found
    assert not found[world.settings().miner_bucket].ok


@pytest.mark.parametrize("seconds", [-3_600, 3_600])
async def test_a_chain_of_another_time_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """By a clock that differs from that which the chain's blocks follow."""
    opened = open_chain(f"local:{world.folder}/chain.sqlite", netuid=NETUID, clock=world.clock)

    def same(*_args: Any, **_options: Any) -> Chain:
        return opened

    class OtherClock(SystemClock):
        def now(self) -> datetime:
            return world.clock.now() + timedelta(seconds=seconds)

    monkeypatch.setattr("sn46.api.check.open_chain", same)
    settings = world.settings(metagraph_max_age_seconds=1_200)
    found = {f.part: f async for f in check_api(settings, OtherClock())}["chain"]
    assert not found.ok
    assert "set the clock" in found.text


async def test_a_store_with_other_keys_is_named(world: World) -> None:
    found = await findings(world, s3_secret_key="another secret")
    assert any(not f.ok and world.settings().miner_bucket in f.part for f in found.values())


async def test_a_good_store_is_well_by_the_stores_own_time(world: World) -> None:
    settings = world.settings()
    found = [f async for f in check_api(settings, SystemClock())]
    of_buckets = [f for f in found if settings.miner_bucket in f.part]
    assert of_buckets
    assert [f for f in of_buckets if not f.ok] == []


async def test_the_owner_makes_the_buckets_that_the_check_asks_for(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"miner_bucket": f"m-{token_hex(4)}", "validated_bucket": f"v-{token_hex(4)}"}
    monkeypatch.chdir(world.folder)
    for name, value in (world.settings_values | names).items():
        monkeypatch.setenv(name.upper(), str(value))
    settings = world.settings(**names)
    before = {f.part: f async for f in check_api(settings, SystemClock()) if not f.ok}
    missing = [f for part, f in before.items() if part.startswith(names["miner_bucket"])]
    assert "sn46 api buckets" in " ".join(f.text for f in missing)
    for _ in range(2):
        assert await asyncio.to_thread(main, ["api", "buckets", "--keep-days", "30"]) == 0
        lines = capsys.readouterr().out
        assert all(f"{name}: versions kept" in lines for name in names.values())
    found = [f async for f in check_api(settings, SystemClock()) if f.part.startswith("m-")]
    assert found
    assert [f for f in found if not f.ok] == []
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:9")
    assert await asyncio.to_thread(main, ["api", "buckets"]) == 1
    assert "127.0.0.1:9" in capsys.readouterr().err
