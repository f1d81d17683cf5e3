"""A validator's relay: who is answered, what it holds, and how validators agree."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from apinet import free_port
from bittensor import http_auth
from minernet import Competition, process
from relaynet import (
    HERE,
    Gate,
    Relays,
    add_validator,
    another,
    held,
    publish,
    received,
    relays_over,
    signed,
)
from valinet import Trial

from sn46.chain.base import ChainError
from sn46.client.api import ApiClient, ApiUnavailable, Retries
from sn46.client.metagraph import Metagraph
from sn46.client.relay import ASSIGNMENT_PATH, Peer, RelayError, peers_of
from sn46.configuration import SettingsError, read_settings
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.names import Coldkey, EpochId, Hotkey
from sn46.validator.epoch_run import EpochRun
from sn46.validator.examiner import Examiner
from sn46.validator.relay_agreement import Comparison, Holder, tally_of
from sn46.validator.relay_assignments import Assignments
from sn46.validator.relay_desk import PER_ADDRESS, PER_HOTKEY, RelayDesk, Seen, Windows
from sn46.validator.relay_server import Address, Answer, RelayServer
from sn46.validator.settings import ValidatorSettings


@pytest.fixture
async def relays(competition: Competition, tmp_path: Path) -> AsyncIterator[Relays]:
    async with relays_over(competition.net, tmp_path / "relays") as made:
        yield made


@pytest.fixture
async def assignment(competition: Competition) -> Assignment:
    return await competition.assignment()


class Served:
    """The desk of ``vali`` behind its server, and requests to it."""

    def __init__(self, relays: Relays, assignments: Assignments, **options: Any) -> None:
        self.net = relays.net
        self.relays = relays
        own = Hotkey(self.net.hotkey("vali"))
        self.metagraph = Metagraph(
            relays.chain("vali"),
            self.net.clock,
            max_age=timedelta(minutes=20),
            refresh_every=timedelta(seconds=30),
        )
        self.desk = RelayDesk(assignments, self.metagraph, own=own, clock=self.net.clock)
        self.server = RelayServer(self.desk.answer, **options)
        self.port = 0

    async def start(self) -> "Served":
        await self.metagraph.refresh()
        self.port = await self.server.start(HERE, 0)
        self.relays.stack.push_async_callback(self.server.close)
        return self

    @property
    def url(self) -> str:
        return f"http://{HERE}:{self.port}"

    def headers(self, name: str = "ann", **options: Any) -> dict[str, str]:
        """The headers that sign a request for the assignment."""
        given = {"receiver_ss58": self.net.hotkey("vali")} | options
        return self.net.btauth(name, "GET", ASSIGNMENT_PATH, **given)

    async def get(self, headers: Mapping[str, str], path: str = ASSIGNMENT_PATH) -> httpx.Response:
        return await self.net.http.get(f"{self.url}{path}", headers=headers)

    async def raw(self, request: bytes) -> bytes:
        """What comes back for bytes, until the server closes."""
        reader, writer = await asyncio.open_connection(HERE, self.port)
        try:
            writer.write(request)
            async with asyncio.timeout(15):
                return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


@pytest.fixture
async def served(relays: Relays, assignment: Assignment) -> Served:
    """A validator that holds the running epoch's assignment and answers."""
    assignments = relays.assignments("vali")
    await assignments.current()
    return await Served(relays, assignments).start()


