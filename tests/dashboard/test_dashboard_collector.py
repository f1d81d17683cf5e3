"""The collector against the real API: what it reads, how politely, and what happens while the API
is away, refuses or lies."""

import asyncio
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import apinet
import pytest
from apinet import Net, World, api_over, free_port
from dashnet import MANY, Bodies, collecting, entry, looking, publish, rounds
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sn46.dashboard.alerts import Kind, Thresholds, alerts_of
from sn46.dashboard.asking import Asker, PaceReached
from sn46.dashboard.collector import LONGEST_PAUSE, Collector, Manners
from sn46.dashboard.snapshot import Part
from sn46.mechanism.names import Hotkey
from sn46.serving import serve_app

REFRESH = timedelta(seconds=20)


def kinds(collector: Collector, net_clock: Any) -> set[Kind]:
    return {a.kind for a in alerts_of(collector.snapshot, net_clock.now(), Thresholds())}


def three(net: Net) -> dict[str, dict[str, Any]]:
    return {
        net.hotkey("ann"): entry(),
        net.hotkey("bob"): entry(rank=2, final=800_000, weight=300_000),
        net.hotkey("cid"): entry(
            rank=None, final=0, weight=0, valid=False, participant=False, speed=None,
            reasons=[{"code": "late", "count": 1, "detail": "It came after the deadline."}],
        ),
    }  # fmt: skip


async def test_it_knows_what_the_api_says(net: Net) -> None:
    epoch = net.epoch
    await net.advance_to(epoch.end + timedelta(hours=1))
    report = await publish(net, "vali", epoch, three(net))
    await publish(net, "other", epoch, three(net))
    async with collecting(net) as collector:
        await collector.round()
        seen = collector.snapshot
        answer = (await net.http.get("/api/v1/zipcode-assignments/stats")).json()
        said = (await net.http.get("/api/v1/epochs")).json()["epochs"]
    assert seen.stats is not None
    assert seen.stats.running is not None
    assert seen.stats.epoch == net.epoch
    assert seen.stats.running.listings == answer["current_epoch"]["total_expected_listings"]
    assert seen.stats.grace_end == net.epoch.start + net.epoch.length / 2
    assert sum(tier.zipcodes for tier in seen.stats.tiers) == said[0]["zipcodes"]
    assert [row.id for row in seen.epochs] == [row["epoch_id"] for row in said]
    assert seen.epochs[1].agreed.validators == 2
    assert seen.epochs[1].agreed.hash_share == 1_000_000
    assert {part.name for part in seen.ready} >= {"database", "store", "chain", "epoch"}
    assert [leader.hotkey for leader in seen.leaders] == [net.hotkey("ann"), net.hotkey("bob")]
    assert abs(seen.clock_ahead) < timedelta(seconds=5)
    # Past draws are read from end to end.
    record = seen.draws[epoch.id]
    assert record.fault is None
    assert record.assignment is not None
    assert record.assignment.epoch == epoch
    assert seen.table is not None
    assert seen.table.version == record.assignment.selection.table_version
    assert seen.table.newest == seen.table.oldest
    # And the report that was announced.
    published = seen.published[epoch.id]
    assert published.consensus_hash == report["consensus_hash"]
    cid = published.miners[Hotkey(net.hotkey("cid"))]
    assert [reason.code for reason in cid.reasons] == ["late"]
    assert published.weights == {net.hotkey("ann"): 500_000, net.hotkey("bob"): 300_000}
    assert kinds(collector, net.clock) == set()


async def test_who_looks_costs_the_api_nothing(net: Net) -> None:
    async with collecting(net) as collector:
        await collector.round()
        asker: Asker = collector._asker
        asked = asker.requests
        pages, viewer = looking(collector, net.clock)
        async with viewer:
            for _ in range(200):
                for path in ("/", "/draws", "/miners", "/agreement", "/alerts", "/healthz"):
                    assert (await viewer.get(path)).status_code == 200
        assert asker.requests == asked
        assert pages.rendered <= 5 * 2  # a page is rendered anew after some seconds


async def test_it_asks_a_few_times_a_minute_and_nothing_twice(net: Net) -> None:
    await net.advance_to(net.epoch.end + timedelta(minutes=1))
    async with collecting(net) as collector:
        await rounds(collector, net.clock, 6)
        asker: Asker = collector._asker
        before, start = asker.requests, net.clock.now()
        while net.clock.now() < start + timedelta(minutes=10):
            await rounds(collector, net.clock, 1)
        a_minute = (asker.requests - before) / 10
        assert 9 <= a_minute <= 11.5
        # What has a tag is not sent again: the newest draw was asked for each minute.
        metrics = (await net.http.get("/metrics")).text
        of_draws = [line for line in metrics.splitlines() if "/epochs/{epoch_id}/draw" in line]
        sent = re.findall(r'_requests_total\{.*status="(\d+)"\} (\S+)', "\n".join(of_draws))
        counts = {status: float(count) for status, count in sent}
        assert counts.get("200", 0) <= 1
        assert counts["304"] >= 8


