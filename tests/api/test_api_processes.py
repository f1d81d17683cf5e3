"""The API as a process: killed, raced, stopped, misconfigured."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from apinet import L, World, api_over, free_port
from sqlalchemy import func, select

from sn46.api.database import Database
from sn46.api.schema import draws, epochs, requests
from sn46.api.server import StartError, serve
from sn46.certificates import trusted
from sn46.client.api import ApiClient, Retries
from sn46.mechanism.assignment import read_assignment
from sn46.mechanism.epochs import epoch_at

HERE = Path(__file__).parent
CURRENT = "/api/v1/zipcode-assignments/current"


def start_drawing(url: str, world: World, start: datetime, count: int) -> subprocess.Popen[str]:
    stamp = str(int(start.timestamp()))
    return subprocess.Popen(
        [sys.executable, str(HERE / "draw_epochs.py"), url, str(world.folder), stamp, str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def whole_epochs(url: str) -> dict[str, int]:
    """Every epoch of a database with its number of ZIPs, each checked to be whole."""
    database = Database(url)
    async with database.read() as connection:
        rows = (await connection.execute(select(epochs))).mappings().all()
        counts = await connection.execute(
            select(draws.c.epoch_id, func.count(), func.sum(draws.c.expected_listings)).group_by(
                draws.c.epoch_id
            )
        )
        drawn = {row[0]: (row[1], row[2]) for row in counts}
    await database.close()
    assert set(drawn) == {row["epoch_id"] for row in rows}
    for row in rows:
        assignment = read_assignment(json.loads(row["document"]))
        assert assignment.epoch.id == row["epoch_id"]
        assert drawn[row["epoch_id"]] == (
            len(assignment.zipcodes),
            assignment.total_expected_listings,
        )
    return {epoch_id: count for epoch_id, (count, _) in drawn.items()}


async def race(url: str, world: World, count: int) -> None:
    start = epoch_at(world.clock.now(), L).start
    children = [start_drawing(url, world, start, count) for _ in range(2)]
    for child in children:
        _, errors = await asyncio.to_thread(child.communicate, timeout=60)
        assert child.returncode == 0, errors
    assert len(await whole_epochs(url)) == count


async def test_two_processes_draw_each_epoch_once_on_sqlite(world: World) -> None:
    await race(world.settings().database_url, world, 6)


async def test_two_processes_draw_each_epoch_once_on_postgresql(
    world: World, postgres: str
) -> None:
    await race(postgres, world, 6)


async def test_replicas_on_postgresql_serve_the_same_bytes(world: World, postgres: str) -> None:
    changes = {"database_url": postgres}
    async with api_over(world, **changes) as one, api_over(world, **changes) as two:
        await asyncio.gather(one.ready(), two.ready())
        first = one.epoch
        policies = [await net.client("ann").miner_upload() for net in (one, two)]
        assert policies[0] == policies[1]
        one.clock.advance_to(first.end + timedelta(seconds=6))
        await asyncio.gather(one.ready(), two.ready())
        for path in (CURRENT, f"/api/v1/zipcode-assignments/epoch/{first.id}"):
            documents = {
                (await net.http.get(path, headers=net.btauth(name, "GET", path))).content
                for net, name in ((one, "vali"), (two, "other"))
            }
            assert len(documents) == 1
        nonce = (await one.client("ann").current()).assignment.nonce
        for net, status in ((one, "in_progress"), (two, "completed"), (one, "completed")):
            await net.client("ann").report_status(
                epoch_id=one.epoch.id,
                nonce=nonce,
                status=status,  # pyright: ignore[reportArgumentType]
                listings_found=3,
                s3_upload_complete=True,
            )
        assert (await two.client("bob").stats())["participation"]["statuses"] == {"completed": 1}
        shown = [await net.client("vali").validator_read(first.id) for net in (one, two)]
        assert shown == [[], []]


async def test_a_server_that_was_down_over_a_start_catches_up_at_once(world: World) -> None:
    async with api_over(world) as net:
        await net.ready()
        first = net.epoch
    world.clock.advance_to(first.end + first.length * 1.2)
    async with api_over(world) as net:
        await net.ready()
        running = net.epoch
        assert running == first.next().next()
        assert (await net.client("ann").current()).assignment.epoch == running
        # What ended meanwhile is completed; what nobody drew is not drawn afterwards.
        validator = net.client("vali")
        assert (await validator.epoch(first.id)).assignment.selection.seed is not None
        path = f"/api/v1/zipcode-assignments/epoch/{first.next().id}"
        missed = await net.http.get(path, headers=net.btauth("vali", "GET", path))
        assert (missed.status_code, missed.json()["code"]) == (404, "unknown_epoch")


async def test_no_path_stops_the_audit_on_postgresql(world: World, postgres: str) -> None:
    async with api_over(world, database_url=postgres) as net:
        await net.ready()
        paths = [
            f"/api/v1/zipcode-assignments/epoch/{n}" for n in ("%00", "%FF", "%F0%9F%8F%A0", "x")
        ]
        for path in paths:
            answer = await net.http.get(path, headers=net.btauth("ann", "GET", path))
            assert answer.status_code == 403
        await net.services.audit.flush()
        async with net.services.database.read() as connection:
            rows = (await connection.execute(select(requests.c.path))).scalars().all()
        assert len(rows) == len(paths)
        assert all(row.isascii() and row.isprintable() for row in rows)


def environment(world: World, port: int, **changes: str) -> dict[str, str]:
    values = {k.upper(): str(v) for k, v in world.settings_values.items()}
    values |= {"PORT": str(port), "EPOCH_SECONDS": str(L), "LOG_FORMAT": "json"}
    return {k: v for k, v in os.environ.items() if k in ("PATH", "HOME")} | values | changes


def start_api(world: World, port: int, **changes: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sn46.api"],
        env=environment(world, port, **changes),
        cwd=world.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def wait_ready(url: str, child: subprocess.Popen[str]) -> None:
    async with httpx.AsyncClient(base_url=url, verify=trusted()) as http, asyncio.timeout(60):
        while True:
            assert child.poll() is None, child.communicate()
            try:
                if (await http.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


async def test_the_process_survives_a_kill_and_stops_on_a_signal(world: World) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    client = ApiClient(
        url,
        api_hotkey=world.hotkey("api"),
        signer=world.wallets["ann"].hotkey,
        retries=Retries(attempts=1),
    )
    documents = []
    async with client:
        for last in (signal.SIGKILL, signal.SIGTERM):
            child = start_api(world, port)
            try:
                await wait_ready(url, child)
                documents.append((await client.current()).document)
                second = await asyncio.to_thread(
                    subprocess.run,
                    [sys.executable, "-m", "sn46.api"],
                    env=environment(world, port),
                    cwd=world.folder,
                    capture_output=True,
                    text=True,
                    timeout=30,
                ) if last == signal.SIGTERM else None  # fmt: skip
            finally:
                child.send_signal(last)
                _, errors = await asyncio.to_thread(child.communicate, timeout=60)
            assert "Traceback" not in errors
            if second is not None:
                assert second.returncode == 1
                assert second.stderr.count("\n") == 1
                assert f"Cannot listen on 127.0.0.1:{port}" in second.stderr
    assert child.returncode == 0
    assert json.loads(errors.splitlines()[-1])["event"] == "api_stopped"
    if documents[0]["epoch_id"] == documents[1]["epoch_id"]:
        assert documents[0] == documents[1]
    secrets_known = (world.settings_values["secret_key"], world.settings_values["s3_secret_key"])
    assert not any(secret in errors for secret in secrets_known)


def test_bad_settings_are_one_line_each(world: World) -> None:
    child = start_api(
        world,
        8000,
        SECRET_KEY="short",
        EPOCH_SECONDS="7",
        TIER_SHARES="30/50",
        GRACE_PERCENT="half",
        LIMIT_CURRENT="often",
        VALIDATOR_MIN_STAKE="-1",
        TRUSTED_PROXIES="everyone",
    )
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 2
    lines = errors.splitlines()
    assert len(lines) == 7
    for name in ("SECRET_KEY", "EPOCH_SECONDS", "TIER_SHARES", "GRACE_PERCENT", "LIMIT_CURRENT"):
        assert any(f"{name}: " in line for line in lines)
    assert "short" not in errors


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"wallet_hotkey": "nobody"}, "key file"),
        ({"database_url": "sqlite+aiosqlite:////nowhere/at/all.db"}, "DATABASE_URL"),
        ({"database_url": "mystery://"}, "DATABASE_URL"),
        ({"chain_endpoint": "moon"}, "chain endpoint"),
        ({"host": "203.0.113.1"}, "HOST"),
    ],
)
async def test_what_cannot_be_opened_is_one_line(
    world: World, changes: dict[str, Any], words: str
) -> None:
    settings = world.settings(port=free_port(), **changes)
    with pytest.raises(StartError) as refused:
        await serve(settings, world.clock)
    assert words in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


async def test_a_draw_that_fails_is_shown_and_retried(world: World) -> None:
    table = world.folder / "zipcodes.parquet"
    good = table.read_bytes()
    table.unlink()
    async with api_over(world) as net:

        async def shown() -> bool:
            parts = (await net.http.get("/readyz")).json()["parts"]
            return "ZIP table" in parts["epoch"]["detail"] and not parts["scheduler"]["ok"]

        await net.until(shown)
        answer = await net.http.get(CURRENT, headers=net.btauth("ann", "GET", CURRENT))
        assert (answer.status_code, answer.json()["code"]) == (503, "epoch_not_drawn")
        stats = (await net.http.get("/api/v1/zipcode-assignments/stats")).json()
        assert stats["current_epoch"] is None
        assert "ZIP table" in stats["draw_error"]
        table.write_bytes(good)
        await net.ready()
        assert (await net.client("ann").current()).assignment.epoch == net.epoch