def code_of(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(body) == {"type", "title", "status", "code", "detail"}
    assert b"\n" not in answer.content
    return answer.status_code, body["code"]


async def test_a_registered_hotkey_is_given_what_the_api_served(
    served: Served, assignment: Assignment
) -> None:
    net = served.net
    answer = await served.get(served.headers())
    assert answer.status_code == 200
    assert received(net, answer.json()).assignment == assignment
    assert answer.headers["etag"] == f'"{assignment.hash}"'
    health = (await served.get({}, "/healthz")).json()
    assert (health["epoch_id"], health["assignment_hash"]) == (
        assignment.epoch_id,
        assignment.hash,
    )


async def test_who_is_refused(served: Served) -> None:
    get, headers = served.get, served.headers
    fresh = headers()
    assert code_of(await get({})) == (401, "not_authenticated")
    assert code_of(await get(headers("stranger"))) == (403, "hotkey_not_registered")
    assert code_of(await get(headers(receiver_ss58=served.net.hotkey("api")))) == (
        401,
        "wrong_receiver",
    )
    old = int((served.net.clock.now() - timedelta(seconds=60)).timestamp() * 10**9)
    assert code_of(await get(headers(nonce_ns=old))) == (401, "stale_timestamp")
    other = fresh | {http_auth.HEADER_HOTKEY: served.net.hotkey("bob")}
    assert code_of(await get(other)) == (401, "bad_signature")
    assert code_of(await get(fresh, f"{ASSIGNMENT_PATH}?x=1")) == (401, "bad_signature")
    assert (await get(fresh)).status_code == 200
    assert code_of(await get(fresh)) == (401, "replayed_request")
    assert code_of(await get(headers(), "/relay/v1/other")) == (404, "not_found")
    answer = await served.net.http.post(f"{served.url}{ASSIGNMENT_PATH}", headers=fresh)
    assert code_of(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"


async def test_an_allowance_is_used_up_by_its_owner_alone(served: Served) -> None:
    net, ours = served.net, served.headers()
    assert (await served.get(ours)).status_code == 200
    bad = ours | {http_auth.HEADER_SIGNATURE: "0x" + "00" * 64}
    refused = [code_of(await served.get(bad)) for _ in range(PER_ADDRESS)]
    assert set(refused) == {(401, "bad_signature")}
    # From here on this address is told to wait, and the hotkey that was named is not.
    answer = await served.get(ours)
    assert code_of(answer) == (429, "too_many_requests")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert code_of(await served.get({}, "/healthz")) == (429, "too_many_requests")
    for _ in range(PER_HOTKEY - 1):
        assert (await served.get(served.headers())).status_code == 200
    assert code_of(await served.get(served.headers())) == (429, "too_many_requests")
    assert (await served.get(served.headers("bob"))).status_code == 200
    net.clock.advance(timedelta(seconds=61))
    assert (await served.get(served.headers())).status_code == 200


async def test_an_old_view_of_the_chain_decides_nothing(served: Served) -> None:
    served.net.clock.advance(timedelta(minutes=21))
    answer = await served.get(served.headers())
    assert code_of(answer) == (503, "chain_view_too_old")
    assert "retry-after" in answer.headers
    assert (await served.get({}, "/healthz")).status_code == 200


async def test_a_validator_that_holds_nothing_young(relays: Relays, assignment: Assignment) -> None:
    net, assignments = relays.net, relays.assignments("vali")
    served = await Served(relays, assignments).start()
    assert code_of(await served.get(served.headers())) == (404, "no_assignment")
    assignments.hold(held(net, signed(net, assignment)))
    assert (await served.get(served.headers())).status_code == 200
    # For six hours after its epoch's start, which is four hours long.
    net.clock.advance_to(assignment.epoch.start + timedelta(hours=6, seconds=-5))
    await served.metagraph.refresh()
    assert (await served.get(served.headers())).status_code == 200
    net.clock.advance_to(assignment.epoch.start + timedelta(hours=6))
    assert code_of(await served.get(served.headers())) == (404, "no_assignment")
    assert (await served.get({}, "/healthz")).json()["assignment_hash"] is None


async def test_what_is_no_proper_request(served: Served) -> None:
    head = f"GET {ASSIGNMENT_PATH} HTTP/1.1\r\nHost: x\r\n".encode()
    assert b" 400 " in (await served.raw(b"\x16\x03\x01\x02\x00 what is this\r\n\r\n"))[:20]
    assert b" 431 " in (await served.raw(head + b"X: " + b"a" * 20_000))[:20]
    large = head + b"Content-Length: 5000\r\n\r\n" + b"a" * 5_000
    assert b" 413 " in (await served.raw(large))[:20]
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + b"a" * 1024 + b"\r\n"
    assert b" 413 " in (await served.raw(chunked + b"400\r\n" + b"a" * 1024 + b"\r\n"))[:20]
    answer = await served.raw(f"HEAD {ASSIGNMENT_PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.endswith(b"\r\n\r\n")
    assert (await served.get(served.headers())).status_code == 200


async def test_those_who_keep_it_waiting(relays: Relays, assignment: Assignment) -> None:
    """Connections that say nothing are closed after a while, and are no more than so many."""
    assignments = relays.assignments("vali")
    await assignments.current()
    served = await Served(relays, assignments, most_connections=3, seconds=1.0).start()
    idle = [await asyncio.open_connection(HERE, served.port) for _ in range(3)]
    await asyncio.sleep(0)
    over, writer = await asyncio.open_connection(HERE, served.port)
    with suppress(ConnectionResetError):
        assert await over.read() == b""
    writer.close()
    for reader, writer in idle:
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
    assert (await served.get(served.headers())).status_code == 200


async def test_who_never_reads_the_answer(relays: Relays) -> None:
    """Its connection ends all the same, and its place is free again."""

    def large(_: Any) -> Answer:
        return Answer(200, b" " * 30_000_000)

    server = RelayServer(large, most_connections=1, seconds=1.0)
    port = await server.start(HERE, 0)
    relays.stack.push_async_callback(server.close)
    reader, writer = await asyncio.open_connection(HERE, port, limit=1024)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

    async def has_place() -> bool:
        other, writing = await asyncio.open_connection(HERE, port)
        try:
            writing.write(b"nonsense\r\n\r\n")
            return b"400" in await other.read(20)
        except ConnectionResetError:
            return False
        finally:
            writing.close()

    await relays.net.until(has_place, seconds=5)
    assert not reader.at_eof()
    writer.close()


def test_what_is_remembered_is_bounded() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    windows = Windows(2, callers=10)
    for number in range(1_000):
        windows.count(f"10.0.0.{number}", now)
    assert len(windows._counts) == 10  # pyright: ignore[reportPrivateUsage]
    seen = Seen(timedelta(seconds=17))
    for number in range(1_000):
        assert not seen.has(str(number), now + timedelta(seconds=number))
        seen.add(str(number), now + timedelta(seconds=number))
    assert len(seen._until) < 20  # pyright: ignore[reportPrivateUsage]
    assert seen.has("999", now + timedelta(seconds=1_000))


# What it holds ------------------------------------------------------------------------------------


async def test_what_is_held_survives(relays: Relays, assignment: Assignment) -> None:
    net = relays.net
    first = relays.assignments("vali")
    assert (await first.current()).assignment == assignment
    folder = relays.folder / "assignments-vali"
    (folder / "2020-01-01-00-00.json").write_text('{"agreed": true, "document": {"nonce": 1}}')
    (folder / ".x.json.1.part").write_text("{")
    gone = ApiClient(
        "http://127.0.0.1:9",
        api_hotkey=net.hotkey("api"),
        signer=net.world.wallets["vali"].hotkey,
        clock=net.clock,
        retries=Retries(attempts=1),
    )
    relays.stack.push_async_callback(gone.close)
    again = relays.assignments("vali", gone)
    assert (await again.current()).assignment == assignment
    latest = again.latest()
    assert latest is not None
    assert latest.hash == assignment.hash

    # What is not signed by the API any more is not used.
    path = next(p for p in folder.glob("*.json") if "2020" not in p.name)
    path.write_bytes(path.read_bytes().replace(assignment.nonce.encode(), b"0" * 64))
    third = relays.assignments("vali", gone)
    assert third.latest() is None
    with pytest.raises(ApiUnavailable):
        await third.current()


async def test_each_epochs_is_fetched_soon_after_its_start(
    relays: Relays, assignment: Assignment
) -> None:
    net = relays.net
    assignments = relays.assignments("vali")
    fetching = asyncio.ensure_future(assignments.run())
    relays.stack.callback(fetching.cancel)

    async def holds(start: Any) -> bool:
        running = assignments.running()
        return running is not None and running.epoch.start == start

    await net.until(lambda: holds(assignment.epoch.start))
    for count in range(1, 6):
        start = assignment.epoch.start + count * assignment.epoch.length
        await net.advance_to(start + timedelta(seconds=6))
        await net.until(lambda start=start: holds(start))
    assert len(list((relays.folder / "assignments-vali").iterdir())) == 4


async def test_a_full_disk_stops_nothing(relays: Relays, assignment: Assignment) -> None:
    relays.folder.mkdir()
    (relays.folder / "assignments-vali").write_text("a file, where a folder should be")
    assignments = relays.assignments("vali")
    assert (await assignments.current()).assignment == assignment
    assert assignments.running() is not None


# Agreement ----------------------------------------------------------------------------------------


def holder(name: str, stake: int, named: str) -> Holder:
    return Holder(Hotkey(name), Coldkey(f"{name}-cold"), stake, named)


EPOCH = EpochId("2026-03-01-00:00")


def test_the_tally() -> None:
    assert tally_of(EPOCH, []) is None
    one = tally_of(EPOCH, [holder("a", 50, "x"), holder("b", 41, "x"), holder("c", 9, "y")])
    assert one is not None
    assert (one.hash, one.share, one.holders, one.owners) == ("x", 910_000, 2, 2)
    assert not one.alert
    two = tally_of(EPOCH, [holder("a", 89, "x"), holder("b", 1, "y"), holder("c", 10, "y")])
    assert two is not None
    assert (two.hash, two.share, two.alert) == ("x", 890_000, True)
    tied = tally_of(EPOCH, [holder("a", 5, "z"), holder("b", 5, "y")])
    assert tied is not None
    assert tied.hash == "y"
    poor = tally_of(EPOCH, [holder("a", 0, "z"), holder("b", 0, "y"), holder("c", 0, "z")])
    assert poor is not None
    assert (poor.hash, poor.share) == ("z", 666_666)


async def peers_for(relays: Relays, name: str) -> tuple[tuple[Peer, ...], Peer]:
    chain = relays.chain(name)
    view, endpoints = await chain.view(), await chain.endpoints()
    own = view.by_hotkey[Hotkey(relays.net.hotkey(name))]
    me = Peer(own.hotkey, own.coldkey, own.stake, "", 0)
    return peers_of(view, endpoints, own=own.hotkey, private=True), me


async def compared(relays: Relays, name: str, assignments: Assignments) -> Any:
    comparison = Comparison(assignments, relays.client(name), clock=relays.net.clock)
    return await comparison.compare(*await peers_for(relays, name))


async def test_each_uses_what_most_stake_holds(relays: Relays, assignment: Assignment) -> None:
    """vali and other (55,000) hold one, poor (22,000) another that the API signed as well, and a
    liar says anything."""
    net = relays.net
    common, rare = signed(net, assignment), signed(net, another(assignment))
    add_validator(net, "liar")
    claims = {"epoch_id": assignment.epoch_id, "assignment_hash": "0" * 64}

    def lie(request: Any) -> Answer:
        forged = common | {"nonce": "d" * 64}
        return Answer(200, orjson.dumps(claims if request.path == "/healthz" else forged))

    await relays.handling("liar", lie)
    holding = {name: relays.assignments(name) for name in ("vali", "other", "poor")}
    for name, document in (("vali", common), ("other", common), ("poor", rare)):
        holding[name].hold(held(net, document))
    await asyncio.gather(*(relays.honest(name, holding[name]) for name in holding))

    # Each comes to the same by itself, from its own view of the others.
    async def all_hold_the_same() -> bool:
        used = [a.running() for a in holding.values()]
        return all(u is not None and u.agreed and u.hash == assignment.hash for u in used)

    def kept(name: str) -> dict[str, Any]:
        path = relays.folder / f"status-{name}.json"
        return json.loads(path.read_text())["relay"] if path.exists() else {}

    tally = await compared(relays, "poor", holding["poor"])
    assert tally.hash == assignment.hash
    for name in holding:
        await compared(relays, name, holding[name])
    assert await all_hold_the_same()

    # The API's word at the epoch's end does not change what was agreed on.
    served = received(net, rare)
    assert holding["poor"].chosen(served).assignment.hash == assignment.hash
    assert relays.assignments("poor").chosen(served).assignment.hash == assignment.hash


async def test_an_answer_nested_deeply_is_its_senders_alone(
    relays: Relays, assignment: Assignment
) -> None:
    """Python can hold it, and not show it: to say what it was ended the asking of all others."""
    nested = b'{"api_hotkey":' + b"[" * 1_020 + b"]" * 1_020 + b"}"
    add_validator(relays.net, "liar")
    await relays.handling("liar", lambda _: Answer(200, nested))
    assignments = relays.assignments("vali")
    await assignments.current()
    await relays.honest("vali", assignments)
    peers, _ = await peers_for(relays, "poor")
    voices, refused = await relays.client("poor").assignments(peers)
    assert [v.received.assignment for v in voices] == [assignment]
    assert set(refused) == {relays.net.hotkey("liar")}


async def test_disagreement_is_an_alert_that_is_shown(
    relays: Relays, assignment: Assignment
) -> None:
    net = relays.net
    add_validator(net, "fourth")
    rare = signed(net, another(assignment))

    def differ(request: Any) -> Answer:
        named = {"epoch_id": assignment.epoch_id, "assignment_hash": another(assignment).hash}
        return Answer(200, orjson.dumps(named if request.path == "/healthz" else rare))

    await relays.handling("fourth", differ)
    assignments = relays.assignments("vali")
    assignments.hold(held(net, signed(net, assignment)))
    relay = await relays.honest("vali", assignments)
    url = f"http://{HERE}:{relay.port}/healthz"

    async def shown() -> bool:
        net.clock.advance(timedelta(seconds=30))
        health = (await net.http.get(url)).json()
        return health["agreement"] is not None

    await net.until(shown, seconds=20)
    expected = {
        "epoch_id": assignment.epoch_id,
        "assignment_hash": assignment.hash,
        "share": 30_000 * 10**6 // 51_000,
        "validators": 2,
        "holders": 1,
        "alert": True,
    }
    assert (await net.http.get(url)).json()["agreement"] == expected
    status = json.loads((relays.folder / "status-vali.json").read_text())
    assert status["relay"] == expected
    running = assignments.running()
    assert running is not None
    # Nobody else holds ours: what the API serves at the end is used.
    assert assignments.chosen(received(net, rare)).assignment == another(assignment)


async def test_one_voice_does_not_become_two(relays: Relays, assignment: Assignment) -> None:
    """A validator that has none itself passes on only what two owners hold."""
    net = relays.net
    document = signed(net, assignment)
    empty = relays.assignments("poor")
    await relays.serving("vali", document)
    await compared(relays, "poor", empty)
    assert empty.running() is None
    await relays.serving("other", document)
    await compared(relays, "poor", empty)
    running = empty.running()
    assert running is not None
    assert running.received.assignment == assignment
    assert running.agreed


async def test_what_validators_agreed_on_is_validated_and_its_weights_set(
    competition: Competition, assignment: Assignment, examiner: Examiner
) -> None:
    """The API refuses a report on another assignment than it serves; weights are set for all
    that."""
    net = competition.net
    agreed = received(net, signed(net, another(assignment)))
    trial = Trial(competition, examiner, assignment)
    await net.advance_to(assignment.epoch.end + timedelta(seconds=10))
    async with trial.parts("vali") as parts:
        await EpochRun(replace(parts, chosen=lambda _: agreed), trial.epoch).run()
    report = await trial.published("vali")
    assert report["assignment_hash"] == another(assignment).hash
    assert await trial.announced() == {}
    assert sum((await trial.chain_weights("vali")).values()) == 1_000_000


# The chain, and the process -----------------------------------------------------------------------


async def test_where_it_answers_is_published_until_it_is(
    relays: Relays, assignment: Assignment
) -> None:
    net = relays.net
    assignments = relays.assignments("vali")
    await assignments.current()
    local = net.world.chain
    local.set_reachable(False)
    making = asyncio.ensure_future(relays.honest("vali", assignments))
    await asyncio.wait({making}, timeout=0.5)
    assert not making.done()
    local.set_reachable(True)
    while not making.done():
        net.clock.advance(timedelta(seconds=10))
        await asyncio.wait({making}, timeout=0.1)
    relay = await making
    client, chain = relays.client("ann"), relays.chain("ann")

    async def found() -> Peer:
        peers = peers_of(
            await chain.view(), await chain.endpoints(), own=client.hotkey, private=True
        )
        return next(p for p in peers if p.hotkey == net.hotkey("vali"))

    peer = await found()
    assert peer.port == relay.port
    assert (await client.assignment(peer)).assignment == assignment

    # Somebody else's endpoint stands there: it is put right before long.
    await publish(net, "vali", 9)
    assert (await found()).port == 9

    async def right_again() -> bool:
        net.clock.advance(timedelta(minutes=1))
        return (await found()).port == relay.port

    await net.until(right_again, seconds=30)


async def test_a_port_that_is_taken_stops_nothing(relays: Relays, assignment: Assignment) -> None:
    taken = RelayServer(lambda _: Answer(200, b"{}"))
    port = await taken.start(HERE, 0)
    assignments = relays.assignments("vali")
    relay = relays.relay("vali", assignments, port)
    async with relay.running():

        async def fetched() -> bool:
            return assignments.running() is not None

        await relays.net.until(fetched)
        assert relay.port is None
        await taken.close()

        async def listening() -> bool:
            relays.net.clock.advance(timedelta(seconds=30))
            return relay.port == port

        await relays.net.until(listening)


@pytest.fixture
async def present_relays(present: Competition, tmp_path: Path) -> AsyncIterator[Relays]:
    async with relays_over(present.net, tmp_path / "relays") as made:
        yield made


async def test_a_process_that_was_killed_has_it_still(
    present: Competition, present_relays: Relays, tmp_path: Path
) -> None:
    """The service passes the assignment on, also after kill -9, while the API is away."""
    competition, relays = present, present_relays
    net = competition.net
    gate, data = Gate(net.url), tmp_path / "vali"
    await gate.open()
    relays.stack.push_async_callback(gate.shut)
    port = free_port()
    environment = competition.environment(
        "vali",
        data,
        API_URL=gate.url,
        CHAIN_ENDPOINT=net.services.settings.chain_endpoint,
        RELAY_PORT=str(port),
        RELAY_HOST=HERE,
        LOG_FORMAT="json",
    )
    client, chain = relays.client("ann"), relays.chain("ann")
    own = net.hotkey("vali")

    async def answer() -> Any:
        peers = peers_of(
            await chain.view(), await chain.endpoints(), own=client.hotkey, private=True
        )
        try:
            return await client.assignment(next(p for p in peers if p.hotkey == own))
        except (RelayError, StopIteration, ChainError):
            return None

    async def answers() -> bool:
        return await answer() is not None

    expected = await net.client("ann").current()
    async with process(environment, "sn46", "validator", cwd=tmp_path) as running:
        await net.until(answers, seconds=50)
        running.kill()
        _, log = await running.communicate()
    assert running.returncode == -signal.SIGKILL
    assert b"Traceback" not in log
    await gate.shut()
    async with process(environment, "sn46", "validator", cwd=tmp_path) as running:
        await net.until(answers, seconds=50)
        assert (await answer()).assignment == expected.assignment
        running.terminate()
        _, log = await running.communicate()
    assert running.returncode == 0
    assert b"Traceback" not in log


GOOD = {
    "api_url": "http://127.0.0.1:1",
    "api_hotkey": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
    "sources": "portal:http://127.0.0.1:2",
}


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ({}, None),
        ({"relay_public": "1.2.3.4"}, None),
        (
            {"relay_port": 80, "relay_public": "1.2.3.4"},
            Address("0.0.0.0", 80, "1.2.3.4", 80),
        ),
        (
            {"relay_port": 80, "relay_public": "relay.example:443"},
            Address("0.0.0.0", 80, "relay.example", 443),
        ),
        (
            {"relay_port": 80, "relay_public": "[2001:db8::1]:443"},
            Address("0.0.0.0", 80, "2001:db8::1", 443),
        ),
        (
            {"relay_port": 80, "relay_public": "2001:db8::1"},
            Address("0.0.0.0", 80, "2001:db8::1", 80),
        ),
        (
            {"relay_port": 80, "relay_host": "127.0.0.1"},
            Address("127.0.0.1", 80, "127.0.0.1", 80),
        ),
    ],
)
def test_good_settings(given: dict[str, Any], address: Address | None) -> None:
    settings = read_settings(ValidatorSettings, _env_file=None, **GOOD | given)
    assert settings.relay_address() == address


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"relay_port": 80}, "RELAY_PUBLIC is not set"),
        ({"relay_port": 80, "relay_host": "::"}, "RELAY_PUBLIC is not set"),
        ({"relay_port": 80, "relay_public": "http://x:1/"}, "RELAY_PUBLIC: write HOST or HOST"),
        ({"relay_port": 80, "relay_public": "x:99999"}, "RELAY_PUBLIC: write HOST or HOST"),
        ({"relay_port": 0, "relay_public": "x"}, "RELAY_PORT: "),
        ({"assignment_cache_hours": 0}, "ASSIGNMENT_CACHE_HOURS: "),
    ],
)
def test_bad_settings(given: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as error:
        read_settings(ValidatorSettings, _env_file=None, **GOOD | given)
    assert len(error.value.lines) == 1
    assert error.value.lines[0].startswith(says)
