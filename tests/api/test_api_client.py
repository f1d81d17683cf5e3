"""The signed client against the real server, and against servers that misbehave."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from apinet import Net, World, api_over, free_port

from sn46.client.api import ApiClient, ApiError, ApiUnavailable, Retries
from sn46.mechanism.errors import AssignmentError


class SleepLog:
    """A real clock whose sleepers return at once; ``slept`` has what they asked for."""

    def __init__(self, shift: timedelta = timedelta(0)) -> None:
        self.shift = shift
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime.now(UTC) + self.shift

    async def sleep(self, duration: timedelta) -> None:
        self.slept.append(duration.total_seconds())
        await asyncio.sleep(0)


@asynccontextmanager
async def raw_server(answers: list[bytes]) -> AsyncGenerator[tuple[str, list[str]]]:
    """A server that gives these answers in turn, the last one for ever; empty hangs up."""
    heads: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        answer = answers[min(len(heads), len(answers) - 1)]
        heads.append(head)
        if answer:
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


def answer(status: int, body: object, **headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def client_of(world: World, url: str, clock: SleepLog, retries: Retries | None = None) -> ApiClient:
    return ApiClient(
        url,
        api_hotkey=world.hotkey("api"),
        signer=world.wallets["ann"].hotkey,
        clock=clock,
        retries=retries,
    )


@asynccontextmanager
async def talking(
    world: World, answers: list[bytes], clock: SleepLog, retries: Retries | None = None
) -> AsyncGenerator[tuple[ApiClient, list[str]]]:
    """A client that talks to a server with these answers, and what it sent."""
    async with raw_server(answers) as (url, heads), client_of(world, url, clock, retries) as client:
        yield client, heads


async def test_an_assignment_of_another_server_is_not_believed(net: Net) -> None:
    async with ApiClient(
        net.url, api_hotkey=net.hotkey("bob"), signer=net.world.wallets["ann"].hotkey,
        clock=net.clock, retries=Retries(attempts=1),
    ) as client:  # fmt: skip
        with pytest.raises(ApiError) as refused:
            await client.current()
    assert refused.value.code == "wrong_receiver"


async def test_an_altered_assignment_is_not_believed(net: Net) -> None:
    document = dict((await net.client("ann").current()).document)
    document["nonce"] = "0" * 64
    clock = SleepLog()
    async with talking(net.world, [answer(200, document)], clock) as (client, _):
        with pytest.raises(AssignmentError):
            await client.current()
    assert clock.slept == []


async def test_failures_are_retried_each_signed_anew(world: World) -> None:
    clock = SleepLog()
    bad = answer(503, {"code": "x", "detail": "not now"})
    good = answer(200, {"now": "later"})
    async with talking(world, [b"", bad, answer(502, b"<html>"), good], clock) as (client, heads):
        assert await client.stats() == {"now": "later"}
    nonces = {line for head in heads for line in head.lower().split("\r\n") if "nonce" in line}
    assert len(heads) == len(nonces) == 4
    for number, slept in enumerate(clock.slept):
        assert 0.5 * 2**number <= slept <= 2 * 0.5 * 2**number


async def test_retries_end(world: World) -> None:
    clock = SleepLog()
    async with talking(
        world, [answer(503, {"code": "x", "detail": "away"})], clock, Retries(attempts=3)
    ) as (client, heads):
        with pytest.raises(ApiUnavailable, match="away"):
            await client.current()
    assert (len(heads), len(clock.slept)) == (3, 2)
    nobody = f"http://127.0.0.1:{free_port()}"
    async with client_of(world, nobody, clock, Retries(attempts=2)) as client:
        with pytest.raises(ApiUnavailable, match="cannot be reached"):
            await client.current()


async def test_a_retry_after_is_waited_for_unless_it_is_long(world: World) -> None:
    clock = SleepLog()
    limited = answer(429, {"code": "too_many_requests", "detail": "slow"}, Retry_After="42")
    async with talking(world, [limited, answer(200, {})], clock) as (client, _):
        assert await client.stats() == {}
    assert clock.slept == [42.0]
    long = answer(429, {"code": "too_many_requests", "detail": "slow"}, Retry_After="3000")
    async with raw_server([long]) as (url, heads), client_of(world, url, clock) as client:
        with pytest.raises(ApiError) as refused:
            await client.stats()
    assert (refused.value.retry_after, len(heads)) == (3000, 1)
    endless = answer(429, {"code": "too_many_requests", "detail": "slow"}, Retry_After="9" * 5000)
    async with raw_server([endless]) as (url, _), client_of(world, url, clock) as client:
        with pytest.raises(ApiError) as refused:
            await client.stats()
    assert refused.value.retry_after == 999_999_999


async def test_an_answer_without_an_end_is_given_up(world: World) -> None:
    over = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\n\r\n")
        while not over.is_set() and not writer.is_closing():
            writer.write(b" ")
            await asyncio.wait([asyncio.ensure_future(over.wait())], timeout=0.01)
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    signer = world.wallets["ann"].hotkey
    once = Retries(attempts=1)
    async with server:
        client = ApiClient(
            url, api_hotkey=world.hotkey("api"), signer=signer, retries=once, timeout_seconds=0.25
        )
        async with client:
            with pytest.raises(ApiUnavailable, match="did not end its answer"):
                await client.stats()
        over.set()


async def test_an_odd_cookie_spoils_no_later_request(world: World) -> None:
    odd = answer(503, {"code": "x", "detail": "away"}, Set_Cookie="a=\u00fc; Path=/")
    async with talking(world, [odd, answer(200, {})], SleepLog()) as (client, heads):
        assert await client.stats() == {}
    assert not any("cookie" in head.lower() for head in heads)


async def test_what_a_proxy_repeated_is_signed_anew(world: World) -> None:
    replayed = answer(401, {"code": "replayed_request", "detail": "seen"})
    async with talking(world, [replayed, answer(200, {})], SleepLog()) as (client, heads):
        assert await client.stats() == {}
    nonces = {
        line for head in heads for line in head.splitlines() if "bittensor-nonce" in line.lower()
    }
    assert len(nonces) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
async def test_refusals_are_not_repeated(world: World, status: int) -> None:
    clock = SleepLog()
    async with talking(world, [answer(status, {"code": "c", "detail": "d"})], clock) as (
        client,
        heads,
    ):
        with pytest.raises(ApiError) as refused:
            await client.stats()
    assert (refused.value.status, refused.value.code, len(heads)) == (status, "c", 1)
    assert clock.slept == []


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff\xfe"])
async def test_an_answer_that_is_not_the_apis_is_unavailable(world: World, body: bytes) -> None:
    async with talking(world, [answer(200, body)], SleepLog(), Retries(attempts=1)) as (client, _):
        with pytest.raises(ApiUnavailable):
            await client.stats()


@pytest.mark.parametrize("call", ["miner_upload", "validator_read"])
async def test_an_answer_of_another_shape_is_unavailable(world: World, call: str) -> None:
    async with talking(world, [answer(200, {"other": 1})], SleepLog(), Retries(attempts=1)) as (
        client,
        _,
    ):
        method: Callable[..., Awaitable[object]] = getattr(client, call)
        with pytest.raises(ApiUnavailable, match="cannot be read"):
            await method("2024-03-15-16:00")


async def test_a_wrong_clock_is_named(world: World) -> None:
    world.clock.advance(datetime.now(UTC) - world.clock.now())
    async with api_over(world) as net:
        await net.ready()
        for shift, words in ((timedelta(minutes=-3), "behind"), (timedelta(minutes=3), "ahead of")):
            clock = SleepLog(shift)
            async with client_of(world, net.url, clock, Retries(attempts=1)) as client:
                with pytest.raises(ApiError, match=f"{words} the API's") as refused:
                    await client.current()
            assert refused.value.code == "stale_timestamp"


async def test_the_server_says_its_date(net: Net) -> None:
    assert "date" in (await net.http.get("/healthz")).headers