async def test_never_more_than_was_agreed(net: Net) -> None:
    async with collecting(net, most=3) as collector:
        assert (await collector.round()) > timedelta(seconds=20)
        asker: Asker = collector._asker
        assert asker.requests == 3
        with pytest.raises(PaceReached):
            await asker.get("/healthz")
        assert asker.requests == 3
        net.clock.advance(timedelta(seconds=61))
        await collector.round()
        assert asker.requests == 6


async def test_an_api_that_goes_away_and_comes_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setattr(apinet, "free_port", lambda: port)
    async with api_over(world) as net:
        await net.ready()
    async with collecting(net) as collector:
        # One that starts while there is no API says so, and waits longer each time.
        pauses = [await collector.round()]
        assert collector.snapshot.stats is None
        assert kinds(collector, world.clock) == {Kind.API_UNREACHABLE}
        for _ in range(8):
            world.clock.advance(pauses[-1])
            pauses.append(await collector.round())
        rounded = [round(pause.total_seconds()) for pause in pauses]
        assert rounded[:4] == [20, 40, 80, 120]
        assert set(rounded[4:]) == {LONGEST_PAUSE.total_seconds()}
        asker: Asker = collector._asker
        assert asker.requests == 2 * len(pauses)  # the running epoch and readiness, nothing else
        async with api_over(world) as back:
            await back.ready()
            world.clock.advance(pauses[-1])
            await collector.round()
            assert collector.snapshot.stats is not None
            assert collector.snapshot.epochs
            assert Kind.API_UNREACHABLE not in kinds(collector, world.clock)
        since = collector.snapshot.look(Part.STATS).fetched_at
        world.clock.advance(timedelta(minutes=10))
        await collector.round()
        assert kinds(collector, world.clock) >= {Kind.STALE}
        assert collector.snapshot.look(Part.STATS).fetched_at == since
        world.clock.advance(timedelta(minutes=10))
        await collector.round()
        assert kinds(collector, world.clock) == {Kind.STALE, Kind.API_UNREACHABLE}


async def test_the_apis_own_limit_is_waited_for(world: World) -> None:
    async with api_over(world, limit_address="2/minute") as net:
        await net.ready()
        async with collecting(net) as collector:
            pause = await collector.round()
            asker: Asker = collector._asker
            asked = asker.requests
            assert asked <= 5  # nothing more once it was refused
            assert pause > timedelta(seconds=1)
            refused = [look.error for look in collector.snapshot.looks.values() if look.error]
            assert len(refused) == 1
            assert "it answers 429" in refused[0]
            net.clock.advance(pause / 2)
            await collector.round()
            assert asker.requests == asked


