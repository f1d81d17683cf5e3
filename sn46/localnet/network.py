"""The whole network on one machine: started in order, watched, and ended without a trace."""

import asyncio
import json
import os
import secrets
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TypeVar

import httpx

from sn46.certificates import trusted
from sn46.chain.base import Chain
from sn46.chain.connect import open_chain
from sn46.client.api import ApiClient
from sn46.clock import Clock
from sn46.durable import write_whole
from sn46.localnet.accounts import check_reach
from sn46.localnet.datadir import DataDir, NetworkFile
from sn46.localnet.errors import DataDirError, LocalnetError
from sn46.localnet.options import Chaos, LocalnetOptions
from sn46.localnet.people import NETUID, People, Person, make_people, settle
from sn46.localnet.plan import Plan, api_names, base_environment, relay_names
from sn46.localnet.portal import expected_counts
from sn46.localnet.ports import choose_ports
from sn46.localnet.postgresservice import PostgresService
from sn46.localnet.results import ASKING_FAILED, EpochResult, Observer
from sn46.localnet.service import Event, ProcessService, ProcessSpec, Service
from sn46.localnet.status import Status, read_status
from sn46.localnet.storeservice import StoreService
from sn46.localnet.view import Picture, Seen, View, headline
from sn46.localnet.words import epoch_summary
from sn46.mechanism.canonical import hmac_hex
from sn46.mechanism.epochs import Epoch, epoch_at
from sn46.store.s3 import MINER_BUCKET, RESULTS_BUCKET, S3Bucket
from sn46.store.seaweed import SeaweedServer
from sn46.store.setup import prepare_buckets
from sn46.validator.export import export_epoch
from sn46.zipcodes import load_bundled_table, save_table, with_expected

_READY_SECONDS = 120.0
_LOOK_SECONDS = 0.5
_ASK_SECONDS = 1.0
_LOW_DISK_BYTES = 512 * 1024 * 1024
_START_SECONDS = 1.3
"""What starting one Python service costs a core, in seconds."""

_SHORTEST_FIRST = timedelta(seconds=40)
"""What the miners need of a first epoch that is joined while it runs."""

_BUSY_PHASES = ("quick validation", "checking", "waiting for evidence")


_S = TypeVar("_S", bound=Service)


class _Stopped(Exception):
    """The user wants the network to end."""


