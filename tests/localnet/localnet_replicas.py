"""Replicas of the API as the local network starts them, without the rest of it."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from bittensor import http_auth
from localnet_helpers import eventually

from sn46.certificates import trusted
from sn46.chain.wallets import LocalWallet
from sn46.client.api import ApiClient, Retries
from sn46.clock import SystemClock
from sn46.localnet.datadir import DataDir, NetworkFile
from sn46.localnet.options import LocalnetOptions
from sn46.localnet.people import NETUID, Person, make_people, settle
from sn46.localnet.plan import Plan, base_environment
from sn46.localnet.ports import choose_ports
from sn46.localnet.postgresservice import PostgresService
from sn46.localnet.service import Backoff, Event, ProcessService, ProcessSpec
from sn46.mechanism.draw import ZipRow
from sn46.mechanism.epochs import epoch_at
from sn46.mechanism.names import ZipCode
from sn46.store.s3 import MINER_BUCKET, RESULTS_BUCKET, S3Access
from sn46.store.setup import prepare_buckets
from sn46.zipcodes import MasterTable, save_table

CURRENT = "/api/v1/zipcode-assignments/current"
QUICK = Backoff(first=0.2, longest=0.5)
EPOCH_SECONDS = 86_400
_SERVED = re.compile(
    r'^sn46_api_requests_total{method="GET",route="\S*/zipcode-assignments/current",'
    r'status="200"} (\S+)$',
    re.MULTILINE,
)


@dataclass
class Replicas:
    """Two API servers behind Caddy, on PostgreSQL and Valkey, kept running."""

    plan: Plan
    events: list[Event]
    relay: "Relay"
    services: dict[str, ProcessService] = field(default_factory=dict[str, ProcessService])
    http: httpx.AsyncClient = field(
        default_factory=lambda: httpx.AsyncClient(timeout=20, verify=trusted())
    )

    @property
    def url(self) -> str:
        return self.plan.api_url

    def of(self, name: str) -> str:
        """One replica's own address."""
        return f"http://{self.plan.address(name)}"

    def client(self, person: Person, retries: Retries | None = None) -> ApiClient:
        owner = self.plan.people.owner.hotkey
        signer = person.wallet.hotkey
        return ApiClient(self.url, api_hotkey=owner, signer=signer, retries=retries)

    def signed(self, wallet: LocalWallet, method: str, path: str, body: bytes = b"") -> Any:
        keypair: Any = wallet.hotkey
        owner = self.plan.people.owner.hotkey
        return http_auth.sign(keypair, method=method, path=path, body=body, receiver_ss58=owner)

    async def current(self, base: str, person: Person) -> httpx.Response:
        return await self.http.get(
            f"{base}{CURRENT}", headers=self.signed(person.wallet, "GET", CURRENT)
        )

    async def served(self, name: str) -> int:
        """How many assignments a replica's process has answered with; 0 where it is away."""
        try:
            answer = await self.http.get(f"{self.of(name)}/metrics")
        except httpx.TransportError:
            return 0
        found = _SERVED.search(answer.text)
        return int(float(found[1])) if found else 0

    async def is_fit(self, base: str) -> bool:
        try:
            return (await self.http.get(f"{base}/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def all_fit(self) -> bool:
        bases = [self.of(name) for name in self.plan.apis]
        return all([await self.is_fit(base) for base in bases])

    async def start(self, service: ProcessService) -> None:
        self.services[service.name] = service
        service.start()

    async def start_process(self, spec: ProcessSpec) -> None:
        await self.start(ProcessService(spec, self.events.append, QUICK))


class Relay:
    """A line to a port of this machine that can be cut. ``port`` is its near end."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def __aenter__(self) -> "Relay":
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _carry(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            far, forth = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            back.transport.abort()
            return
        self._writers |= {back, forth}
        await asyncio.gather(self._copy(near, forth), self._copy(far, back))
        self._writers -= {back, forth}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65_536):
                writer.write(piece)
                await writer.drain()
        except OSError:
            pass
        writer.close()


@asynccontextmanager
async def replicas_over(s3: S3Access) -> AsyncGenerator[Replicas]:
    """Two replicas with ten miners and two validators, serving until the context is left.

    Credentials are limited to five an hour. The second replica reaches Valkey over ``relay``.
    """
    clock, people_count = SystemClock(), 10
    options = LocalnetOptions(
        replicas=2, validators=2, miners=("honest",) * people_count, epoch_seconds=EPOCH_SECONDS
    )
    async with AsyncExitStack() as stack:
        # A new folder of its own: those of tests are closed to the user that PostgreSQL needs.
        data = stack.enter_context(DataDir(None))
        names = ("api", "portal", "postgres", "valkey", "api-1", "api-2")
        network = NetworkFile(
            seed="replicas", secret_key="k" * 64, netuid=NETUID, epoch_seconds=EPOCH_SECONDS,
            ports=choose_ports(names, wanted={}, remembered={}),
        )  # fmt: skip
        people = make_people(
            data.wallets, network.seed, validators=options.validators, strategies=options.miners
        )
        plan = Plan(options, data, people, network)
        await asyncio.gather(
            settle(data.chain, people, clock),
            prepare_buckets(s3, miner_bucket=MINER_BUCKET, results_bucket=RESULTS_BUCKET),
        )
        save_table(washington(), data.zipcodes)
        relay = await stack.enter_async_context(Relay(network.ports["valkey"]))
        made = Replicas(plan, [], relay)
        stack.push_async_callback(made.http.aclose)
        stack.push_async_callback(_stop, made)
        await _start(made, s3)
        yield made


async def start_database(made: Replicas) -> None:
    """Start PostgreSQL, with the data that are there."""
    server = made.plan.postgres()
    database = PostgresService(server, base_environment(), made.events.append, QUICK)
    if database.account is not None:
        made.plan.data.let_pass(database.account.gid)
    await made.start(database)
    await eventually(server.is_up)


async def _start(made: Replicas, s3: S3Access) -> None:
    plan = made.plan
    await start_database(made)
    await made.start_process(plan.valkey().prepare(base_environment()))
    await eventually(plan.valkey().is_up)
    genesis = epoch_at(SystemClock().now(), EPOCH_SECONDS).start
    for name in plan.apis:
        spec = plan.api(name, s3, genesis)
        changes = {"LIMIT_CREDENTIALS": "5/hour"}
        if name == "api-2":
            own = replace(plan.valkey(), port=made.relay.port)
            changes["LIMITS_STORAGE"] = own.url
        await made.start_process(replace(spec, environment={**spec.environment, **changes}))
    await made.start_process(plan.caddy())
    await eventually(made.all_fit)
    await eventually(lambda: made.is_fit(made.url))


async def _stop(made: Replicas) -> None:
    for name in ("caddy", "api-1", "api-2", "valkey", "postgres"):
        if name in made.services:
            await made.services[name].stop()


def washington() -> MasterTable:
    """Sixty ZIPs of one state, a hundred listings each."""
    day = SystemClock().now().date()
    return MasterTable(
        tuple(
            ZipRow(
                zipcode=ZipCode(f"98{n:03d}"), expected_listings=100, state="WA", city=f"City {n}",
                county="King", latitude=47.0 + n / 100, longitude=-122.0, population=5_000,
                property_count=2_000, home_value=100_000 + n * 10_000, updated_on=day,
            )
            for n in range(60)
        )
    )  # fmt: skip
