"""The assignment from validators, while the API gives none: over HTTP, from real endpoints."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from apinet import Net, World, api_over
from minernet import RULES, Competition, plain, process, read_status, real_now
from relaynet import Gate, Relays, add_validator, another, publish, relays_over, signed

from sn46.client.api import ApiClient, ReceivedAssignment, Retries
from sn46.client.relay import MOST_BYTES, allows_private, peers_of
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.chainview import Block, ChainView, Neuron
from sn46.mechanism.epochs import epoch_at
from sn46.mechanism.names import Coldkey, EpochId, Hotkey, Uid
from sn46.miner.desk import Desk
from sn46.miner.relay import Validators
from sn46.miner.spool import Spool
from sn46.validator.relay_server import Answer


@pytest.fixture
async def relays(competition: Competition, tmp_path: Path) -> AsyncIterator[Relays]:
    async with relays_over(competition.net, tmp_path / "relays") as made:
        yield made


async def test_two_validators_of_different_owners_must_agree(
    competition: Competition, relays: Relays
) -> None:
    """One honest validator, a liar and a stale one are no quorum; two honest ones are."""
    net = competition.net
    assignment = await competition.assignment()
    stale = replace(assignment, epoch=assignment.epoch.previous())
    add_validator(net, "twin", coldkey_of="vali")
    add_validator(net, "impostor")
    forged = signed(net, another(assignment)) | {"nonce": "e" * 64}
    await asyncio.gather(
        relays.honest("vali"),
        relays.honest("twin"),
        relays.serving("other", signed(net, stale)),
        relays.serving("poor", forged),
        relays.serving("impostor", signed(net, another(assignment), "impostor")),
    )
    validators = relays.validators()
    survey = await validators.survey()
    assert len(survey.peers) == 5
    assert {v.peer.hotkey for v in survey.voices} == {net.hotkey("vali"), net.hotkey("twin")}
    assert "signature is not the API's" in survey.refused[net.hotkey("poor")]
    assert "this program trusts" in survey.refused[net.hotkey("impostor")]
    assert "another epoch" in survey.refused[net.hotkey("other")]
    assert survey.summary().startswith("2 of 5 validators have this epoch's (")
    assert await validators.find(None) is None

    add_validator(net, "fourth")
    await relays.honest("fourth")
    found = await validators.find(None)
    assert found is not None
    assert found.assignment == assignment
    assert await validators.find(assignment.epoch_id) is None


async def test_two_that_the_api_signed_are_told_apart(
    competition: Competition, relays: Relays
) -> None:
    """Even with the API's signature, what one validator alone holds is not taken."""
    net = competition.net
    assignment = await competition.assignment()
    await asyncio.gather(
        relays.serving("vali", signed(net, assignment)),
        relays.serving("other", signed(net, another(assignment))),
    )
    validators = relays.validators()
    assert await validators.find(None) is None
    await relays.serving("poor", signed(net, another(assignment)))
    found = await validators.find(None)
    assert found is not None
    assert found.assignment == another(assignment)


