"""Validators' relays for tests, honest and not, each with its endpoint on the chain."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
from apinet import NETUID, RAO, Net

from sn46.chain.base import ChainError
from sn46.chain.connect import open_chain
from sn46.chain.wallets import create_local_wallet
from sn46.client.api import ApiClient, ReceivedAssignment, Retries
from sn46.client.relay import RelayClient
from sn46.mechanism.assignment import Assignment, read_assignment
from sn46.mechanism.names import Hotkey
from sn46.miner.relay import Validators
from sn46.validator.progress import Progress
from sn46.validator.relay import Relay, RelayParts
from sn46.validator.relay_assignments import Assignments, Held
from sn46.validator.relay_server import Address, Answer, Handler, RelayServer

HERE = "127.0.0.1"
Respond = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def signed(net: Net, assignment: Assignment, signer: str = "api") -> dict[str, Any]:
    """An assignment's document, signed by someone who may name himself in it."""
    wallet = net.world.wallets[signer].hotkey
    return replace(assignment, api_hotkey=Hotkey(wallet.ss58_address)).sign(wallet)


def another(assignment: Assignment) -> Assignment:
    """An assignment of the same epoch that differs."""
    return replace(assignment, nonce="f" * 64)


def received(net: Net, document: Mapping[str, Any]) -> ReceivedAssignment:
    return ReceivedAssignment(read_assignment(document, net.hotkey("api")), document)


def add_validator(net: Net, name: str, *, coldkey_of: str | None = None) -> None:
    """Register another validator, with an owner of its own or somebody's."""
    world = net.world
    wallet = create_local_wallet(world.folder / "wallets", f"{name}-cold", name, b"relay tests")
    world.wallets[name] = wallet
    owner = world.wallets[coldkey_of] if coldkey_of else wallet
    world.chain.register(
        wallet.hotkey.ss58_address,
        owner.coldkey.ss58_address,
        stake=21_000 * RAO,
        validator_permit=True,
    )


async def publish(net: Net, name: str, port: int, host: str = HERE) -> None:
    chain = open_chain(
        net.services.settings.chain_endpoint,
        netuid=NETUID,
        signer=net.world.wallets[name].hotkey,
        clock=net.clock,
    )
    try:
        await chain.publish_endpoint(host, port)
    finally:
        await chain.close()


@dataclass
class Relays:
    """Makes relays; all of them end with the test."""

    net: Net
    folder: Path
    stack: AsyncExitStack
    _made: int = field(default=0)

    def assignments(self, name: str, api: ApiClient | None = None, **options: Any) -> Assignments:
        return Assignments(
            api or self.net.client(name, Retries(attempts=1)),
            folder=self.folder / f"assignments-{name}",
            api_hotkey=Hotkey(self.net.hotkey("api")),
            clock=self.net.clock,
            **options,
        )

    def client(self, name: str, *, seconds: float = 5.0) -> RelayClient:
        client = RelayClient(
            api_hotkey=Hotkey(self.net.hotkey("api")),
            signer=self.net.world.wallets[name].hotkey,
            clock=self.net.clock,
            seconds=seconds,
        )
        self.stack.push_async_callback(client.close)
        return client

    def validators(self, name: str = "ann", *, seconds: float = 5.0) -> Validators:
        """The validators as a miner finds them."""
        made = Validators(
            open_chain(
                self.net.services.settings.chain_endpoint, netuid=NETUID, clock=self.net.clock
            ),
            self.client(name, seconds=seconds),
            private=True,
            clock=self.net.clock,
        )
        self.stack.push_async_callback(made.close)
        return made

    async def honest(self, name: str, assignments: Assignments | None = None) -> Relay:
        """A validator's relay as its service runs it, up and published."""
        assignments = assignments or self.assignments(name)
        relay = self.relay(name, assignments)
        await self.stack.enter_async_context(relay.running())
        hotkey = Hotkey(self.net.hotkey(name))
        reader = self.chain(name)

        async def published() -> bool:
            try:
                endpoint = (await reader.endpoints()).get(hotkey)
            except ChainError:
                return False
            return endpoint == (HERE, relay.port) and assignments.running() is not None

        await self.net.until(published, seconds=20)
        return relay

    def relay(self, name: str, assignments: Assignments, port: int = 0) -> Relay:
        return Relay(
            RelayParts(
                assignments=assignments,
                client=self.client(name),
                chain=self.chain(name),
                clock=self.net.clock,
                progress=Progress(self.folder / f"status-{name}.json", self.net.clock),
                address=Address(HERE, port, HERE, port),
                private=True,
            )
        )

    def chain(self, name: str) -> Any:
        chain = open_chain(
            self.net.services.settings.chain_endpoint,
            netuid=NETUID,
            signer=self.net.world.wallets[name].hotkey,
            clock=self.net.clock,
        )
        self.stack.push_async_callback(chain.close)
        return chain

    async def serving(self, name: str, document: Mapping[str, Any]) -> None:
        """A validator that gives everyone this document."""
        await self.handling(name, lambda _: Answer(200, orjson.dumps(dict(document))))

    async def handling(self, name: str, handler: Handler) -> int:
        server = RelayServer(handler)
        port = await server.start(HERE, 0)
        self.stack.push_async_callback(server.close)
        await publish(self.net, name, port)
        return port

    async def responding(self, name: str, respond: Respond) -> None:
        """A validator that does with a connection what it likes."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                await respond(reader, writer)
            except OSError:
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(connected, HERE, 0)
        self.stack.callback(server.close)
        await publish(self.net, name, server.sockets[0].getsockname()[1])


@asynccontextmanager
async def relays_over(net: Net, folder: Path) -> AsyncIterator[Relays]:
    async with AsyncExitStack() as stack:
        yield Relays(net, folder, stack)


def held(net: Net, document: Mapping[str, Any], *, agreed: bool = False) -> Held:
    return Held(received(net, document), agreed)


class Gate:
    """A way to a server that can be shut: then nobody listens at its port."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._to = (host, int(port))
        self._server: asyncio.Server | None = None
        self._hangs = False
        self._port = 0
        self._open: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"http://{HERE}:{self._port}"

    async def open(self, *, hangs: bool = False) -> None:
        """Let requests through; or, where it hangs, take them and never answer."""
        self._hangs = hangs
        self._server = await asyncio.start_server(self._connected, HERE, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            if self._hangs:
                await reader.read()
                return
            there_reader, there_writer = await asyncio.open_connection(*self._to)
            try:
                await asyncio.gather(_pipe(reader, there_writer), _pipe(there_reader, writer))
            finally:
                there_writer.close()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