class Liar:
    """A server that answers with what a test says, or as the real API does."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self.answers: dict[str, Response] = {}

    async def answer(self, request: Request) -> Response:
        found = self.answers.get(request.url.path)
        if found is not None:
            return found
        real = await self._net.http.get(str(request.url).removeprefix(str(request.base_url)))
        return Response(real.content, real.status_code, media_type="application/json")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Response("<html>", 200), "cannot be read"),
        (Response("[]", 200), "cannot be read"),
        (Response("{}", 200), "KeyError"),
        (Response('{"detail": "The database is away."}', 503), "503 (The database is away)"),
        (Response("no JSON", 500), "it answers 500"),
        (Response('{"detail": ["<script>"]}', 500), "it answers 500"),
        (RedirectResponse("http://elsewhere.example/"), "it answers 307"),
    ],
)
async def test_answers_that_are_none(net: Net, answer: Response, said: str) -> None:
    """Each is told, the figures read before stay, and the others are read on."""
    liar = Liar(net)
    app = Starlette(routes=[Route("/{path:path}", liar.answer)])
    port, stop = free_port(), asyncio.Event()
    serving = asyncio.create_task(serve_app(app, "127.0.0.1", port, stop))
    try:
        async with collecting(net, url=f"http://127.0.0.1:{port}") as collector:

            async def read() -> bool:
                net.clock.advance(await collector.round())
                return collector.snapshot.stats is not None and bool(collector.snapshot.epochs)

            await net.until(read)
            kept = collector.snapshot.epochs
            liar.answers["/api/v1/epochs"] = answer
            net.clock.advance(4 * REFRESH)
            await collector.round()
            look = collector.snapshot.look(Part.EPOCHS)
            assert look.error is not None
            assert said in look.error
            assert collector.snapshot.epochs == kept
            assert collector.snapshot.look(Part.RESULTS).error is None
            # Where the running epoch itself cannot be read, readiness still is.
            liar.answers["/api/v1/zipcode-assignments/stats"] = answer
            net.clock.advance(4 * REFRESH)
            await collector.round()
            assert collector.snapshot.look(Part.STATS).error is not None
            assert collector.snapshot.look(Part.READY).error is None
    finally:
        stop.set()
        await serving


async def test_a_part_that_is_not_ready_is_read_from_a_503(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> bool:
        return False

    async with api_over(world) as net, collecting(net) as collector:
        await net.ready()
        monkeypatch.setattr(net.services.limiter, "check", away)
        await collector.round()
        parts = {part.name: part for part in collector.snapshot.ready}
        assert parts["database"].ok
        assert not parts["limits"].ok
        since = parts["limits"].since
        net.clock.advance(REFRESH)
        await collector.round()
        again = {part.name: part for part in collector.snapshot.ready}
        assert again["limits"].since == since


# Reports -----------------------------------------------------------------------------------------


async def reported(net: Net, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An ended epoch on which two validators agree."""
    epoch = net.epoch
    await net.advance_to(epoch.end + timedelta(hours=1))
    await publish(net, "other", epoch, three(net))
    return await publish(net, "vali", epoch, three(net), **(changes or {}))


async def test_a_report_that_is_not_the_announced_one_is_not_shown(net: Net) -> None:
    report = await reported(net)
    forged = {**report, "weights": {net.hotkey("cid"): 1_000_000}}
    bodies = Bodies(
        {net.hotkey(n): json.dumps({**forged, "validator_hotkey": net.hotkey(n)}).encode()
         for n in ("vali", "other")}
    )  # fmt: skip
    async with Asker(net.url, clock=net.clock, most_a_minute=MANY) as asker:
        collector = Collector(asker, api_url=net.url, clock=net.clock, reports=bodies)
        await rounds(collector, net.clock, 4)
        assert collector.snapshot.published == {}
        (why,) = collector.snapshot.unreadable.values()
        assert "do not give the announced consensus_hash" in why
        assert len(bodies.asked) == 2  # each of those who agree once, and not again


async def test_another_validator_is_asked_where_one_report_is_broken(net: Net) -> None:
    report = await reported(net)
    first, second = sorted((net.hotkey("vali"), net.hotkey("other")))
    good = {**report, "validator_hotkey": second}
    bodies = Bodies({first: b"{", second: json.dumps(good).encode()})
    async with Asker(net.url, clock=net.clock, most_a_minute=MANY) as asker:
        collector = Collector(asker, api_url=net.url, clock=net.clock, reports=bodies)
        await collector.round()
        (published,) = collector.snapshot.published.values()
        assert published.validator == second
        assert collector.snapshot.unreadable == {}


async def test_a_bucket_that_is_away_is_asked_again(net: Net) -> None:
    report = await reported(net)
    bodies = Bodies()
    async with Asker(net.url, clock=net.clock, most_a_minute=MANY) as asker:
        collector = Collector(asker, api_url=net.url, clock=net.clock, reports=bodies)
        await collector.round()
        assert "cannot be reached" in (collector.snapshot.look(Part.REPORTS).error or "")
        body = json.dumps(report).encode()
        bodies.bodies = {net.hotkey("vali"): body, net.hotkey("other"): b"{"}
        await rounds(collector, net.clock, 5)
        assert len(collector.snapshot.published) == 1
        assert collector.snapshot.look(Part.REPORTS).error is None


async def test_what_is_kept_is_bounded(net: Net) -> None:
    """Epochs that left the history take their draws and reports with them."""
    await reported(net)
    async with collecting(net, manners=Manners(epochs=20)) as collector:
        await collector.round()
        seen = collector.snapshot
        assert seen.published
        assert seen.draws
        collector.snapshot = seen.__class__(**{**seen.__dict__, "epochs": seen.epochs[:1]})
        collector._manners = Manners(epochs=1)
        net.clock.advance(4 * REFRESH)
        await collector.round()
        assert len(collector.snapshot.epochs) == 1
        assert not collector.snapshot.published
        assert not collector.snapshot.results