async def test_bad_answers_cost_a_limited_time_and_nothing_else(
    competition: Competition, relays: Relays
) -> None:
    net = competition.net
    assignment = await competition.assignment()
    whole = orjson.dumps(signed(net, assignment))

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while True:
            writer.write(b"{")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def huge(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(MOST_BYTES // 1024 + 1024):
            writer.write(b" " * 1024)
            await writer.drain()

    async def noise(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(range(256)) * 4)

    asked_at_the_other_end: list[str] = []

    def trap(_: object) -> Answer:
        asked_at_the_other_end.append("asked")
        return Answer(200, whole)

    add_validator(net, "trap")
    port = await relays.handling("trap", trap)
    bad = {
        "drip": drip,
        "huge": huge,
        "noise": noise,
    }
    handlers = {
        "text": lambda _: Answer(200, b"hello"),
        "list": lambda _: Answer(200, b"[1]"),
        "deep": lambda _: Answer(200, b'{"a":' * 5_000),
        "packed": lambda _: Answer(200, gzip.compress(whole), headers={"Content-Encoding": "gzip"}),
        "elsewhere": lambda _: Answer(
            302, b"", headers={"Location": f"http://127.0.0.1:{port}/relay/v1/assignment"}
        ),
        "broken": lambda _: Answer(500, b"no"),
    }
    for name in (*bad, *handlers, "gone"):
        add_validator(net, name)
    await asyncio.gather(
        relays.serving("vali", json.loads(whole)),
        relays.serving("other", json.loads(whole)),
        publish(net, "gone", 9),
        *(relays.responding(name, respond) for name, respond in bad.items()),
        *(relays.handling(name, handler) for name, handler in handlers.items()),
    )
    before = asyncio.get_running_loop().time()
    survey = await relays.validators(seconds=2).survey()
    assert asyncio.get_running_loop().time() - before < 10
    assert survey.agreed is not None
    assert survey.agreed.assignment == assignment
    voices = {net.hotkey(name) for name in ("vali", "other", "trap")}
    assert {v.peer.hotkey for v in survey.voices} == voices
    assert len(asked_at_the_other_end) == 1  # As itself, and by no redirection.
    reasons = {name: survey.refused[net.hotkey(name)] for name in (*bad, *handlers, "gone")}
    assert reasons["drip"] == "it did not answer within 2 s"
    assert "more than" in reasons["huge"]
    assert "cannot be reached" in reasons["noise"]
    assert "cannot be reached" in reasons["gone"]
    assert reasons["text"] == reasons["list"] == reasons["deep"] == "its answer is no JSON object"
    assert "packed" in reasons["packed"]
    assert (reasons["elsewhere"], reasons["broken"]) == ("it answers 302", "it answers 500")


class Counted:
    """Validators, and how often they were asked."""

    def __init__(self, validators: Validators) -> None:
        self._validators = validators
        self.asked = 0

    async def find(self, after: EpochId | None) -> ReceivedAssignment | None:
        self.asked += 1
        return await self._validators.find(after)


class DeskAtGate:
    """A miner's desk whose way to the API can be shut."""

    def __init__(self, relays: Relays, spool: Spool, name: str = "ann") -> None:
        self.net = relays.net
        self.gate = Gate(self.net.url)
        self.validators = Counted(relays.validators(name))
        self._relays = relays
        self._spool = spool
        self._name = name

    async def desk(self) -> Desk:
        api = ApiClient(
            self.gate.url,
            api_hotkey=self.net.hotkey("api"),
            signer=self.net.world.wallets[self._name].hotkey,
            clock=self.net.clock,
            retries=Retries(attempts=1),
            timeout_seconds=5,
        )
        self._relays.stack.push_async_callback(api.close)
        return Desk(
            api,
            api_hotkey=Hotkey(self.net.hotkey("api")),
            spool=self._spool,
            clock=self.net.clock,
            relay=self.validators,
        )

    async def passing(
        self, task: asyncio.Task[Any], seconds: float = 3_600, step: float = 5
    ) -> None:
        """Let time go by until a task is done, ``step`` seconds in each twentieth of one."""
        end = self.net.clock.now() + timedelta(seconds=seconds)
        while not task.done() and self.net.clock.now() < end:
            self.net.clock.advance(timedelta(seconds=step))
            await asyncio.wait({task}, timeout=0.05)


@pytest.mark.parametrize("hangs", [False, True])
async def test_an_api_that_is_away_over_an_epochs_start(
    competition: Competition, relays: Relays, tmp_path: Path, hangs: bool
) -> None:
    net = competition.net
    spool = Spool(tmp_path / "spool", Hotkey(net.hotkey("ann")))
    relays.stack.callback(spool.close)
    at = DeskAtGate(relays, spool)
    await at.gate.open()
    relays.stack.push_async_callback(at.gate.shut)
    honest = await asyncio.gather(relays.honest("vali"), relays.honest("other"))
    assert len(honest) == 2
    desk = await at.desk()
    first = await desk.next_assignment(None)
    assert at.validators.asked == 0

    await at.gate.shut()
    if hangs:
        await at.gate.open(hangs=True)
    await net.advance_to(first.epoch.end + timedelta(seconds=6))
    asking = asyncio.ensure_future(desk.next_assignment(first.epoch_id))
    # Slowly: what a busy machine does in half a second is not to count as a minute.
    await at.passing(asking, step=0.5)
    second = await asking
    assert second == await competition.assignment()
    assert second.epoch == first.epoch.next()
    assert at.validators.asked >= 1
    assert net.clock.now() < second.epoch.start + second.epoch.length / 16

    # While its epoch lasts, the one on disk is enough, for a new process too.
    asked = at.validators.asked
    assert await (await at.desk()).next_assignment(None) == second
    assert at.validators.asked == asked

    # Upload credentials come from the API alone: they are waited for.
    waiting = asyncio.ensure_future(desk.policy(second))
    await at.passing(waiting, 60)
    assert not waiting.done()
    await at.gate.shut()
    await at.gate.open()
    await at.passing(waiting)
    assert (await waiting).prefix.endswith(f"/epoch={second.epoch_id}/")


async def test_an_api_that_comes_back_at_the_very_end_is_in_time(
    competition: Competition, relays: Relays, tmp_path: Path
) -> None:
    net = competition.net
    spool = Spool(tmp_path / "spool", Hotkey(net.hotkey("ann")))
    relays.stack.callback(spool.close)
    at = DeskAtGate(relays, spool)
    await at.gate.open()
    relays.stack.push_async_callback(at.gate.shut)
    desk, assignment = await at.desk(), await competition.assignment()
    await at.gate.shut()
    waiting = asyncio.ensure_future(desk.policy(assignment))
    await net.advance_to(assignment.submission_deadline - timedelta(seconds=20))
    await asyncio.wait({waiting}, timeout=0.2)
    assert not waiting.done()
    await at.gate.open()
    assert (await waiting).expires_at == assignment.submission_deadline


async def test_an_api_that_refuses_is_not_away(
    competition: Competition, relays: Relays, tmp_path: Path
) -> None:
    net = competition.net
    spool = Spool(tmp_path / "spool", Hotkey(net.hotkey("stranger")))
    relays.stack.callback(spool.close)
    at = DeskAtGate(relays, spool, "stranger")
    await at.gate.open()
    relays.stack.push_async_callback(at.gate.shut)
    asking = asyncio.ensure_future((await at.desk()).next_assignment(None))
    await at.passing(asking, 300)
    assert not asking.done()
    assert at.validators.asked == 0
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


def short_epoch_seconds() -> int:
    """The shortest epochs of whose running one enough is left for a miner's process."""
    now = real_now()
    lengths = [seconds for seconds in range(120, 1_801, 20) if 86_400 % seconds == 0]
    left = {s: epoch_at(now, s).end - now - timedelta(seconds=s / 20) for s in lengths}
    return next(s for s in lengths if left[s] > timedelta(seconds=75))


async def test_a_miners_process_without_an_api(
    world: World, portal_url: str, tmp_path: Path
) -> None:
    """It gets the assignment from validators, scrapes, and uploads once the API is back."""
    async with (
        api_over(world, epoch_seconds=short_epoch_seconds(), **RULES) as net,
        relays_over(net, tmp_path / "relays") as relays,
    ):
        await net.ready()
        competition = Competition(net, portal_url, tmp_path)
        assignment = await competition.assignment()
        await asyncio.gather(relays.honest("vali"), relays.honest("other"))
        gate = Gate(net.url)
        await gate.open()
        await gate.shut()
        relays.stack.push_async_callback(gate.shut)
        data = tmp_path / "data"
        keep_last(net, assignment, data)
        environment = competition.environment(
            "ann",
            data,
            API_URL=gate.url,
            CHAIN_ENDPOINT=net.services.settings.chain_endpoint,
            LOG_FORMAT="json",
        )
        async with process(environment, cwd=tmp_path) as running:
            assert running.stderr is not None
            log = asyncio.ensure_future(running.stderr.read())

            async def in_phase(phase: str) -> bool:
                return read_status(data).get("phase") == phase

            await net.until(lambda: in_phase("uploading"), seconds=60)
            assert await competition.frozen(assignment) == (None, {})
            await gate.open()
            await net.until(lambda: in_phase("waiting"), seconds=60)
            status = read_status(data)
            running.terminate()
            await running.wait()
        text = plain(await log)
        assert (status["last_epoch_id"], status["last_result"]) == (
            assignment.epoch_id,
            "submitted",
        )
        assert "validators gave the assignment" in text
        assert "Traceback" not in text
        assert (await competition.judged(assignment)).participant


def keep_last(net: Net, assignment: Assignment, data: Path) -> None:
    """What a miner has of the epoch before: it says how long epochs are."""
    spool = Spool(data, Hotkey(net.hotkey("ann")))
    spool.save_assignment(signed(net, replace(assignment, epoch=assignment.epoch.previous())))
    spool.close()


def neuron(uid: int, name: str, stake: int, permit: bool = True) -> Neuron:
    return Neuron(Uid(uid), Hotkey(name), Coldkey(f"{name}-cold"), stake, permit)


VIEW = ChainView(
    netuid=46,
    owner_hotkey=Hotkey("owner"),
    block=Block(1, "0x1", real_now()),
    neurons=(
        neuron(0, "own", 9),
        neuron(1, "small", 1),
        neuron(2, "large", 5),
        neuron(3, "miner", 7, permit=False),
        neuron(4, "odd", 8),
    ),
)


@pytest.mark.parametrize(
    ("host", "port", "public", "private"),
    [
        ("8.8.8.8", 8091, True, True),
        ("2001:4860:4860::8888", 8091, True, True),
        ("127.0.0.1", 8091, False, True),
        ("10.1.2.3", 8091, False, True),
        ("100.64.0.1", 8091, False, True),
        ("::ffff:127.0.0.1", 8091, False, True),
        ("169.254.169.254", 80, False, False),
        ("0.0.0.0", 8091, False, False),
        ("224.0.0.1", 8091, False, False),
        ("255.255.255.255", 8091, False, False),
        ("::", 8091, False, False),
        ("8.8.8.8", 0, False, False),
        ("not an address", 8091, False, False),
    ],
)
def test_whose_address_is_asked(host: str, port: int, public: bool, private: bool) -> None:
    endpoints = {Hotkey("odd"): (host, port)}
    for allowed, expected in ((False, public), (True, private)):
        found = peers_of(VIEW, endpoints, own=Hotkey("own"), private=allowed)
        assert bool(found) is expected


def test_who_is_asked_and_in_which_order() -> None:
    names = ("own", "small", "large", "miner", "gone")
    endpoints = {Hotkey(name): ("8.8.8.8", 80) for name in names}
    found = peers_of(VIEW, endpoints, own=Hotkey("own"), private=False)
    assert [peer.hotkey for peer in found] == ["large", "small"]


@pytest.mark.parametrize(
    ("endpoint", "private"),
    [
        ("finney", False),
        ("test", False),
        ("wss://entrypoint-finney.opentensor.ai:443", False),
        ("ws://8.8.8.8:9944", False),
        ("local", True),
        ("local:/tmp/chain.sqlite", True),
        ("ws://127.0.0.1:9944", True),
        ("ws://localhost:9944", True),
        ("ws://10.0.0.4:9944", True),
    ],
)
def test_where_private_addresses_count(endpoint: str, private: bool) -> None:
    assert allows_private(endpoint) is private