@dataclass
class Network:
    """One run of a local network in an open data directory. ``run`` it once.

    ``results`` are the ended epochs, ``faults`` what went wrong besides.
    """

    options: LocalnetOptions
    data: DataDir
    view: View
    clock: Clock
    stop: asyncio.Event
    results: list[EpochResult] = field(default_factory=list[EpochResult])
    faults: list[str] = field(default_factory=list[str])
    _services: list[Service] = field(default_factory=list[Service])
    _last_event: dict[str, Event] = field(default_factory=dict[str, Event])
    _low_disk: bool = False

    async def run(self) -> None:
        """Start everything, follow the epochs, and stop everything.

        Raises:
            LocalnetError: where the network cannot start.
            ChainError, StoreError, ZipTableError: where its parts cannot be set up.
        """
        try:
            await self._run()
        except _Stopped:
            pass
        finally:
            await self._stop_all()

    @property
    def is_success(self) -> bool:
        """Whether all epochs asked for were validated by all validators with one hash."""
        wanted = self.options.epochs
        enough = wanted is None or len(self.results) >= wanted
        return enough and not self.faults and all(result.consensus for result in self.results)

    def kill(self) -> None:
        """End all processes at once, without asking."""
        for service in self._services:
            if isinstance(service, ProcessService):
                service.kill(service.spec.orphan_signal)

    # Starting -------------------------------------------------------------------------------

    async def _run(self) -> None:
        self._say(f"Data and logs are in {self.data.path}")
        network = self._network()
        people = make_people(
            self.data.wallets,
            network.seed,
            validators=self.options.validators,
            strategies=self.options.miners,
        )
        plan = Plan(self.options, self.data, people, network)
        self._clear_status()
        store = self._start(StoreService(self._s3_server(), self._event))
        rules = self.data.path / "portal-clients.json"
        write_whole(rules, json.dumps(plan.client_rules()).encode(), private=True)
        self._start_process(plan.portal(rules))
        self._say("Starting the S3 server and the portal; setting up the chain and the ZIP table")
        await asyncio.gather(
            settle(self.data.chain, people, self.clock),
            asyncio.to_thread(self._write_zipcodes),
            self._until_ready("s3", lambda: _is_set_up(store)),
        )
        if plan.is_replicated:
            await self._start_shared(plan)
        shown = int(self.options.dashboard)
        first = self._first_epoch(
            len(people.miners) + len(people.validators) + len(plan.apis) + shown
        )
        for name in plan.apis:
            self._start_process(plan.api(name, store.server.access, first.start))
        if plan.is_replicated:
            self._start_process(plan.caddy())
        if self.options.dashboard:
            self._start_process(plan.dashboard(store.server.access))
        async with self._opened(plan, store) as observer:
            for name in plan.apis:
                await self._until_answers(name, f"http://{plan.address(name)}/readyz")
            if plan.is_replicated:
                await self._until_answers("caddy", f"{plan.api_url}/readyz")
            await self._until_answers("portal", f"{plan.portal_url}/health")
            self._say(plan.addresses())
            if self.options.dashboard:
                await self._until_answers("dashboard", f"{plan.dashboard_url}/healthz")
                self._say(f"The dashboard is at {plan.dashboard_url}")
            validators = self._start_people(plan)
            await self._follow(plan, first, observer, validators)

    def _network(self) -> NetworkFile:
        """What this network is: what the directory remembers, or new."""
        options, known = self.options, self.data.read()
        seed = options.seed or (known.seed if known else secrets.token_hex(8))
        if known and known.seed != seed:
            raise DataDirError(
                f"{self.data.path} holds a network made from another seed. Leave --seed out to go "
                "on with it, or choose another --data-dir."
            )
        if known and known.epoch_seconds != options.epoch_seconds:
            raise DataDirError(
                f"{self.data.path} holds a network with epochs of {known.epoch_seconds} seconds. "
                f"Go on with --epoch-seconds {known.epoch_seconds}, or choose another --data-dir."
            )
        database = "sqlite" if options.replicas == 1 else "postgresql"
        if known and known.database != database:
            raise DataDirError(
                f"{self.data.path} holds a network whose API keeps its epochs in "
                + (
                    "an SQLite file. Go on with --replicas 1, or choose another --data-dir."
                    if known.database == "sqlite"
                    else "PostgreSQL. Go on with --replicas 2, or choose another --data-dir."
                )
            )
        wanted = {
            "api": options.api_port,
            "portal": options.portal_port,
            "dashboard": options.dashboard_port,
        }
        network = NetworkFile(
            seed=seed,
            secret_key=hmac_hex(seed.encode(), "sn46 local network"),
            netuid=NETUID,
            epoch_seconds=options.epoch_seconds,
            database=database,
            ports=choose_ports(
                (
                    "api",
                    "portal",
                    *(("dashboard",) if options.dashboard else ()),
                    *_shared_ports(options.replicas),
                    *relay_names(options.validators),
                ),
                wanted={name: port for name, port in wanted.items() if port is not None},
                remembered=known.ports if known else {},
            ),
        )
        self.data.write(network)
        self._say(f"Seed {seed}")
        return network

    async def _start_shared(self, plan: Plan) -> None:
        """Start what the API's replicas share."""
        self._say("Starting PostgreSQL and Valkey")
        postgres, valkey = plan.postgres(), plan.valkey()
        service = PostgresService(postgres, base_environment(), self._event)
        if service.account is not None:
            self.data.let_pass(service.account.gid)
            check_reach(service.account, postgres.folder)
        self._start(service)
        self._start_process(valkey.prepare(base_environment()))
        await self._until_ready("postgres", postgres.is_up)
        await self._until_ready("valkey", valkey.is_up)

    def _s3_server(self) -> SeaweedServer:
        return SeaweedServer(self.data.path / "s3", port=self.options.s3_port)

    def _write_zipcodes(self) -> None:
        table = with_expected(load_bundled_table(), expected_counts(), self.clock.now().date())
        save_table(table, self.data.zipcodes)

    def _clear_status(self) -> None:
        """What an earlier run's services said is not what these do."""
        for file in self.data.status.glob("*.json"):
            file.unlink(missing_ok=True)

    def _first_epoch(self, services: int) -> Epoch:
        """The first epoch that can be played: the one that runs once everything should be up,
        where enough of it is left, else the next."""
        needed = timedelta(seconds=4 + services * _START_SECONDS / (os.cpu_count() or 1))
        ready = self.clock.now() + needed
        epoch = epoch_at(ready, self.options.epoch_seconds)
        return (
            epoch if epoch.end - ready >= max(epoch.length / 2, _SHORTEST_FIRST) else epoch.next()
        )

    def _start_people(self, plan: Plan) -> list[Person]:
        """Start miners and validators; returns the validators that were not started yet."""
        validators = list(plan.people.validators)
        late: list[Person] = []
        if Chaos.LATE_VALIDATOR in self.options.chaos:
            late.append(validators.pop(min(1, len(validators) - 1)))
        for person in validators:
            self._start_process(plan.validator(person))
        for miner in plan.people.miners:
            self._start_process(plan.miner(miner))
        self._say(f"Started {len(validators)} validators and {len(plan.people.miners)} miners")
        return late

    def _start(self, service: _S) -> _S:
        self._services.append(service)
        service.start()
        return service

    def _start_process(self, spec: ProcessSpec) -> ProcessService:
        return self._start(ProcessService(spec, self._event))

    # Waiting --------------------------------------------------------------------------------

    async def _until_answers(self, name: str, url: str) -> None:
        async with httpx.AsyncClient(timeout=5, trust_env=False, verify=trusted()) as http:

            async def answers() -> bool:
                try:
                    return (await http.get(url)).status_code == 200
                except httpx.TransportError:
                    return False

            await self._until_ready(name, answers)

    async def _until_ready(self, name: str, ready: Callable[[], Awaitable[bool]]) -> None:
        """Wait for a service.

        Raises:
            LocalnetError: where it is not ready in time, with what it said last.
            _Stopped: where the user ends it.
        """
        deadline = self.clock.now() + timedelta(seconds=_READY_SECONDS)
        while not await ready():
            await self._pause(0.1)
            if self.clock.now() > deadline:
                event = self._last_event.get(name)
                said = f" It {event.text}." if event else ""
                raise LocalnetError(
                    f"The service {name} was not ready within {_READY_SECONDS:g} s.{said} "
                    f"Its log is {self.data.logs / name}.log."
                )

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.stop.wait(), seconds)
        except TimeoutError:
            return
        raise _Stopped

    # Following ------------------------------------------------------------------------------

    @asynccontextmanager
    async def _opened(self, plan: Plan, store: StoreService) -> AsyncGenerator[Observer]:
        """The observer, with the eyes of the first validator and of the store's owner."""
        async with AsyncExitStack() as stack:
            eye = plan.people.validators[0]
            api = await stack.enter_async_context(
                ApiClient(
                    plan.api_url,
                    api_hotkey=plan.people.owner.hotkey,
                    signer=eye.wallet.hotkey,
                    clock=self.clock,
                )
            )
            chain = open_chain(plan.chain_endpoint, netuid=NETUID, clock=self.clock)
            stack.push_async_callback(chain.close)
            results = S3Bucket(store.server.access, RESULTS_BUCKET)
            stack.push_async_callback(results.close)
            yield Observer(
                validators=plan.people.validators,
                folders={p.hotkey: self.data.of(p.name) for p in plan.people.validators},
                strategies=plan.people.strategies,
                api=api,
                results=results,
                chain=chain,
            )

    async def _follow(
        self, plan: Plan, first: Epoch, observer: Observer, late: list[Person]
    ) -> None:
        """Show the network and read each epoch's result until there are enough."""
        helpers = [asyncio.create_task(self._show_for_ever(plan, first))]
        if late:
            helpers.append(asyncio.create_task(self._start_late(plan, first, late)))
        if Chaos.KILL_VALIDATOR in self.options.chaos:
            helpers.append(asyncio.create_task(self._kill_validator(plan, first)))
        if Chaos.KILL_REPLICA in self.options.chaos:
            helpers.append(asyncio.create_task(self._kill_replica(plan, first)))
        epoch = first
        try:
            while self.options.epochs is None or len(self.results) < self.options.epochs:
                await self._await_result(epoch, observer)
                await self._conclude(plan, epoch, observer)
                epoch = epoch.next()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _await_result(self, epoch: Epoch, observer: Observer) -> None:
        """Until every validator is done with an epoch, or its time is up."""
        while self.clock.now() < epoch.evidence_deadline:
            await self._pause(_ASK_SECONDS)
        while self.clock.now() < epoch.results_deadline:
            await self._pause(_ASK_SECONDS)
            try:
                if await observer.is_complete(epoch):
                    return
            except ASKING_FAILED as error:
                self._event(Event("results", f"cannot be asked for yet: {error}"))

    async def _conclude(self, plan: Plan, epoch: Epoch, observer: Observer) -> None:
        result = await observer.read(epoch)
        if self.options.export is not None:
            try:
                await self._export(epoch, observer.api, observer.chain)
            except ASKING_FAILED as error:
                result = replace(
                    result, faults=(*result.faults, f"It could not be exported: {error}")
                )
        self.results.append(result)
        self.view.show(epoch_summary(result, plan.people))
        self._write_json()

    async def _export(self, epoch: Epoch, api: ApiClient, chain: Chain) -> None:
        assert self.options.export is not None
        async with httpx.AsyncClient(trust_env=False, verify=trusted()) as http:
            count = await export_epoch(self.options.export, epoch, api=api, chain=chain, http=http)
        self._say(f"Exported epoch {epoch.id} to {self.options.export} ({count} objects)")

    def _write_json(self) -> None:
        if self.options.json_file is None:
            return
        document = {"epochs": [result.to_json() for result in self.results]}
        try:
            write_whole(
                self.options.json_file, json.dumps(document, indent=1).encode(), private=True
            )
        except OSError as error:
            fault = f"{self.options.json_file} cannot be written: {error.strerror}."
            if fault not in self.faults:
                self.faults.append(fault)
                self._event(Event("results", fault))

    async def _start_late(self, plan: Plan, first: Epoch, late: list[Person]) -> None:
        while self.clock.now() < first.end:
            await self.clock.sleep(timedelta(seconds=0.2))
        for person in late:
            self._start_process(plan.validator(person))
            self._say(f"Started {person.name}, an epoch late")

    async def _kill_validator(self, plan: Plan, first: Epoch) -> None:
        victim = plan.people.validators[-1]
        file = plan.status_file(victim.name)
        while True:
            await self.clock.sleep(timedelta(seconds=0.05))
            status = read_status(file)
            if status.epoch_id == first.id and status.phase in _BUSY_PHASES:
                break
        pid = self._kill(victim.name)
        self._say(f"Killed {victim.name} (process {pid}) during “{status.phase}”")

    async def _kill_replica(self, plan: Plan, first: Epoch) -> None:
        victim = plan.apis[-1]
        while self.clock.now() < first.start + first.length / 4:
            await self.clock.sleep(timedelta(seconds=0.05))
        pid, killed_at = self._kill(victim), self.clock.now()
        self._say(f"Killed {victim} (process {pid}) while the miners are at work")
        await self._until_answers(victim, f"http://{plan.address(victim)}/readyz")
        seconds = (self.clock.now() - killed_at).total_seconds()
        self._say(f"{victim} is fit again, {seconds:.1f} s after it was killed")

    def _kill(self, name: str) -> int | None:
        """Kill a service's process. Returns its id, None where it did not run."""
        for service in self._services:
            if service.name == name and isinstance(service, ProcessService):
                return service.kill()
        return None

    # Showing --------------------------------------------------------------------------------

    async def _show_for_ever(self, plan: Plan, first: Epoch) -> None:
        while True:
            self._look_at_disk()
            self.view.update(self._picture(plan, first))
            await self.clock.sleep(timedelta(seconds=_LOOK_SECONDS))

    def _picture(self, plan: Plan, first: Epoch) -> Picture:
        now = self.clock.now()
        state = {service.name: service.state for service in self._services}

        def seen(person: Person) -> Seen | None:
            if person.name not in state:
                return None
            return Seen(person.name, state[person.name], self._status(plan, person))

        people: People = plan.people
        return Picture(
            now=now,
            headline=headline(now, first, epoch_at(now, self.options.epoch_seconds)),
            services=[(name, state[name]) for name in plan.infrastructure],
            miners=[s for person in people.miners if (s := seen(person))],
            validators=[s for person in people.validators if (s := seen(person))],
        )

    def _status(self, plan: Plan, person: Person) -> Status:
        return read_status(plan.status_file(person.name))

    def _look_at_disk(self) -> None:
        """Say once that the disk gets full; the services have their own words for what follows."""
        free = shutil.disk_usage(self.data.path).free
        low = free < _LOW_DISK_BYTES
        if low and not self._low_disk:
            self._event(
                Event(
                    "disk",
                    f"only {free // 2**20} MiB are free at {self.data.path}. Free some space, or "
                    "uploads will be refused; the network goes on",
                )
            )
        self._low_disk = low

    def _say(self, text: str) -> None:
        self.view.say(text)

    def _event(self, event: Event) -> None:
        """Show what happened; the same of the same service again only where it changed."""
        last = self._last_event.get(event.service)
        self._last_event[event.service] = event
        if last is None or last.text != event.text or event.tail != last.tail:
            self.view.event(event)

    # Stopping -------------------------------------------------------------------------------

    async def _stop_all(self) -> None:
        """Those who ask first, those who answer last."""
        if self._services:
            self._say("Stopping")
        stages = {name: number for number, names in enumerate(_STOPPED_LAST) for name in names}
        for stage in range(-1, len(_STOPPED_LAST)):
            await asyncio.gather(
                *(s.stop() for s in self._services if stages.get(_kind(s.name), -1) == stage)
            )


_STOPPED_LAST = (("caddy",), ("api",), ("portal", "valkey", "postgres"), ("s3",))
"""The infrastructure, in the order in which it is stopped; replicas are all ``api``."""


def _kind(name: str) -> str:
    return "api" if name.startswith("api-") else name


def _shared_ports(replicas: int) -> tuple[str, ...]:
    """Services with a port that stand behind the API's address."""
    if replicas == 1:
        return ()
    return ("postgres", "valkey", *api_names(replicas))


async def _is_set_up(store: StoreService) -> bool:
    """Whether the store runs, with its buckets."""
    if not store.is_up:
        return False
    await prepare_buckets(
        store.server.access, miner_bucket=MINER_BUCKET, results_bucket=RESULTS_BUCKET
    )
    return True
