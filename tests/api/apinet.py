"""The API in this process over real parts: a local chain, a real S3 server, real keys, HTTP over
loopback, and a clock that the test moves."""

import asyncio
import secrets
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from bittensor import http_auth

from sn46.api.app import Api, create_app, running
from sn46.api.server import serve_app
from sn46.api.services import Outside, Services
from sn46.api.settings import ApiSettings, load_settings
from sn46.certificates import trusted
from sn46.chain.connect import open_chain
from sn46.chain.local import LocalChain, create_local_chain
from sn46.chain.wallets import LocalWallet, create_local_wallet
from sn46.client.api import ApiClient, Retries
from sn46.mechanism.draw import ZipRow
from sn46.mechanism.epochs import Epoch, epoch_at
from sn46.mechanism.names import ZipCode
from sn46.store.s3 import S3Access, S3Bucket
from sn46.store.setup import prepare_buckets
from sn46.zipcodes import MasterTable, save_table

NETUID = 46
RAO = 10**9
L = 14_400
LIMITS = ("current", "epoch", "status", "credentials", "read", "results", "address")
ROOMY = {f"limit_{name}": "100000/minute" for name in LIMITS}
NAMES = ("api", "vali", "other", "poor", "ann", "bob", "cid")


class MovedClock:
    """The machine's clock plus an offset; sleepers wake when the test moves it."""

    def __init__(self, start: datetime) -> None:
        self._offset = start - datetime.now(UTC)
        self._moved = asyncio.Event()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    async def sleep(self, duration: timedelta) -> None:
        wake = self.now() + duration
        while (left := (wake - self.now()).total_seconds()) > 0:
            moved = self._moved
            try:
                await asyncio.wait_for(moved.wait(), left)
            except TimeoutError:
                continue

    def advance(self, by: timedelta) -> None:
        self._offset += by
        self._moved.set()
        self._moved = asyncio.Event()

    def advance_to(self, moment: datetime) -> None:
        self.advance(moment - self.now())


def small_table(day: date) -> MasterTable:
    """240 ZIPs over eight states in four regions, 300 to 1,500 listings each."""
    states = ("PA", "NJ", "TX", "FL", "OH", "IL", "CA", "WA")
    rows = [
        ZipRow(
            zipcode=ZipCode(f"{10_000 + 37 * n:05d}"),
            expected_listings=300 + (n * 97) % 1200,
            state=states[n % 8],
            city=f"City {n}",
            county=f"County {n % 20}",
            latitude=40.0 + n / 100,
            longitude=-75.0 - n / 100,
            population=5_000 + n * 31,
            property_count=2_000 + n * 17,
            home_value=100_000 + (n * 7_919) % 900_000,
            updated_on=day,
        )
        for n in range(240)
    ]
    return MasterTable(tuple(rows))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def good_start(seconds: int = L) -> datetime:
    """Three tenths into the epoch in which uploads made now are in time."""
    now = datetime.now(UTC)
    epoch = epoch_at(now + timedelta(minutes=5), seconds)
    return epoch.start + epoch.length * 0.3


@dataclass
class World:
    """All that the API is given, and who takes part."""

    folder: Path
    clock: MovedClock
    chain: LocalChain
    wallets: dict[str, LocalWallet]
    settings_values: dict[str, Any]
    miners: S3Bucket
    results: S3Bucket

    def hotkey(self, name: str) -> str:
        return self.wallets[name].hotkey.ss58_address

    def settings(self, **changes: Any) -> ApiSettings:
        return load_settings(_env_file=None, **{**self.settings_values, **changes})


@dataclass
class Net:
    """A running API."""

    world: World
    services: Services
    url: str
    http: httpx.AsyncClient
    app: Api
    opened: list[ApiClient] = field(default_factory=list)

    @property
    def clock(self) -> MovedClock:
        return self.world.clock

    @property
    def epoch(self) -> Epoch:
        return epoch_at(self.clock.now(), self.services.settings.epoch_seconds)

    def hotkey(self, name: str) -> str:
        return self.world.hotkey(name)

    def client(self, name: str, retries: Retries | None = None) -> ApiClient:
        client = ApiClient(
            self.url,
            api_hotkey=self.hotkey("api"),
            signer=self.world.wallets[name].hotkey,
            clock=self.clock,
            retries=retries or Retries(attempts=1),
        )
        self.opened.append(client)
        return client

    def header_auth(
        self, name: str, text: str, *, at: int | None = None, hotkey: str | None = None
    ) -> dict[str, str]:
        """The header way's headers over ``{text}:{timestamp}``."""
        stamp = int(self.clock.now().timestamp()) if at is None else at
        keypair = self.world.wallets[name].hotkey
        signature = bytes(keypair.sign(f"{text}:{stamp}".encode())).hex()
        return {
            "Authorization": f"Bearer {signature}",
            "X-Hotkey": hotkey or keypair.ss58_address,
            "X-Timestamp": str(stamp),
        }

    def btauth(
        self, name: str, method: str, path: str, body: bytes = b"", **options: Any
    ) -> dict[str, str]:
        options = {
            "receiver_ss58": self.hotkey("api"),
            "nonce_ns": int(self.clock.now().timestamp() * 10**9),
        } | options
        keypair: Any = self.world.wallets[name].hotkey
        return http_auth.sign(keypair, method=method, path=path, body=body, **options)

    async def until(self, condition: Callable[[], Any], seconds: float = 60) -> None:
        """Poll until an awaitable condition is true."""
        async with asyncio.timeout(seconds):
            while True:
                if await condition():
                    return
                await asyncio.sleep(0.02)

    async def ready(self) -> None:
        async def fit() -> bool:
            return (await self.http.get("/readyz")).status_code == 200

        await self.until(fit)

    async def advance_to(self, moment: datetime) -> None:
        """Move time and wait until the server has caught up with it."""
        self.clock.advance_to(moment)
        await self.ready()


def make_buckets(access: S3Access) -> tuple[str, str]:
    """Two new buckets, for miners and for results, by name."""
    names = (f"miners-{secrets.token_hex(4)}", f"results-{secrets.token_hex(4)}")
    asyncio.run(prepare_buckets(access, miner_bucket=names[0], results_bucket=names[1]))
    return names


@asynccontextmanager
async def open_world(
    folder: Path, access: S3Access, buckets: tuple[str, str]
) -> AsyncGenerator["World"]:
    """A world for as long as it is needed."""
    made = make_world(folder, access, buckets)
    try:
        yield made
    finally:
        await made.miners.close()
        await made.results.close()
        made.chain.close()


def make_world(
    folder: Path, access: S3Access, buckets: tuple[str, str], *, start: datetime | None = None
) -> World:
    clock = MovedClock(start or good_start())
    seed = secrets.token_bytes(16)
    wallets = {
        name: create_local_wallet(folder / "wallets", f"{name}-cold", name, seed)
        for name in (*NAMES, "stranger")
    }
    stakes = {"vali": 30_000, "other": 25_000, "poor": 19_999}
    chain = create_local_chain(
        folder / "chain.sqlite",
        netuid=NETUID,
        block_seconds=1,
        owner_hotkey=wallets["api"].hotkey.ss58_address,
        owner_coldkey=wallets["api"].coldkey.ss58_address,
        neurons=[
            (
                wallets[name].hotkey.ss58_address,
                wallets[name].coldkey.ss58_address,
                stakes.get(name, 0) * RAO,
                name in stakes,
            )
            for name in NAMES
        ],
        # Processes of their own go by the machine's clock, and are to see blocks as well.
        genesis=min(clock.now(), datetime.now(UTC)) - timedelta(minutes=10),
        clock=clock,
    )
    save_table(small_table(clock.now().date()), folder / "zipcodes.parquet")
    values: dict[str, Any] = {
        "secret_key": "k" * 40,
        "s3_access_key": access.access_key,
        "s3_secret_key": access.secret_key,
        "s3_endpoint_url": access.endpoint,
        "miner_bucket": buckets[0],
        "validated_bucket": buckets[1],
        "zipcode_table": folder / "zipcodes.parquet",
        "database_url": f"sqlite+aiosqlite:///{folder}/api.db",
        "chain_endpoint": f"local:{folder}/chain.sqlite",
        "metagraph_max_age_seconds": 10**7,
        "metagraph_refresh_seconds": 1,
        "wallet_name": "api-cold",
        "wallet_hotkey": "api",
        "wallet_path": folder / "wallets",
        **ROOMY,
    }
    miners, results = S3Bucket(access, buckets[0]), S3Bucket(access, buckets[1])
    return World(folder, clock, chain, wallets, values, miners, results)


@asynccontextmanager
async def api_over(world: World, **changes: Any) -> AsyncGenerator[Net]:
    """The API, serving until the context is left."""
    settings = world.settings(**changes)
    chain = open_chain(settings.chain_endpoint, netuid=NETUID, clock=world.clock)
    outside = Outside(world.clock, chain, world.wallets["api"].hotkey, world.miners, world.results)
    app = create_app(settings, outside)
    port, stop = free_port(), asyncio.Event()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(chain.close)
        await stack.enter_async_context(running(app))
        serving = asyncio.create_task(serve_app(app, "127.0.0.1", port, stop))

        async def stopped() -> None:
            stop.set()
            await serving

        stack.push_async_callback(stopped)
        url = f"http://127.0.0.1:{port}"
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, timeout=20, verify=trusted())
        )
        net = Net(world, app.state.services, url, http, app)

        async def alive() -> bool:
            try:
                return (await http.get("/healthz")).status_code == 200
            except httpx.TransportError:
                return False

        await net.until(alive)
        yield net
        for client in net.opened:
            await client.close()
